"""Task minent in the runner: corpus, method, one pass of segmentation, files, pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig

from kexue_cli.config import Mode, build
from kexue_cli.errors import UserError
from kexue_cli.run.context import Context
from kexue_cli.submission import Submission
from kexue_cli.tasks.base import Metric, Predictions, Task
from kexue_cli.tasks.minent import outputs
from kexue_cli.tasks.minent.data import Corpus, gold_files, open_corpus, read_gold
from kexue_cli.tasks.minent.lexicon import known_words
from kexue_cli.tasks.minent.method import Method
from kexue_cli.tasks.minent.reading import stored_blocks
from kexue_cli.tasks.minent.segment import cut_corpus, spread_ends
from kexue_cli.tasks.minent.segmentation import Segmented, Tally, tally_and_write
from kexue_cli.tasks.minent.splitting import Chunk

SEGMENTED = "segmented.txt"


class MinentTask(Task):
    """Words from text without spaces: `model` learns and cuts, the task counts and writes."""

    modes = ("train", "evaluate", "predict")

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__(cfg)
        self.method: Method = build(cfg.model, "model")
        with_gold = cfg.data.spaces == "gold" or cfg.data.gold is not None
        self.primary = (
            Metric("token_f1", "max", "test")
            if with_gold
            else Metric("two_part_bits_per_character", "min", "test")
        )
        self.corpus: Corpus
        self.gold: NDArray[np.bool_] | None = None
        self.ends: NDArray[np.bool_] | None = None  # of the text learned from, by the method itself
        self.learned_letters: str | None = None  # of a loaded run: how its text was split
        self.first: Chunk  # the beginning of the text
        self.sample: tuple[Chunk, NDArray[np.bool_]]  # and of what is written, with its word ends
        self.tally: Tally | None = None
        self.known: set[str] | None = None  # words that are not new

    def prepare(self, ctx: Context) -> None:
        """Open the corpus, read its beginning, check the gold."""
        if ctx.cfg.mode is Mode.train and self.cfg.task.exclude is not None:
            self.known = known_words(self.cfg.task.exclude)
        elif self.cfg.task.exclude is not None:
            ctx.console.warn("task.exclude has no effect: new words are listed by mode=train")
        numbers = "whole" if self.cfg.model.name == "best" else "digits"
        self.corpus = open_corpus(self.cfg.data, self.cfg.limit.rows, numbers)
        self.first = next(self.corpus.chunks(), None) or self.corpus.read()
        if not len(self.first.code_points):
            self.corpus.read()  # raises: nothing to segment
        ctx.fingerprint(self.first.code_points, self.first.starts)
        self._fingerprint(ctx, self.corpus.source.files)
        if self.cfg.data.gold is not None:
            self.gold = read_gold(self.cfg.data, self.corpus)
            ctx.fingerprint("gold")  # so that a gold is not taken for more text
            self._fingerprint(ctx, gold_files(self.cfg.data))
        ctx.console.say(self.corpus.splitting.describe())
        self._check_gold(ctx)
        if ctx.cfg.mode is not Mode.train and ctx.cfg.checkpoint is None:
            self.method.fit(ctx, self.corpus)  # a given lexicon

    @staticmethod
    def _fingerprint(ctx: Context, files: Iterable[Path]) -> None:
        for file in files:
            for block in stored_blocks(file):
                ctx.stop.raise_if_requested()
                ctx.fingerprint(block)

    def _check_gold(self, ctx: Context) -> None:
        """Warn where the spaces that are to be the gold are none."""
        gold = self.gold if self.gold is not None else self.first.gold
        if gold is None:
            return
        gold = gold[: len(self.first.code_points)]
        if np.count_nonzero(gold) <= len(np.unique(self.first.line_ends)):
            ctx.console.warn(
                f"the gold has no space in its first {len(gold):,} characters: every line counts "
                "as one word; see data.separators"
            )

    def fit(self, ctx: Context) -> None:
        """Learn, unless the run that goes on had learned already."""
        saved = ctx.resume or {}
        if saved.get("task"):
            self.method.load_state_dict(saved["task"])
            self._take_ends(ctx, saved)
            return
        self.method.fit(ctx, self.corpus)
        self.ends = self.method.training_ends()
        # Beside the task's state: who predicts other text does not load them.
        ctx.save_checkpoint({"task": self.state_dict(), "ends": packed(self.ends)})

    def _take_ends(self, ctx: Context, saved: dict[str, Any]) -> None:
        """Go on with the method's own segmentation of what it learned from, if it made one."""
        if "ends" in saved:
            self.ends = unpacked(saved["ends"])
        elif "max_characters" in self.cfg.model:
            ctx.console.warn(
                "this run learned under an earlier version, which did not keep how learning had "
                "cut the text: it is cut by the lexicon now, perhaps otherwise; to have the "
                "former, start the run anew, without resume"
            )

    def load(self, ctx: Context, place: str) -> None:
        """Take a run's method; warns where that run split its text in another way."""
        super().load(ctx, place)
        letters = self.corpus.splitting.letters()
        if self.learned_letters not in (None, letters):
            ctx.console.warn(
                f"{place} learned from text split as: {self.learned_letters}; this one is: "
                f"{letters}. Words may be missed so: give it the data.alphabet, data.keep_latin, "
                "data.keep_digits and data.numbers of that run"
            )

    def splits(self) -> tuple[str, ...]:
        """The text itself: learning sees no gold, so it is its own test set."""
        return ("test",)

    def evaluate(self, ctx: Context, split: str) -> dict[str, float]:
        """Entropies, description length, coverage; with gold, word, boundary and lexicon scores."""
        return self._segmented(ctx).metrics()

    def predict(self, ctx: Context) -> Predictions | None:
        """One row a line of text; the files of the run."""
        tally = self._segmented(ctx)
        if ctx.cfg.mode is Mode.train:
            self._write_lexicon(ctx, tally)
        characters = int(tally.characters.sum())
        if characters > self.cfg.task.max_table_characters:
            ctx.console.say(
                f"{characters:,} characters: no predictions.csv and submission.csv above "
                f"task.max_table_characters; the segmented text is {SEGMENTED}"
            )
            return None
        text = (ctx.directory.path / SEGMENTED).read_text(encoding="utf-8")
        lines = text.split("\n")
        lines = [line.rstrip(" ") for line in (lines[:-1] if text.endswith("\n") else lines)]
        return Predictions(np.arange(len(lines)), lines)

    def submission(self, predictions: Predictions) -> Submission:
        """`id,text`: the line number from 0 and the segmented line."""
        return Submission({"id": list(predictions.ids), "text": list(predictions.prediction)})

    def _segmented(self, ctx: Context) -> Tally:
        """Cut the whole corpus once; the result is kept."""
        if self.tally is None:
            self.tally = tally_and_write(
                self._watched(ctx, self._cut(ctx)), self.gold, ctx.directory.path / SEGMENTED
            )
        return self.tally

    def _cut(self, ctx: Context) -> Segmented:
        """The method's own segmentation of what it learned from, else its cut of the stream."""
        if self.ends is None:
            return cut_corpus(self.corpus, self.method.cut)
        whole = self.corpus.read_all(self.cfg.model.get("max_characters"))
        if whole is None or len(self.ends) != np.count_nonzero(whole.inside()):
            return cut_corpus(self.corpus, self.method.cut)
        return iter([(whole, spread_ends(whole, self.ends))])

    def _watched(self, ctx: Context, stream: Segmented) -> Segmented:
        with ctx.console.progress(None, "segmenting", "characters") as bar:
            for number, (chunk, ends) in enumerate(stream):
                ctx.stop.raise_if_requested()
                if not number:
                    self.sample = chunk, ends
                yield chunk, ends
                bar.advance(len(ends))

    def _write_lexicon(self, ctx: Context, tally: Tally) -> None:
        table = outputs.lexicon_table(tally, *self.sample)
        outputs.write_lexicon(ctx, table)
        if self.known is not None:
            outputs.write_new_words(ctx, table, self.known, self.cfg.task.exclude)
        outputs.explain_nothing(ctx, tally, self.cfg.model)
        page = outputs.page(*self.sample, self.corpus.splitting.describe())
        ctx.directory.write_text("before_after.txt", page)

    def plots(self, ctx: Context) -> None:
        """Curve of description length, lengths and frequencies of words, the best words."""
        from kexue_cli.tasks.minent import plots

        plots.draw(ctx, self._segmented(ctx))

    def state_dict(self) -> dict[str, Any]:
        """The method's state, and how the text it learned from was split."""
        return self.method.state_dict() | {"letters": self.corpus.splitting.letters()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a method's state; raises UserError for a run that has not finished."""
        if not state:
            raise UserError("that run has not finished learning: go on with resume=<its folder>")
        self.learned_letters = state.get("letters")
        self.method.load_state_dict(state)


def packed(ends: NDArray[np.bool_] | None) -> dict[str, Any] | None:
    """Word ends (letters,) as what a checkpoint holds, eight to a byte."""
    if ends is None:
        return None
    return {"letters": len(ends), "bits": torch.from_numpy(np.packbits(ends))}


def unpacked(state: dict[str, Any] | None) -> NDArray[np.bool_] | None:
    """Word ends (letters,) from `packed`."""
    if state is None:
        return None
    return np.unpackbits(state["bits"].numpy(), count=int(state["letters"])).view(np.bool_)

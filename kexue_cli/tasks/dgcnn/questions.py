"""From `cfg.data` to the questions of a run: sources, splits, vocabulary, words and vectors."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import ConfigError, UserError
from kexue_cli.tasks.dgcnn import elements, word_vectors
from kexue_cli.tasks.dgcnn.encoded_set import EncodedSet
from kexue_cli.tasks.dgcnn.encoding import TextSettings
from kexue_cli.tasks.dgcnn.leaks import asked_in, not_asked
from kexue_cli.tasks.dgcnn.normalise import Normaliser
from kexue_cli.tasks.dgcnn.problems import Problems, Rules
from kexue_cli.tasks.dgcnn.sources import SourceOpener
from kexue_cli.tasks.dgcnn.store import Store
from kexue_cli.tasks.dgcnn.tags import Tagger
from kexue_cli.tasks.dgcnn.vocabulary import Vocabulary
from kexue_cli.tasks.dgcnn.words import WordCutter

if TYPE_CHECKING:
    from kexue_cli.run.console import Console

TEXT_OPTIONS = ("unicode", "lower", "simplified", "segmenter", "split_latin")
Rows = NDArray[np.int64]
Part = tuple[Store, Rows, float]  # rows of a store, and the weight of its questions


@dataclass(frozen=True)
class QuestionSets:
    """What a run learns from, chooses by, and is tested on.

    Attributes:
        train: questions with passages; None where only the test set was asked for.
        valid: all questions of the validation split.
        test: all questions of the test set, with or without answers.
        words: word i has the id i + 1.
        vectors: (words, dimension) float32, None without word vectors and from a checkpoint.
        checksum: names the content of all of it.
    """

    train: EncodedSet | None
    valid: EncodedSet | None
    test: EncodedSet | None
    vocabulary: Vocabulary
    words: list[str]
    vectors: NDArray[np.float32] | None
    text: TextSettings
    problems: Problems
    checksum: str

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it, for `saved` of `load`: texts and lists of texts."""
        return {
            "characters": self.vocabulary.characters,
            "words": self.words,
            "added": self.text.cutter.added,
            "text": self.text.as_dict(),
        }


def load(
    cfg: Any,
    *,
    cache_dir: Path,
    console: Console,
    limit_rows: int | None = None,
    vectors: word_vectors.Wanted | None = None,
    saved: dict[str, Any] | None = None,
    predict_only: bool = False,
    learns: bool = True,
) -> QuestionSets:
    """Read what `cfg` (the run's `cfg.data`) names and split it.

    Args:
        cfg: `cfg.data`.
        cache_dir: where encoded questions are kept.
        console: shows progress and warnings.
        limit_rows: most questions of every split.
        vectors: word vectors, of a file or trained on these questions; None for none.
        saved: `{"characters", "words", "added"}` of a checkpoint, instead of making them.
        predict_only: with a test set, read nothing else.
        learns: there must be questions to learn from, none of them asked in another split.

    Raises:
        UserError: files that are missing or malformed.
        ConfigError: there is nothing to learn from, or nothing left of it.
    """
    given = word_vectors.load(vectors, console) if vectors and not saved else None
    added = saved["added"] if saved else (given.words if given else [])
    used = saved.get("text") if saved else None
    text = text_settings(cfg, added, used)
    if others := other_text_options(cfg, used or {}):
        console.say(f"text is prepared as for the checkpoint: {'; '.join(others)}")
    opener = make_opener(cfg, text, cache_dir, console)
    limit = None if limit_rows is None else 4 * limit_rows
    parts = Splits(cfg, opener, limit, learns).parts(predict_only)
    if limit_rows is not None:
        parts = {name: [(s, r[:limit_rows], w) for s, r, w in p] for name, p in parts.items()}
    learned = [store for store, _, _ in parts.get("train", [])]
    if saved:
        vocabulary, words = Vocabulary(saved["characters"]), list(saved["words"])
    else:
        vocabulary = Vocabulary.of_counts(character_counts(learned, text.normalise), cfg.min_count)
        if vectors and given is None:
            given = word_vectors.train(vectors, learned, cache_dir, console)
        words = given.words if given else frequent_words(learned, cfg.min_word_count)
    sets = {
        name: EncodedSet(part, text.normalise, vocabulary, words) for name, part in parts.items()
    }
    return QuestionSets(
        train=sets.get("train"),
        valid=sets.get("valid"),
        test=sets.get("test"),
        vocabulary=vocabulary,
        words=words,
        vectors=given.vectors if given else None,
        text=text,
        problems=opener.problems,
        checksum=checksum_of(parts),
    )


def text_settings(
    cfg: Any, added: Sequence[str], saved: dict[str, Any] | None = None
) -> TextSettings:
    """Normalisation, word cutter and tagger, as a checkpoint has them, else of `cfg.data`."""
    use = {key: getattr(cfg[key], "name", cfg[key]) for key in TEXT_OPTIONS} | (saved or {})
    normalise = Normaliser(use["unicode"], use["lower"], use["simplified"])
    cutter = WordCutter(use["segmenter"], added, use["split_latin"])
    return TextSettings(normalise, cutter, Tagger(use["segmenter"]))


def other_text_options(cfg: Any, saved: dict[str, Any]) -> list[str]:
    """Those of `cfg.data` that a checkpoint has otherwise, in words."""
    asked = {key: getattr(cfg[key], "name", cfg[key]) for key in TEXT_OPTIONS}
    return [
        f"data.{key}={value}, not {asked[key]}"
        for key, value in saved.items()
        if asked[key] not in (value, "auto")
    ]


def make_opener(cfg: Any, text: TextSettings, cache_dir: Path, console: Any) -> SourceOpener:
    """The opener of the files that `cfg.data` names."""
    rules = [getattr(rule, "name", rule) for rule in (cfg.missing_answer, cfg.empty)]
    return SourceOpener(
        text,
        Rules(rules[0], rules[1], text.normalise),
        cache_dir,
        console,
        accepted=Path(cfg.accepted) if cfg.accepted else None,
        fill_to=cfg.fill_to,
        pool=tuple(Path(path) for path in cfg.pool),
        pool_length=cfg.pool_length,
    )


@dataclass(frozen=True)
class Splits:
    """Which questions are learned from, chosen by and tested on."""

    cfg: Any
    opener: SourceOpener
    limit: int | None  # questions read of each file
    learns: bool  # the run does

    @property
    def tests_alone(self) -> bool:
        """Whether no questions but those of `test_path` are named."""
        return not self.cfg.path and self.cfg.name != "elements"

    def parts(self, predict_only: bool) -> dict[str, list[Part]]:
        """Rows of stores for each split that there is."""
        cfg, open_file = self.cfg, self.opener.open_file
        parts: dict[str, list[Part]] = {}
        if cfg.test_path:
            parts["test"] = [whole(open_file(Path(cfg.test_path), self.limit, fill_to=0))]
            if predict_only or (self.tests_alone and not self.learns):
                return parts
        if cfg.name == "elements" and not cfg.path:
            return parts | self._elements()
        if not cfg.path:
            raise ConfigError("data.path", "name a file of questions with passages")
        store = open_file(Path(cfg.path), self.limit)
        held_out, valid, train = split_rows(len(store), cfg, split_off=not cfg.valid_path)
        if len(held_out) and not cfg.test_path:
            parts["test"] = [(store, held_out, 1.0)]
        if cfg.valid_path:
            parts["valid"] = [whole(open_file(Path(cfg.valid_path), self.limit, fill_to=0))]
        else:
            parts["valid"] = [(store, valid, 1.0)]
        learned = [(store, train, float(cfg.weight))]
        for source in cfg.more:
            further = open_file(Path(source.path), self.limit, source.get("fill_to"))
            learned.append(whole(further, float(source.weight)))
        learned = [(s, with_passages(s, rows), weight) for s, rows, weight in learned]
        parts["train"] = self._without_repeated(learned, [*parts["valid"], *parts.get("test", [])])
        for name in ("train", "valid") if self.learns else ("valid",):
            if not sum(len(rows) for _, rows, _ in parts[name]):
                advice = ", leave fewer out with data.exclude"
                if not cfg.exclude:
                    advice = ", or allow those asked in validation: data.repeated=keep"
                raise UserError(
                    f"data={cfg.name}: no questions for {name} among {len(store)} of "
                    f"{cfg.path or cfg.name}; read more, change the split"
                    + (advice if name == "train" else "")
                )
        return parts

    def _without_repeated(self, learned: list[Part], held_back: list[Part]) -> list[Part]:
        """The parts to learn from without questions that are asked where nothing is learned."""
        if not self.learns or getattr(self.cfg.repeated, "name", self.cfg.repeated) == "keep":
            return learned
        rules, problems = self.opener.rules, Problems()
        files = [Path(path) for path in self.cfg.exclude]
        held = [(store, rows) for store, rows, _ in held_back]
        asked = asked_in(held, files, rules, self.cfg.repeated_overlap)
        kept = [
            (store, not_asked(store, rows, asked, problems), weight)
            for store, rows, weight in learned
        ]
        for sentence in problems.sentences():
            self.opener.console.warn(sentence)
        self.opener.problems.merge(problems)
        return kept

    def _elements(self) -> dict[str, list[Part]]:
        """The built-in questions: validation asks about every `n_folds`-th element."""
        cfg, parts = self.cfg, {}
        chosen = tuple(i == cfg.fold for i in range(cfg.n_folds))
        for name, n, asked in (
            ("train", cfg.n_questions, tuple(not c for c in chosen)),
            ("valid", cfg.n_valid, chosen),
        ):
            form = (min(n, self.limit or n), cfg.n_passages, cfg.answered, cfg.data_seed, asked)
            stream = partial(elements.questions, *form)
            store = self.opener.open_stream(stream, (elements.VERSION, *form), "elements", Problems)
            parts[name] = [whole(store)]
        return parts


def whole(store: Store, weight: float = 1.0) -> Part:
    """All questions of a store."""
    return store, np.arange(len(store)), weight


def with_passages(store: Store, rows: Rows) -> Rows:
    """Rows of those questions that have any passage."""
    return rows[store.n_passages()[rows] > 0]


def split_rows(n: int, cfg: Any, split_off: bool) -> tuple[Rows, Rows, Rows]:
    """Rows held out for testing, for validation, and to learn from, out of n.

    The order is shuffled once, by `split_seed` alone, so that runs of other seeds, and folds, see
    the same questions.
    """
    order = np.random.default_rng(cfg.split_seed).permutation(n)
    held_out, rest = order[: cfg.n_held_out], order[cfg.n_held_out :]
    if not split_off:
        return np.sort(held_out), rest[:0], np.sort(rest)
    index = np.arange(len(rest))
    by = getattr(cfg.split_by, "name", cfg.split_by)
    if by == "every_third":
        chosen = index % 3 == 0
    elif by == "fold":
        chosen = index % cfg.n_folds == cfg.fold
    else:
        chosen = index < round(cfg.valid_fraction * len(rest))
    return np.sort(held_out), np.sort(rest[chosen]), np.sort(rest[~chosen])


def character_counts(stores: Sequence[Store], normalise: Normaliser) -> Counter[str]:
    """How often each character occurs, after normalisation."""
    counts: Counter[str] = Counter()
    for store in stores:
        for code, count in zip(*store.code_counts(), strict=True):
            counts[normalise(chr(code))] += int(count)
    return counts


def frequent_words(stores: Sequence[Store], min_count: int) -> list[str]:
    """Words met at least `min_count` times, most frequent first."""
    counts: Counter[str] = Counter()
    for store in stores:
        counts.update(store.word_counts())
    kept = sorted((-count, word) for word, count in counts.items() if count >= min_count)
    return [word for _, word in kept if not word.isspace()]


def checksum_of(parts: dict[str, list[Part]]) -> str:
    """Names the questions of all splits and their weights."""
    content = hashlib.sha256()
    for name, part in sorted(parts.items()):
        for store, rows, weight in part:
            content.update(f"{name} {store.folder.name} {weight}".encode())
            content.update(rows.tobytes())
    return content.hexdigest()

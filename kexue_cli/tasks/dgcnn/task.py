"""task=dgcnn: questions answered from several passages (kexue.fm/archives/5409 and 6906)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kexue_cli.config import Mode
from kexue_cli.errors import ConfigError, UserError
from kexue_cli.paths import cache_dir
from kexue_cli.run import checkpoint
from kexue_cli.run.context import Context
from kexue_cli.submission import Submission
from kexue_cli.tasks.base import Metric, Predictions, Task
from kexue_cli.tasks.dgcnn import outputs, plots, questions, report, scoring, word_vectors
from kexue_cli.tasks.dgcnn.answering import Answered, Answerer, Rules
from kexue_cli.tasks.dgcnn.config import Scorer
from kexue_cli.tasks.dgcnn.encoded_set import EncodedQuestion, EncodedSet
from kexue_cli.tasks.dgcnn.engine import choose_engine
from kexue_cli.tasks.dgcnn.members import Knowledge, Member, load_weights, make_network, read_member
from kexue_cli.tasks.dgcnn.network import Network, count_parameters
from kexue_cli.tasks.dgcnn.passage_files import read_passages
from kexue_cli.tasks.dgcnn.records import Passage, Question
from kexue_cli.tasks.dgcnn.training import make_stages
from kexue_cli.train.loop import fit

Answer = tuple[Question, Answered]
Found = list[Answer]
Rows = NDArray[np.integer]

CHUNK = 16  # questions answered together
SHOWN = 5  # candidates of a question asked from the shell
COLLAPSED = (
    "all {} answers are empty: no score is above task.threshold={:g}, the highest is "
    "{:.3g}. Most labels are 0, so this lasts for the first epochs: train longer, keep "
    "optim.ema_decay low for short runs, or raise task.positive"
)


class DgcnnTask(Task):
    """Reads questions with passages, learns to mark answers, lets the passages vote."""

    primary = Metric("mean", "max", "valid")
    bf16_on_cpu = True

    sets: questions.QuestionSets | None = None
    network: Network
    knowledge: Knowledge
    ensemble: list[Member]

    def prepare(self, ctx: Context) -> None:
        """Read the questions, make the network; of `question=` only the checkpoint is needed.

        Raises:
            UserError: see `questions.load`; ConfigError: options that do not go together.
        """
        saved = self._saved()
        if self.cfg.question is None:
            self.sets = self._load_sets(ctx, saved)
            from_file = self.cfg.model.word_vectors not in (None, word_vectors.TRAIN)
            added = saved["added"] if saved else (self.sets.words if from_file else [])
            self.knowledge = Knowledge(
                self.sets.vocabulary.characters, self.sets.words, added, self.sets.text
            )
            ctx.fingerprint(self.sets.checksum)
            self._refuse_no_answers()
        elif saved is None:
            raise ConfigError("checkpoint", "question= needs a trained model: checkpoint=<run>")
        else:
            self.knowledge = Knowledge.of_state(saved, self.cfg.data)
        vectors = self.sets.vectors if self.sets else None
        self.network = make_network(
            self.cfg.model, self.knowledge, vectors, ctx.seeds.torch("init"), saved
        ).to(ctx.device.torch_device)
        own = Member(self.network, self.knowledge)
        self.ensemble = [read_member(place, ctx.device, own) for place in self.cfg.task.ensemble]
        self.answered: dict[str, Found] = {}
        self._say_sizes(ctx)
        self._choose_engine(ctx)

    def fit(self, ctx: Context) -> None:
        """Both stages; the best weights on the validation questions stay."""
        assert self.sets is not None
        assert self.sets.train is not None
        unit = "questions" if self.cfg.model.name == "dgcnn" else "characters"
        stages = make_stages(ctx, self.sets.train, self.network.level, unit)
        fit(ctx, self, self.network, stages, lambda: self._validate(ctx))
        for stage in stages:
            seconds = getattr(stage.batches, "seconds", 0.0)
            ctx.console.say(f"{stage.name}: reading and batching took {seconds:.1f} s")

    def splits(self) -> tuple[str, ...]:
        """Those with questions that have answers."""
        return tuple(n for n in ("valid", "test") if self._has_answers(self._split(n)))

    def evaluate(self, ctx: Context, split: str) -> dict[str, float]:
        """Scores of one split by `task.scorer`, and the share of questions left unanswered."""
        found = self._answers(ctx, split)
        return self._scores(found)

    def predict(self, ctx: Context) -> Predictions:
        """Answers to the test questions, else to the validation ones, or to `question=`."""
        if self.cfg.question is not None:
            found = self._answer_from_shell(ctx)
        else:
            found = self._answers(ctx, self._predicted)
        return as_predictions(found)

    def submission(self, predictions: Predictions) -> Submission:
        """The contest's `id<TAB>answer`."""
        return Submission(
            {"id": list(predictions.ids), "answer": list(predictions.prediction)},
            header=False,
            separator="\t",
            quoted=False,
        )

    def validation_predictions(self, ctx: Context) -> Predictions | None:
        """Answers to the validation questions beside the first accepted one."""
        if self._split("valid") is None:
            return None
        return as_predictions(self._answers(ctx, "valid"))

    def plots(self, ctx: Context) -> None:
        """Learning curves, answers as files, tables of scores, a page of questions."""
        scorer = Scorer[self.cfg.task.scorer.name]
        if self.cfg.mode is Mode.train:
            plots.learning_curves(ctx.directory.path / "metrics.jsonl", ctx.directory.plots)
        if self.sets is not None:
            outputs.write_problems(ctx, self.sets.problems)
        for split, found in self.answered.items():
            outputs.write(ctx, split, found)
            pairs = [scoring.one(answered.answer, q.answers, scorer) for q, answered in found]
            order = sorted(range(len(found)), key=lambda i: pairs[i])
            worst = np.array(order[: report.MOST_QUESTIONS], np.int64)
            part = self._split(split)
            assert part is not None
            shown = dict(zip(worst.tolist(), self._run_here(ctx, part, worst), strict=True))
            found = [shown.get(i, pair) for i, pair in enumerate(found)]
            report.write(ctx, split, found, lambda given, known: scoring.one(given, known, scorer))

    def state_dict(self) -> dict[str, Any]:
        """Weights, vocabulary and words."""
        return {"model": self.network.state_dict(), **self.knowledge.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the weights of a checkpoint.

        Raises:
            UserError: another vocabulary, or a tensor of another shape.
        """
        if state["characters"] != self.knowledge.characters:
            raise UserError("the checkpoint was trained with another vocabulary of characters")
        load_weights(self.network, state, self.cfg.model.name)

    # -- parts of prepare --

    def _saved(self) -> dict[str, Any] | None:
        """What the checkpoint given, or the run that goes on, holds of this task."""
        if self.cfg.checkpoint is None:
            return None
        path = checkpoint.find(self.cfg.checkpoint)
        saved: dict[str, Any] = checkpoint.load(path, self.cfg.task.name, self.cfg.model.name)
        return dict(saved["task"])

    def _load_sets(self, ctx: Context, saved: dict[str, Any] | None) -> questions.QuestionSets:
        model = self.cfg.model
        vectors = None
        if model.word_vectors is not None and saved is None:
            dim = model.word_width if model.word_vectors == word_vectors.TRAIN else None
            vectors = word_vectors.Wanted(model.word_vectors, dim)
        return questions.load(
            self.cfg.data,
            cache_dir=cache_dir(),
            console=ctx.console,
            limit_rows=self.cfg.limit.rows,
            vectors=vectors,
            saved=saved,
            predict_only=self.cfg.mode is Mode.predict,
            learns=self.cfg.mode is Mode.train,
        )

    def _refuse_no_answers(self) -> None:
        train = self._split("train")
        if self.cfg.mode is Mode.train and train is not None and not self._has_answers(train):
            raise UserError(
                f"data={self.cfg.data.name}: none of the {len(train):,} questions to learn from "
                'has an answer; expected "answer" beside each "passage" that holds it '
                "(docs/dgcnn_data.md)"
            )

    def _choose_engine(self, ctx: Context) -> None:
        ctx.console.say(choose_engine(self.network, self.cfg, ctx.device))
        for member in self.ensemble:
            choose_engine(member.network, self.cfg, ctx.device)

    def _say_sizes(self, ctx: Context) -> None:
        sizes = count_parameters(self.network)
        ctx.console.say(
            f"{self.cfg.model.name}: {sizes['layers']:,} parameters and {sizes['embeddings']:,} of "
            f"embeddings; {len(self.knowledge.characters):,} characters, "
            f"{len(self.knowledge.words):,} words"
        )
        rows = []
        for name in ("train", "valid", "test"):
            part = self._split(name)
            if part is not None:
                passages = int(part.n_passages().sum())
                rows.append({"split": name, "questions": len(part), "passages": passages})
        if rows:
            ctx.console.table("questions", rows)

    def _split(self, name: str) -> EncodedSet | None:
        return None if self.sets is None else getattr(self.sets, name)

    def _has_answers(self, part: EncodedSet | None) -> bool:
        return part is not None and any(part.record(i).answers for i in range(len(part)))

    @property
    def _predicted(self) -> str:
        return "valid" if self._split("test") is None else "test"

    # -- parts of evaluate and predict --

    def _validate(self, ctx: Context) -> dict[str, float]:
        """Scores while training, over `task.valid_questions` of them."""
        part = self._split("valid")
        assert part is not None
        n = min(self.cfg.task.valid_questions or len(part), len(part))
        rows = np.linspace(0, len(part), n, endpoint=False).astype(int)
        found = self._run(ctx, part, rows)
        if found and not any(answered.voted for _, answered in found):
            highest = max(answered.highest for _, answered in found)
            ctx.console.warn(COLLAPSED.format(len(found), self.cfg.task.threshold, highest))
        return self._scores(found)

    def _answers(self, ctx: Context, split: str) -> Found:
        """Answers to a split under the final weights, computed once; heat maps are dropped."""
        part = self._split(split)
        if split not in self.answered and part is not None:
            self.answered[split] = self._run(ctx, part, np.arange(len(part)))
        return self.answered.get(split, [])

    def _run(self, ctx: Context, part: EncodedSet, rows: Rows) -> Found:
        """Questions with their answers, without heat; each process computes its share."""
        own = self._run_here(ctx, part, rows[ctx.ranks.slice(len(rows))])
        found = [(question, answered.without_heat()) for question, answered in own]
        return [pair for share in ctx.ranks.gather_objects(found) for pair in share]

    def _run_here(self, ctx: Context, part: EncodedSet, rows: Rows) -> Iterator[Answer]:
        """Questions with their answers, all computed by this process."""
        with ctx.console.progress(len(rows), "answering", unit="questions") as meter:
            for begin in range(0, len(rows), CHUNK):
                chunk = [int(i) for i in rows[begin : begin + CHUNK]]
                records = [part.record(i) for i in chunk]
                answers = self._answer(ctx, records, [part.question(i) for i in chunk])
                yield from zip(records, answers, strict=True)
                meter.advance(len(chunk))
                if ctx.ranks.size == 1:  # several wait for each other's answers
                    ctx.stop.raise_if_requested()

    def _answer(
        self,
        ctx: Context,
        asked: Sequence[Question],
        encoded: Sequence[EncodedQuestion] | None = None,
    ) -> list[Answered]:
        """Answers of the network, or of the ensemble."""
        self.network.eval()
        members = [Member(self.network, self.knowledge), *self.ensemble]
        answerer = Answerer(members, self._rules, ctx.device.torch_device)
        with torch.inference_mode(), ctx.device.autocast():
            return answerer.answer(asked, encoded)

    @property
    def _rules(self) -> Rules:
        task = self.cfg.task
        return Rules(
            task.threshold,
            task.max_answer_length,
            task.window,
            task.repeat_question,
            task.vote_power,
            task.mention,
            task.together > 1,
        )

    def _scores(self, found: Found) -> dict[str, float]:
        scorer = Scorer[self.cfg.task.scorer.name]
        pairs = [scoring.one(answered.answer, q.answers, scorer) for q, answered in found]
        empty = sum(not answered.answer for _, answered in found)
        return {**scoring.total(pairs, scorer), "empty": empty / max(1, len(found))}

    def _answer_from_shell(self, ctx: Context) -> Found:
        """The answer to `question=` from the lines of `passages=`, with what supports it."""
        texts = read_passages(Path(self.cfg.passages))
        passages = tuple(Passage(str(line), text) for line, text in texts.items())
        question = Question("question", self.cfg.question, passages)
        (answered,) = self._answer(ctx, [question])
        rows = [
            {
                "answer": voted.answer,
                "score": round(voted.score, 4),
                "passages": ", ".join(
                    f"{passages[k].id} ({s:.3f})" for k, s in voted.support[:SHOWN]
                ),
            }
            for voted in answered.voted[:SHOWN]
        ]
        ctx.console.say(f"{self.cfg.question} {answered.answer or '(no answer found)'}")
        if rows:
            ctx.console.table("candidates", rows)
        return [(question, answered)]


def as_predictions(found: Found) -> Predictions:
    """One row per question: answer, vote, how many passages support it, and the true answer."""
    best = [answered.voted[0] if answered.voted else None for _, answered in found]
    columns: dict[str, Any] = {
        "question": [question.text for question, _ in found],
        "score": [0.0 if voted is None else voted.score for voted in best],
        "passages": [
            "" if voted is None else " ".join(question.passages[k].id for k, _ in voted.support)
            for (question, _), voted in zip(found, best, strict=True)
        ],
    }
    if any(question.answers for question, _ in found):
        columns["target"] = ["|".join(question.answers) for question, _ in found]
    ids = [question.id for question, _ in found]
    return Predictions(ids, [answered.answer for _, answered in found], columns)

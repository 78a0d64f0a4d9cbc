"""Training batches: every question once an epoch with random passages, a function of the step.

Questions are read in pools of several batches and sorted by length within a pool, so that little
of a batch is padding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from kexue_cli.run.ranks import Ranks
from kexue_cli.tasks.dgcnn.crops import Crop, crop
from kexue_cli.tasks.dgcnn.encoded_set import EncodedSet
from kexue_cli.tasks.dgcnn.examples import Example, Ints, Level, Tokens, example, join

POOL = 16  # batches
LENGTH_STEP = 16  # tokens; a batch's length is a multiple of it


@dataclass
class Batch:
    """Padded with 0.

    Attributes:
        question, question_words, question_tags: (batch, length) int64, and of the passage.
        features: (batch, length of the passages, 8).
        spans: (k, 3) example, first and last token of every correct span.
        group: (batch,) number of the question within the batch: its passages share a softmax.
    """

    question: Tensor
    question_words: Tensor
    question_tags: Tensor
    passage: Tensor
    passage_words: Tensor
    passage_tags: Tensor
    features: Tensor
    spans: Tensor
    group: Tensor

    def __len__(self) -> int:
        return len(self.question)


def collate(
    examples: Sequence[Example], device: torch.device, group: Sequence[int] | None = None
) -> Batch:
    """A batch of at least one example; empty texts become positions of padding.

    `group` numbers the question of each example; None: all are of different ones.
    """
    questions, passages = [e.question for e in examples], [e.passage for e in examples]
    features = np.zeros((len(passages), padded_length(passages), 8), np.float32)
    for row, passage in zip(features, passages, strict=True):
        row[: len(passage)] = passage.features
    spans = [np.insert(e.spans, 0, i, axis=1) for i, e in enumerate(examples)]
    columns = [
        *padded(questions),
        *padded(passages),
        torch.from_numpy(features),
        torch.from_numpy(np.concatenate(spans)),
        torch.tensor(range(len(examples)) if group is None else group, dtype=torch.int64),
    ]
    return Batch(*(column.to(device) for column in columns))


def padded_length(texts: Sequence[Tokens]) -> int:
    """That of the longest text, rounded up so that batches have few different shapes.

    For each new shape of a matrix oneDNN compiles a kernel, and it keeps only so many.
    """
    return -(-max(1, *(len(text) for text in texts)) // LENGTH_STEP) * LENGTH_STEP


def padded(texts: Sequence[Tokens]) -> tuple[Tensor, ...]:
    """Ids, words and tags of texts, each (batch, length)."""
    found = np.zeros((3, len(texts), padded_length(texts)), np.int64)
    for i, text in enumerate(texts):
        found[:, i, : len(text)] = text.ids, text.words, text.tags
    return torch.from_numpy(found).unbind(0)


@dataclass
class Batches:
    """Batch number `step` of a training; everything random follows from (seed, pool).

    Attributes:
        questions: learned from, drawn in proportion to their weights.
        batch_size: questions of a batch, over all processes.
        limit: tokens of a passage.
        word_dropout: share of words whose id is set to 0.
        positive: share of draws that take a passage with an answer where there is one; the rest
            takes any.
        joined: share of draws that have another passage of the question before or behind it.
        together: passages of a question, which share a softmax; the first of them is the one that
            `positive` is about.
    """

    questions: EncodedSet
    batch_size: int
    limit: int
    rule: Crop
    level: Level
    word_dropout: float
    positive: float
    seed: int
    ranks: Ranks
    device: torch.device
    joined: float = 0.0
    together: int = 1
    seconds: float = field(default=0.0, init=False)  # spent in here, to be shown

    def __post_init__(self) -> None:
        self._kept: tuple[int, Ints] = (-1, np.zeros(0, np.int64))
        self._n_passages = self.questions.n_passages()
        times = self.questions.weights / self.questions.weights.min()
        luck = np.random.default_rng(self.seed).random(len(times))
        self._times: Ints = np.floor(times + luck).astype(np.int64)

    def __call__(self, first_step: int) -> Iterator[Batch]:
        """Batches from `first_step` on, without end."""
        step, pool = first_step, -1
        drawn: list[list[list[Example]]] = []
        while True:
            began = perf_counter()
            if step // POOL != pool:
                pool = step // POOL
                drawn = self._pool(pool)
            rows = drawn[step % POOL]
            rows = rows[self.ranks.slice(len(rows))]
            group = [i for i, examples in enumerate(rows) for _ in examples]
            batch = collate([e for examples in rows for e in examples], self.device, group)
            self.seconds += perf_counter() - began
            yield batch
            step += 1

    def _pool(self, pool: int) -> list[list[list[Example]]]:
        """Questions of `POOL` batches, each of like lengths, the batches in random order."""
        rng = np.random.default_rng([self.seed, pool])
        size = POOL * self.batch_size
        rows = [self._row(pool * size + i) for i in range(size)]
        found = [self._draw(int(row), rng) for row in rows]
        found.sort(key=lambda examples: max(len(e.passage) for e in examples))
        batches = [found[i : i + self.batch_size] for i in range(0, size, self.batch_size)]
        return [batches[i] for i in rng.permutation(POOL)]

    def _row(self, number: int) -> int:
        """The question drawn as number `number` since the beginning."""
        epoch, place = divmod(number, int(self._times.sum()))
        return int(self._epoch(epoch)[place])

    def _epoch(self, epoch: int) -> Ints:
        """Questions of an epoch in order, each as often as its weight in relation to the least.

        Every epoch has the same length: a fraction of a weight is kept by the same questions.
        """
        if self._kept[0] != epoch:
            rows = np.repeat(np.arange(len(self._times)), self._times)
            order = np.random.default_rng([self.seed, epoch, 1]).permutation(rows)
            self._kept = (epoch, order)
        return self._kept[1]

    def _draw(self, row: int, rng: np.random.Generator) -> list[Example]:
        """A question with `together` of its passages, cropped, some words unknown."""
        n_passages = int(self._n_passages[row])
        first = int(rng.integers(n_passages))
        question = self.questions.question(row, first)
        if rng.random() < self.positive and not len(question.passages[0].spans):
            whole = self.questions.question(row)
            answered = [i for i, p in enumerate(whole.passages) if len(p.spans)]
            if answered:
                first = int(rng.choice(answered))
                question = replace(whole, passages=[whole.passages[first]])
        drawn = [example(question, question.passages[0], self.level)]
        if n_passages > 1 and rng.random() < self.joined:
            drawn = [self._with_another(row, drawn[0], rng)]
        others = min(self.together, n_passages) - 1
        if others:
            chosen = rng.choice(n_passages - 1, others, replace=False)
            drawn += [self._passage(row, int(i + (i >= first))) for i in chosen]
        return [self._shortened(one, rng) for one in drawn]

    def _passage(self, row: int, number: int) -> Example:
        question = self.questions.question(row, number)
        return example(question, question.passages[0], self.level)

    def _with_another(self, row: int, drawn: Example, rng: np.random.Generator) -> Example:
        """With a further passage of the question on either side: kexue.fm 5409's concatenation.

        Where passages without an answer are retrieved and those with one are not, this also keeps
        a passage's length from telling whether it holds an answer.
        """
        other = self._passage(row, int(rng.integers(self._n_passages[row])))
        return join(drawn, other) if rng.random() < 0.5 else join(other, drawn)

    def _shortened(self, drawn: Example, rng: np.random.Generator) -> Example:
        drawn = crop(drawn, self.limit, self.rule, rng)
        if self.word_dropout:
            for tokens in (drawn.question, drawn.passage):
                forget_words_(tokens, self.word_dropout, rng)
        return drawn


def forget_words_(tokens: Tokens, share: float, rng: np.random.Generator) -> None:
    """Set the id of random words to 0, all tokens of a word together (kexue.fm 5409)."""
    begins = np.diff(tokens.words, prepend=-1) != 0
    kept = rng.random(int(begins.sum())) >= share
    tokens.words[:] = np.where(kept[np.cumsum(begins) - 1], tokens.words, 0) if len(tokens) else 0

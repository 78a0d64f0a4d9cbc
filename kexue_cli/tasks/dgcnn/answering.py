"""Answers of a trained network: windows over long passages, candidates, the vote."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from kexue_cli.tasks.dgcnn.batches import collate
from kexue_cli.tasks.dgcnn.dgcnn_2019 import Logits
from kexue_cli.tasks.dgcnn.encoded_set import EncodedQuestion
from kexue_cli.tasks.dgcnn.examples import Example, Level, Tokens, passage_tokens, question_tokens
from kexue_cli.tasks.dgcnn.extraction import spans, trimmed
from kexue_cli.tasks.dgcnn.members import Member
from kexue_cli.tasks.dgcnn.reader import SpanLogits
from kexue_cli.tasks.dgcnn.records import Question
from kexue_cli.tasks.dgcnn.span_scores import span_probabilities, start_and_end, whole_logit
from kexue_cli.tasks.dgcnn.voting import Voted, vote, with_mentions

Floats = NDArray[np.float32]
NO_SPANS = np.zeros((0, 2), np.int64)
BATCH_TOKENS = 16_384
BATCH_PAIRS = 2**23  # start-end pairs of a batch of `Reader`
KEPT_CANDIDATES = 20
BEST_SPANS = 30  # of a passage, that take part in the vote
HALF_WIDTH_LETTER = 0.5  # of a letter or digit where the tokens are words (kexue.fm 5409)


@dataclass(frozen=True)
class Rules:
    """How answers are chosen.

    Attributes:
        threshold: a start and an end (of `Reader`: a span) must score more.
        max_length: of an answer in characters.
        window: tokens read at once; longer passages are read in windows half of which overlap.
        repeat_question: whether what stands in the question may be an answer.
        vote_power: of the passages' scores; None: the post's vote.
        mention: weight of passages that only hold an answer.
        together: whether all passages of a question share the softmax of their spans.
    """

    threshold: float
    max_length: int
    window: int
    repeat_question: bool = True
    vote_power: float | None = None
    mention: float = 0.0
    together: bool = False


@dataclass(frozen=True)
class Found:
    """What one window of a passage says.

    Attributes:
        candidates: answers with their scores.
        start: (tokens,) scores of the window's tokens as first of an answer; end: as last.
        at: the window's first token in the passage.
        whole: log of the sum that the scores were divided by.
        highest: the highest of what is compared with the threshold.
    """

    candidates: dict[str, float]
    start: Floats
    end: Floats
    at: int
    whole: float = 0.0
    highest: float = 0.0

    def times(self, share: float) -> Found:
        """The same with every score multiplied by `share`."""
        candidates = {answer: share * score for answer, score in self.candidates.items()}
        return replace(
            self,
            candidates=candidates,
            start=share * self.start,
            end=share * self.end,
            highest=share * self.highest,
        )


@dataclass(frozen=True)
class Answered:
    """What is found for a question.

    Attributes:
        voted: the best candidates, best first.
        heat: per passage the scores of every character as first and as last of an answer; emptied
            where many questions are kept in memory.
        highest: the highest of what is compared with the threshold.
    """

    voted: list[Voted]
    heat: list[tuple[Floats, Floats]]
    highest: float = 0.0

    def without_heat(self) -> Answered:
        """The same without the scores of every character."""
        return replace(self, heat=[])

    @property
    def answer(self) -> str:
        """The winner; "" where nothing was above the threshold."""
        return self.voted[0].answer if self.voted else ""


@dataclass
class Work:
    """A window of a passage of a question, still to be read: one example for each network."""

    question: int
    passage: int
    examples: list[Example]
    at: int

    @property
    def tokens(self) -> Tokens:
        """Tokens of the window, whose places in the text are the same for all networks."""
        return self.examples[0].passage


def windows(n: int, size: int) -> Iterator[tuple[int, int]]:
    """Begin and end of windows that cover n tokens, each half over the one before."""
    begin = 0
    while True:
        yield begin, min(n, begin + size)
        if begin + size >= n:
            return
        begin += max(1, size // 2)


class Answerer:
    """Answers questions by one network or by the mean of several (a k-fold ensemble)."""

    def __init__(self, members: Sequence[Member], rules: Rules, device: torch.device) -> None:
        self.members, self.rules, self.device = members, rules, device
        self.level = members[0].network.level

    def answer(
        self, questions: Sequence[Question], encoded: Sequence[EncodedQuestion] | None = None
    ) -> list[Answered]:
        """Answers to some questions; long passages and short ones are batched apart.

        Args:
            encoded: the questions as the first network reads them, if that is known already.
        """
        first, *others = self.members
        if encoded is None:
            encoded = [first.knowledge.encode(question) for question in questions]
        work: list[Work] = []
        for i, question in enumerate(questions):
            forms = [encoded[i], *(other.knowledge.encode(question) for other in others)]
            work += self._work(i, forms)
        work.sort(key=lambda w: len(w.tokens))
        found: dict[tuple[int, int], list[Found]] = {}
        for part in self._parts(work):
            texts = [questions[w.question].passages[w.passage].text for w in part]
            for w, window in zip(part, self._read(part, texts), strict=True):
                found.setdefault((w.question, w.passage), []).append(window)
        return [
            self._joined(question, one, [found[i, k] for k in range(len(one.passages))])
            for i, (question, one) in enumerate(zip(questions, encoded, strict=True))
        ]

    def _work(self, number: int, forms: list[EncodedQuestion]) -> Iterator[Work]:
        asked = [question_tokens(form, self.level) for form in forms]
        for k in range(len(forms[0].passages)):
            tokens = [passage_tokens(form.passages[k], self.level) for form in forms]
            for begin, end in windows(len(tokens[0]), self.rules.window):
                examples = [
                    Example(q, p.part(begin, end), NO_SPANS)
                    for q, p in zip(asked, tokens, strict=True)
                ]
                yield Work(number, k, examples, begin)

    def _parts(self, work: list[Work]) -> Iterator[list[Work]]:
        """Batches of like lengths, as large as memory allows."""
        part: list[Work] = []
        for w in work:
            n = len(w.tokens)
            if part and (
                (len(part) + 1) * n > BATCH_TOKENS or (len(part) + 1) * n * n > BATCH_PAIRS
            ):
                yield part
                part = []
            part.append(w)
        if part:
            yield part

    def _read(self, part: list[Work], texts: list[str]) -> list[Found]:
        logits = [
            member.network(collate([w.examples[m] for w in part], self.device))
            for m, member in enumerate(self.members)
        ]
        choose: Callable[..., list[Found]] = self._of_products
        if isinstance(logits[0], SpanLogits):
            choose = self._of_spans
        return choose(logits, part, texts)

    def _of_products(self, logits: list[Logits], part: list[Work], texts: list[str]) -> list[Found]:
        """Start score times end score, each a mean over the networks."""
        scores = [one.scores() for one in logits]
        start, end = (
            torch.stack([pair[side] for pair in scores]).mean(dim=0).cpu().numpy()
            for side in (0, 1)
        )
        found = []
        for w, text, s, e in zip(part, texts, start, end, strict=True):
            tokens = w.tokens
            s, e = s[: len(tokens)], e[: len(tokens)]
            best: dict[str, float] = {}
            widths = token_widths(tokens, text, self.level)
            rules = self.rules
            for i, j, score in spans(s, e, widths, rules.threshold, rules.max_length):
                answer = text[tokens.first[i] : tokens.last[j] + 1]
                best[answer] = max(best.get(answer, 0.0), score)
            highest = min(float(s.max(initial=0)), float(e.max(initial=0)))  # both must be above
            found.append(Found(best, s, e, w.at, highest=highest))
        return found

    def _of_spans(
        self, logits: list[SpanLogits], part: list[Work], texts: list[str]
    ) -> list[Found]:
        """Probabilities of spans; occurrences of the same string add up."""
        tables = [span_probabilities(one.spans, one.none)[0] for one in logits]
        probabilities = mean_of_tables(tables)[:, :, : self.rules.max_length]
        wholes = torch.stack([whole_logit(one.spans, one.none) for one in logits]).mean(dim=0)
        _, n, longest = probabilities.shape
        best, at = probabilities.flatten(1).topk(min(BEST_SPANS, n * longest), dim=1)
        start, end = (side.cpu().numpy() for side in start_and_end(probabilities))
        found = []
        for i, (w, text) in enumerate(zip(part, texts, strict=True)):
            places = zip(at[i].tolist(), best[i].tolist(), strict=True)
            scored = ((*divmod(place, longest), score) for place, score in places)
            size = len(w.tokens)
            candidates = self._candidates(scored, w.tokens, text)
            heat = start[i, :size], end[i, :size]
            found.append(Found(candidates, *heat, w.at, float(wholes[i]), float(best[i].max())))
        return found

    def _candidates(
        self, scored: Iterable[tuple[int, int, float]], tokens: Tokens, text: str
    ) -> dict[str, float]:
        """Answers of (first token, length - 1, score); what is nothing but punctuation is none."""
        found: dict[str, float] = {}
        for first, length, score in scored:
            last = first + length
            if score > self.rules.threshold and last < len(tokens):
                answer = trimmed(text[tokens.first[first] : tokens.last[last] + 1])
                if answer:
                    found[answer] = found.get(answer, 0.0) + score
        return found

    def _joined(
        self, asked: Question, encoded: EncodedQuestion, found: list[list[Found]]
    ) -> Answered:
        """One question's windows put together: the best per string in a passage, then the vote."""
        if self.rules.together:
            found = sharing_a_softmax(found)
        per_passage: list[dict[str, float]] = []
        heat = []
        for passage, parts in zip(encoded.passages, found, strict=True):
            best: dict[str, float] = {}
            for part in parts:
                for answer, score in part.candidates.items():
                    best[answer] = max(best.get(answer, 0.0), score)
            per_passage.append(best)
            tokens = passage_tokens(passage, self.level)
            heat.append((spread(parts, tokens, "start"), spread(parts, tokens, "end")))
        highest = max((part.highest for parts in found for part in parts), default=0.0)
        return Answered(self._vote(asked, per_passage), heat, highest)

    def _vote(self, asked: Question, passages: list[dict[str, float]]) -> list[Voted]:
        if self.rules.mention:
            texts = [passage.text for passage in asked.passages]
            passages = with_mentions(passages, texts, self.rules.mention)
        return vote(passages, KEPT_CANDIDATES, self._allowed(asked.text), self.rules.vote_power)

    def _allowed(self, asked: str) -> Callable[[str], bool]:
        """Whether a string may be the answer to the question `asked`."""
        if self.rules.repeat_question:
            return lambda answer: True
        normalise = self.members[0].knowledge.text.normalise
        levelled = normalise(asked)
        return lambda answer: normalise(answer) not in levelled


def mean_of_tables(tables: list[Tensor]) -> Tensor:
    """Mean of span probabilities (batch, tokens, longest); where a table ends, the rest is 0."""
    longest = max(table.shape[2] for table in tables)
    padded = [functional.pad(table, (0, longest - table.shape[2])) for table in tables]
    return torch.stack(padded).mean(dim=0)


def sharing_a_softmax(found: list[list[Found]]) -> list[list[Found]]:
    """Windows of several passages, whose scores are now shares of one sum over all of them."""
    wholes = torch.tensor([window.whole for windows in found for window in windows])
    shares = iter(wholes.softmax(dim=0).tolist())
    return [[window.times(next(shares)) for window in windows] for windows in found]


def token_widths(tokens: Tokens, text: str, level: Level) -> NDArray[np.floating]:
    """1 for a character; of words, letters and digits count half."""
    if level is Level.characters:
        return np.ones(len(tokens))
    per_character = [HALF_WIDTH_LETTER if c.isascii() and c.isalnum() else 1.0 for c in text]
    edge = np.concatenate([[0.0], np.cumsum(per_character)])
    return edge[tokens.last + 1] - edge[tokens.first]


def spread(parts: list[Found], tokens: Tokens, side: str) -> Floats:
    """Scores of windows over all characters of the passage, the highest where they overlap."""
    n_characters = int(tokens.last[-1]) + 1 if len(tokens) else 0
    scores = np.zeros(n_characters, np.float32)
    for part in parts:
        values = getattr(part, side)
        covered = slice(part.at, part.at + len(values))
        place = tokens.first[covered] if side == "start" else tokens.last[covered]
        scores[place] = np.maximum(scores[place], values)
    return scores

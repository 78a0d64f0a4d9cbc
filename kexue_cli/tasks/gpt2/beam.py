"""Beam search by two rules: bert4keras' without length penalty, transformers' with one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kexue_cli.tasks.gpt2.decoder import Decoder
from kexue_cli.tasks.gpt2.generation import Completion, Restraints, Rules, Stops, reason_to_end
from kexue_cli.tasks.gpt2.model import Gpt


@torch.inference_mode()
def beam_search(
    model: Gpt, prompt: Sequence[int], beams: int, rules: Rules, stops: Stops | None = None
) -> Completion:
    """Search by the sum of log-probabilities, as bert4keras' AutoRegressiveDecoder does.

    The search stops when the best beam ends; other beams that end are given up, and their places
    with them.
    """
    search = _Search(model, prompt, rules, stops)
    reason = "length"
    for _ in range(rules.max_new_tokens):
        found = search.continuations(beams)
        if not found.reasons:
            reason = "rules"
            break
        if found.reasons[0] is not None:
            return found.completion(0, found.reasons[0])
        running = [rank for rank, ended in enumerate(found.reasons) if ended is None]
        beams -= len(found.reasons) - len(running)
        search.keep(found, running)
        if stopped := search.read():
            reason = stopped
            break
    return search.beams.completion(0, reason)  # they are sorted


@torch.inference_mode()
def penalised_beam_search(
    model: Gpt,
    prompt: Sequence[int],
    beams: int,
    rules: Rules,
    length_penalty: float,
    stops: Stops | None = None,
) -> list[Completion]:
    """Search by log-probability / length ** `length_penalty`, as transformers' generate does.

    Texts that end are kept aside, at most `beams` of them; the search stops when no running beam
    can beat the worst of those at its present length (`early_stopping=False`).

    Returns:
        At most `beams` different texts, the best first.
    """
    search = _Search(model, prompt, rules, stops)
    finished = _Finished(beams, length_penalty)
    reason = "length"
    for _ in range(rules.max_new_tokens):
        found = search.continuations(2 * beams)
        if not found.reasons:
            reason = "rules"
            break
        for rank, ended in enumerate(found.reasons[:beams]):
            if ended is not None:
                finished.add(found.completion(rank, ended), float(found.scores[rank]))
        running = [rank for rank, ended in enumerate(found.reasons) if ended is None]
        search.keep(found, running[:beams])
        if finished.is_closed_to(search.beams):
            break
        if stopped := search.read():
            reason = stopped
            break
    if not finished.is_closed_to(search.beams):
        for rank, score in enumerate(search.beams.scores.tolist()):
            finished.add(search.beams.completion(rank, reason), score)
    return finished.completions()


@dataclass
class _Beams:
    """Texts so far, best first: tokens (beam, time), and by beam the rest.

    `scores` are what the search goes by, sums of log-probabilities after the rules; `parents` are
    places among the beams of the step before, `reasons` say why a text ends, None if it does not.
    """

    texts: Tensor
    scores: Tensor
    log_probabilities: Tensor
    parents: Tensor
    reasons: list[str | None]

    def completion(self, rank: int, reason: str) -> Completion:
        return Completion(self.texts[rank].tolist(), float(self.log_probabilities[rank]), reason)


class _Search:
    """The running beams of one prompt and the model that reads them."""

    def __init__(
        self, model: Gpt, prompt: Sequence[int], rules: Rules, stops: Stops | None
    ) -> None:
        self.rules, self.stops = rules, stops
        self.decoder = Decoder(model, [prompt], rules.max_new_tokens)
        self.restraints = Restraints(rules, [prompt], model.arch.vocab_size)
        device = self.decoder.device
        none = torch.zeros(1, device=device)
        texts = torch.empty(1, 0, dtype=torch.long, device=device)
        self.beams = _Beams(texts, none, none, none.long(), [None])

    def continuations(self, count: int) -> _Beams:
        """The `count` best texts of one token more; fewer where the rules allow no more."""
        beams = self.beams
        log_probabilities = self.decoder.logits.log_softmax(-1)  # (beam, vocabulary)
        ruled = self.restraints.applied(log_probabilities, beams.texts.tolist())
        totals = beams.scores[:, None] + ruled
        scores, flat = totals.flatten().topk(min(count, totals.numel()))
        flat = flat[~scores.isneginf()]
        parents, tokens = flat // totals.shape[1], flat % totals.shape[1]
        texts = torch.cat([beams.texts[parents], tokens[:, None]], 1)
        return _Beams(
            texts,
            scores[: len(flat)],
            beams.log_probabilities[parents] + log_probabilities.flatten()[flat],
            parents,
            [reason_to_end(text, self.rules, self.stops) for text in texts.tolist()],
        )

    def keep(self, found: _Beams, ranks: list[int]) -> None:
        """Go on with these."""
        self.beams = _Beams(
            found.texts[ranks],
            found.scores[ranks],
            found.log_probabilities[ranks],
            found.parents[ranks],
            [found.reasons[rank] for rank in ranks],
        )

    def read(self) -> str | None:
        """Let the model read the last tokens, or say why there is nothing more to be written."""
        if self.beams.texts.shape[1] == self.rules.max_new_tokens:
            return "length"
        if self.decoder.is_full and not self.rules.slides:
            return "context"
        last = self.beams.texts[:, -1]
        self.decoder.take_rows(self.beams.parents)
        self.decoder.append(last)
        self.restraints.take_rows(self.beams.parents)
        self.restraints.add(last)
        return None


class _Finished:
    """The best texts that have ended, by penalised score."""

    def __init__(self, size: int, length_penalty: float) -> None:
        self.size, self.length_penalty = size, length_penalty
        self.texts: list[tuple[float, Completion]] = []

    def add(self, completion: Completion, score: float) -> None:
        self.texts.append((self._penalised(score, len(completion.tokens)), completion))
        self.texts = sorted(self.texts, key=lambda item: -item[0])[: self.size]

    def is_closed_to(self, beams: _Beams) -> bool:
        """Whether there is no running beam, or enough texts and none that beats the worst."""
        if not len(beams.scores):
            return True
        if len(self.texts) < self.size:
            return False
        best = self._penalised(float(beams.scores[0]), beams.texts.shape[1])
        return best <= self.texts[-1][0]

    def completions(self) -> list[Completion]:
        return [completion for _, completion in self.texts]

    def _penalised(self, score: float, length: int) -> float:
        return score / max(length, 1) ** self.length_penalty

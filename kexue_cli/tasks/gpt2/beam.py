"""Beam search by two rules: bert4keras' without length penalty, transformers' with one."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kexue_cli.tasks.gpt2.decoder import Decoder
from kexue_cli.tasks.gpt2.generation import Completion
from kexue_cli.tasks.gpt2.model import Gpt


@torch.inference_mode()
def beam_search(
    model: Gpt,
    prompt: Sequence[int],
    beams: int,
    max_new_tokens: int,
    min_new_tokens: int = 1,
    end: int | None = None,
) -> Completion:
    """Search by the sum of log-probabilities, as bert4keras' AutoRegressiveDecoder does.

    From `min_new_tokens` on: the search stops when the best beam ends; other beams that end are
    given up, and their places with them.
    """
    decoder = Decoder(model, [prompt], max_new_tokens)
    texts = torch.empty(1, 0, dtype=torch.long, device=decoder.device)  # (beam, time)
    scores = torch.zeros(1, device=decoder.device)
    reason = "length"
    for step in range(max_new_tokens):
        totals = scores[:, None] + decoder.logits.log_softmax(-1)  # (beam, vocabulary)
        scores, flat = totals.flatten().topk(min(beams, totals.numel()))
        parents, tokens = flat // totals.shape[1], flat % totals.shape[1]
        texts = torch.cat([texts[parents], tokens[:, None]], 1)
        if step + 1 >= min_new_tokens:
            ended = tokens == end if end is not None else torch.zeros_like(tokens, dtype=torch.bool)
            if ended[0]:  # scores are sorted: the first beam is the best
                reason = "end"
                break
            scores, texts, parents = scores[~ended], texts[~ended], parents[~ended]
            beams = len(scores)
        if step + 1 == max_new_tokens:
            break
        if decoder.is_full:
            reason = "context"
            break
        decoder.take_rows(parents)
        decoder.append(texts[:, -1])
    best = int(scores.argmax())
    return Completion(texts[best].tolist(), float(scores[best]), reason)


@torch.inference_mode()
def penalised_beam_search(
    model: Gpt,
    prompt: Sequence[int],
    beams: int,
    max_new_tokens: int,
    length_penalty: float,
    end: int | None = None,
) -> Completion:
    """Search by log-probability / length ** `length_penalty`, as transformers' generate does.

    Texts that end are kept aside, at most `beams` of them; the search stops when no running beam
    can beat the worst of those at its present length (`early_stopping=False`).
    """
    decoder = Decoder(model, [prompt], max_new_tokens)
    texts = torch.empty(1, 0, dtype=torch.long, device=decoder.device)  # (beam, time)
    scores = torch.zeros(1, device=decoder.device)
    finished = _Finished(beams, length_penalty)
    reason = "length"
    for step in range(max_new_tokens):
        totals = scores[:, None] + decoder.logits.log_softmax(-1)  # (beam, vocabulary)
        best_totals, flat = totals.flatten().topk(min(2 * beams, totals.numel()))
        parents, tokens = flat // totals.shape[1], flat % totals.shape[1]
        texts = torch.cat([texts[parents], tokens[:, None]], 1)
        ended = torch.zeros_like(tokens, dtype=torch.bool) if end is None else tokens == end
        for rank in ended[:beams].nonzero()[:, 0].tolist():
            finished.add(texts[rank].tolist(), float(best_totals[rank]))
        running = (~ended).nonzero()[:beams, 0]
        texts, scores, parents = texts[running], best_totals[running], parents[running]
        if finished.is_closed(float(scores[0]), step + 1) or step + 1 == max_new_tokens:
            break
        if decoder.is_full:
            reason = "context"
            break
        decoder.take_rows(parents)
        decoder.append(texts[:, -1])
    if not finished.is_closed(float(scores[0]), texts.shape[1]):
        for text, score in zip(texts.tolist(), scores.tolist(), strict=True):
            finished.add(text, score)
    tokens_of_best, score = finished.best()
    ends = end is not None and tokens_of_best[-1] == end
    return Completion(tokens_of_best, score, "end" if ends else reason)


class _Finished:
    """The best texts that have ended, by penalised score."""

    def __init__(self, size: int, length_penalty: float) -> None:
        self.size, self.length_penalty = size, length_penalty
        self.texts: list[tuple[float, list[int], float]] = []

    def add(self, text: list[int], score: float) -> None:
        self.texts.append((score / len(text) ** self.length_penalty, text, score))
        self.texts = sorted(self.texts, key=lambda item: -item[0])[: self.size]

    def is_closed(self, best_running: float, length: int) -> bool:
        """Whether there are enough texts and no running beam of this length beats the worst."""
        if len(self.texts) < self.size:
            return False
        return best_running / length**self.length_penalty <= self.texts[-1][0]

    def best(self) -> tuple[list[int], float]:
        _, text, score = self.texts[0]
        return text, score

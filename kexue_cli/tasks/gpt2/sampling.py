"""Which token comes next: filters of one row of logits per sequence, and the draw."""

from __future__ import annotations

import torch
from torch import Tensor

TOP_P_RULES = ("inclusive", "exclusive")


def top_k_mask(logits: Tensor, k: int) -> Tensor:
    """True at the k largest logits of each row, and at those equal to the smallest of them."""
    k = min(k, logits.shape[-1])
    return logits >= logits.topk(k).values[..., -1:]


def top_p_mask(logits: Tensor, p: float, rule: str = "inclusive") -> Tensor:
    """True at the nucleus of each row (Holtzman et al. 2020).

    `inclusive` keeps the fewest tokens whose probability reaches p, with the one that crosses it;
    `exclusive` leaves the crossing token out, as the code published with GPT2_ML does, but keeps
    at least one.
    """
    values, order = logits.softmax(-1).sort(descending=True, stable=True)
    cumulative = values.cumsum(-1)
    kept = cumulative - values < p if rule == "inclusive" else cumulative < p
    kept[..., 0] = True
    return torch.zeros_like(kept).scatter(-1, order, kept)


def min_p_mask(logits: Tensor, p: float) -> Tensor:
    """True where the probability is at least p times the largest one of the row."""
    probabilities = logits.softmax(-1)
    return probabilities >= p * probabilities.amax(-1, keepdim=True)


def repetition_penalty(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make tokens that were `seen` less likely (Keskar et al. 2019, CTRL).

    `seen` is (row, vocabulary), True for tokens of the prompt and of the text so far.
    """
    punished = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(seen, punished, logits)


def repeated_ngram_mask(tokens: list[int], n: int, vocab_size: int) -> Tensor:
    """(vocabulary,), True at tokens that would end an n-gram which `tokens` already has."""
    banned = torch.zeros(vocab_size, dtype=torch.bool)
    if len(tokens) + 1 < n:
        return banned
    ending = tuple(tokens[len(tokens) - n + 1 :])
    for start in range(len(tokens) - n + 1):
        if tuple(tokens[start : start + n - 1]) == ending:
            banned[tokens[start + n - 1]] = True
    return banned


def filtered(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    top_p_rule: str = "inclusive",
    min_p: float | None = None,
) -> Tensor:
    """Logits after temperature, then top-k, top-p of what is left, min-p; dropped ones are -inf."""
    if temperature != 1.0:
        logits = logits / temperature
    if top_k is not None:
        logits = logits.masked_fill(~top_k_mask(logits, top_k), -torch.inf)
    if top_p is not None and top_p < 1:
        logits = logits.masked_fill(~top_p_mask(logits, top_p, top_p_rule), -torch.inf)
    if min_p is not None:
        logits = logits.masked_fill(~min_p_mask(logits, min_p), -torch.inf)
    return logits


def draw(logits: Tensor, generator: torch.Generator) -> Tensor:
    """One token per row, (row,), drawn from the softmax."""
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]

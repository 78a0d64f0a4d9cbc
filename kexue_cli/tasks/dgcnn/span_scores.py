"""One distribution over all spans of a passage and "no answer".

Spans are normalised jointly, as in RaSoR (Lee et al. 2016, arXiv 1611.01436), not start and end
apart: so the end depends on the start. Spans are stored by their first token and their length.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

LOWEST = -1e9


def span_logits(start: Tensor, end: Tensor, pair: Tensor, mask: Tensor, longest: int) -> Tensor:
    """Logit of every span of up to `longest` tokens, `LOWEST` where it leaves the text.

    Args:
        start: (batch, n).
        end: (batch, n).
        pair: (batch, n, n), of start i with end j.
        mask: (batch, n) bool.

    Returns:
        (batch, n, longest): of the span from i to i + k.
    """
    inside = ends_by_length(mask.float(), longest) > 0
    band: Tensor = _Band.apply(pair, longest)
    logits = start[:, :, None] + ends_by_length(end, longest) + band
    return logits.masked_fill(~inside, LOWEST)


class _Band(torch.autograd.Function):
    """(batch, n, n) -> (batch, n, longest): `pair` of i with i + k, 0 beyond the end.

    A view of memory whose rows are `longest` wider; its gradient written through the same view is
    several times as fast as that of a gather.
    """

    @staticmethod
    def forward(ctx: Any, pair: Tensor, longest: int) -> Tensor:
        return _diagonals(F.pad(pair, (0, longest)), longest)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        batch, n, longest = gradient.shape
        to_padded = gradient.new_zeros(batch, n, n + longest)
        _diagonals(to_padded, longest).copy_(gradient)
        return to_padded[:, :, :n], None


def _diagonals(padded: Tensor, longest: int) -> Tensor:
    """The view of contiguous (batch, n, n + longest) that has i + k where `padded` has column k."""
    batch, n, width = padded.shape
    return padded.as_strided((batch, n, longest), (n * width, width + 1, 1))


def ends_by_length(values: Tensor, longest: int) -> Tensor:
    """(batch, n) -> (batch, n, longest): the value of token i + k, 0 beyond the end."""
    return F.pad(values, (0, longest - 1)).unfold(1, longest, 1)


def span_loss(logits: Tensor, none: Tensor, spans: Tensor, group: Tensor) -> Tensor:
    """Minus log of the probability of all correct spans of a question together.

    The spans of all its passages in the batch share one softmax (the shared norm of Clark and
    Gardner 2018, arXiv 1710.10723), so that the scores of different passages can be compared.
    Where none of them holds an answer, "no answer" is right in each. A question whose correct
    spans are all longer than those that have logits teaches nothing: 0.

    Args:
        logits: (batch, n, longest).
        none: (batch,) logit of "no answer".
        spans: (k, 3) example, first and last token of every correct span, each within n.
        group: (batch,) number of the question, from 0 without gaps.

    Returns:
        (questions,)
    """
    whole = grouped_logsumexp(whole_logit(logits, none), group)
    example, first, last = spans.unbind(1)
    short = last - first < logits.shape[2]
    has_answer = torch.zeros(len(whole), dtype=torch.bool, device=none.device)
    has_answer[group[example]] = True
    at, first, length = example[short], first[short], (last - first)[short]
    # log of a sum of exponentials over each question's spans, relative to `whole` <= 0
    shares = (logits[at, first, length] - whole[group[at]]).exp()
    zero = torch.zeros_like(whole)
    right = zero.index_add(0, group[at], shares)
    silent = zero.index_add(0, group, (none - whole[group]).exp())
    right = torch.where(has_answer, right, silent)
    taught = right > 0
    return torch.where(
        taught, -right.where(taught, torch.ones_like(right)).clamp(min=1e-30).log(), 0.0
    )


def whole_logit(logits: Tensor, none: Tensor) -> Tensor:
    """Log of the sum of the exponentials of all spans and "no answer": (batch,)."""
    return torch.cat([logits.flatten(1), none[:, None]], dim=1).logsumexp(dim=1)


def grouped_logsumexp(values: Tensor, group: Tensor) -> Tensor:
    """Log of the sum of exponentials within each group: (batch,) -> (groups,)."""
    n_groups = int(group.max()) + 1
    highest = values.new_full((n_groups,), LOWEST)
    highest = highest.scatter_reduce(0, group, values.detach(), "amax")
    sums = torch.zeros_like(highest).index_add(0, group, (values - highest[group]).exp())
    return highest + sums.log()


def span_probabilities(logits: Tensor, none: Tensor) -> tuple[Tensor, Tensor]:
    """Probability of every span (batch, n, longest) and of "no answer" (batch,)."""
    every = torch.cat([logits.flatten(1), none[:, None]], dim=1).softmax(dim=1)
    return every[:, :-1].unflatten(1, logits.shape[1:]), every[:, -1]


def start_and_end(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Probability of every token to be the first, and the last, of the answer: each (batch, n)."""
    batch, n, longest = probabilities.shape
    end = probabilities.new_zeros(batch, n + longest - 1)
    for k in range(longest):
        end[:, k : k + n] += probabilities[:, :, k]
    return probabilities.sum(dim=2), end[:, :n]

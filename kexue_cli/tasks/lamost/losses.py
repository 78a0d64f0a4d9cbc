"""The two losses of kexue.fm/archives/5505: cross-entropy, then minus log of a soft macro-F1."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-7  # Keras' constant


def cross_entropy_sum(
    logits: Tensor,
    labels: Tensor,
    label_smoothing: float = 0.0,
    class_weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy summed over a batch, and the weight it is to be divided by.

    logits (batch, classes), labels (batch,). With class weights w the mean is the weighted one,
    sum_i w[y_i] loss_i / sum_i w[y_i]; the second value is that denominator.
    """
    total = F.cross_entropy(
        logits, labels, class_weights, reduction="sum", label_smoothing=label_smoothing
    )
    if class_weights is None:
        return total, torch.tensor(float(len(labels)))
    return total, class_weights[labels].sum()


def soft_f1_sums(logits: Tensor, labels: Tensor) -> Tensor:
    """What the soft F1 of a batch is made of, (2, classes): sum of y p, and of y + p.

    Sums over parts of a batch add up to those of the whole, which makes the loss exact when the
    batch is spread over processes. Keras counts its epsilon once for every entry of the batch's
    one-hot matrix, hence batch * classes times in each denominator.
    """
    n_classes = logits.shape[1]
    p = logits.softmax(dim=1)
    y = F.one_hot(labels, n_classes).to(p.dtype)
    return torch.stack([(y * p).sum(0), (y + p).sum(0) + y.numel() * EPSILON])


def minus_log_soft_f1(sums: Tensor) -> Tensor:
    """-log( (2 / K) sum_k s_k ), s_k = sum(y p) / sum(y + p); sums as `soft_f1_sums` gives them."""
    n_classes = sums.shape[1]
    return -torch.log(2 / n_classes * (sums[0] / sums[1]).sum() + EPSILON)


def soft_f1_loss(
    logits: Tensor, labels: Tensor, add_over_ranks: Callable[[Tensor], Tensor] = lambda sums: sums
) -> Tensor:
    """Minus log of the soft macro-F1 of a batch, which may be spread over processes.

    `add_over_ranks` sums a tensor over processes and passes gradients through (see `SumOverRanks`).
    """
    return minus_log_soft_f1(add_over_ranks(soft_f1_sums(logits, labels)))

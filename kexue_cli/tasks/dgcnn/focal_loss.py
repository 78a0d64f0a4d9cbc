"""Focal loss (Lin et al. 2017, eq. 5) of a product of two sigmoids, computed from their logits.

The original clips probabilities to [1e-8, 1 - 1e-8]; in float32 the upper bound rounds to 1, so it
gives NaN at a score of exactly 1. From logits nothing overflows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

ALPHA = 0.25  # weight of positives; negatives have 1 - ALPHA
GAMMA = 2.0
LOG_SMALLEST = math.log(1e-8)  # the original's lower clip of the probability of a positive


def log_product(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Log p and log(1 - p) of p = sigmoid(a) sigmoid(b).

    1 - p = (e^-a + e^-b + e^-(a+b)) sigmoid(a) sigmoid(b).
    """
    log_p = F.logsigmoid(a) + F.logsigmoid(b)
    a, b = torch.broadcast_tensors(a, b)
    return log_p, torch.logsumexp(torch.stack([-a, -b, -a - b]), dim=0) + log_p


def focal_loss(whole: Tensor, logits: Tensor, targets: Tensor) -> Tensor:
    """Elementwise, of scores sigmoid(whole) sigmoid(logits).

    Args:
        whole: (batch, 1), or anything that broadcasts with `logits`.
        logits: (batch, length).
        targets: (batch, length), 0 or 1.
    """
    log_p, log_not_p = log_product(whole, logits)
    positive = -ALPHA * (1 - log_p.exp()) ** GAMMA * log_p.clamp(min=LOG_SMALLEST)
    negative = -(1 - ALPHA) * log_p.exp() ** GAMMA * log_not_p
    return torch.where(targets > 0, positive, negative)


def focal_loss_sum(
    whole: Tensor, start: Tensor, end: Tensor, targets: tuple[Tensor, Tensor], mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Sums over the unmasked positions, for starts and for ends.

    Args:
        whole: (batch,); start, end, targets, mask: (batch, length).
    """
    losses = [
        focal_loss(whole[:, None], logits, target)
        for logits, target in zip((start, end), targets, strict=True)
    ]
    start_loss, end_loss = (torch.where(mask, loss, 0.0).sum() for loss in losses)
    return start_loss, end_loss

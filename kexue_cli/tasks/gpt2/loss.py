"""Cross entropies of language models."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

IGNORED = -100  # a target that is not to be predicted


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Nats of each target, (batch, time); zero where the target is `IGNORED`."""
    flat = F.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), reduction="none", ignore_index=IGNORED
    )
    return flat.view(targets.shape)


def shifted_loss(logits: Tensor, tokens: Tensor) -> Tensor:
    """Mean cross entropy of every token given those before it, in nats."""
    return token_losses(logits[:, :-1], tokens[:, 1:]).mean()


def gpt2_ml_loss(logits: Tensor, tokens: Tensor, padding: int = 0) -> Tensor:
    """The original's training loss: targets that are `padding` do not count, denominator + 1e-5."""
    targets = tokens[:, 1:]
    counted = (targets != padding).float()
    losses = token_losses(logits[:, :-1], targets) * counted
    return losses.sum() / (counted.sum() + 1e-5)

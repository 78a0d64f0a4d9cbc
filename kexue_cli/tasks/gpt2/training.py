"""What the training loop needs of a language model: loss, optimisers, validation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kexue_cli.config import OptimConfig
from kexue_cli.tasks.gpt2.loss import IGNORED, token_losses
from kexue_cli.tasks.gpt2.model import Gpt, document_mask
from kexue_cli.tasks.gpt2.muon import Muon
from kexue_cli.tasks.gpt2.native_head import summed_loss
from kexue_cli.tasks.gpt2.packed import Batch, Tokens
from kexue_cli.train.optim import make_optimizers
from kexue_cli.train.stage import Loss

EVALUATION_TOKENS = 8192  # of one batch


def batch_loss(model: nn.Module, batch: Batch) -> Loss:
    """Cross entropy of a batch, summed over its targets."""
    if isinstance(model, Gpt) and model.native is not None and batch.documents is None:
        states = model.hidden(batch.inputs)
        total = summed_loss(model.native, states, model.head.weight, batch.targets)
        return Loss(total, batch.targets.numel())
    logits = logits_of(model, batch)
    total = F.cross_entropy(
        logits.flatten(0, 1).float(),
        batch.targets.flatten(),
        reduction="sum",
        ignore_index=IGNORED,
    )
    if batch.documents is None:
        return Loss(total, batch.targets.numel())
    return Loss(total, max(1, int((batch.targets != IGNORED).sum())))


def logits_of(model: nn.Module, batch: Batch) -> Tensor:
    """Logits of every position; where documents meet, none looks into another."""
    if batch.documents is None:
        logits: Tensor = model(batch.inputs)
    else:
        positions = positions_in_documents(batch.documents)
        logits = model(batch.inputs, positions, document_mask(batch.documents))
    return logits


def positions_in_documents(documents: Tensor) -> Tensor:
    """Distance of each position from the first one of its document in the window, (row, time)."""
    time = torch.arange(documents.shape[1], device=documents.device)
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    first = torch.where(begins, time, torch.zeros_like(time)).cummax(1).values
    return time - first


def language_model_optimizers(model: nn.Module, optim: OptimConfig) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices and AdamW for the rest; any other optimiser takes all.

    Weight decay spares vectors: biases and norms. Muon's updates are scaled to the size of Adam's
    (Liu et al. 2025), so that one learning rate serves both.
    """
    matrices, vectors, tables = _parameter_kinds(model)
    adam: dict[str, Any] = {"lr": optim.lr, "betas": tuple(optim.betas), "eps": optim.eps}
    if optim.name == "muon":
        muon = Muon(matrices, optim.lr, optim.momentum, optim.weight_decay)
        return [muon, torch.optim.AdamW(tables + vectors, **adam, weight_decay=0.0, fused=True)]
    if optim.name == "adamw":
        decayed = {"params": matrices + tables, "weight_decay": optim.weight_decay}
        spared = {"params": vectors, "weight_decay": 0.0}
        return [torch.optim.AdamW([decayed, spared], **adam, fused=True)]
    return make_optimizers(model, optim)


def _parameter_kinds(
    model: nn.Module,
) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    matrices, vectors, tables = [], [], []
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            vectors.append(parameter)
        elif name.startswith("blocks."):
            matrices.append(parameter)
        else:
            tables.append(parameter)
    return matrices, vectors, tables


@torch.inference_mode()
def text_metrics(
    model: nn.Module,
    tokens: Tokens,
    time: int,
    device: torch.device,
    windows: int | None = None,
    stride: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """Nats per token over a split, and what follows from them.

    Windows of `time` tokens stand side by side, or `stride` apart: then only the tokens that no
    earlier window scored count, each with at least `time - stride` tokens before it. `windows`
    limits their number, evenly spread over the text.

    Returns:
        loss (nats per token), perplexity, nats_per_character, bits_per_byte; NaN where no window
        has a token to score.
    """
    stride = min(stride or time, time)
    starts = np.arange(0, max(len(tokens) - 1 - time, 0) + 1, stride)
    if starts[-1] + time < len(tokens) - 1:
        starts = np.append(starts, len(tokens) - 1 - time)  # the rest, scored but once
    scored_to = np.concatenate([[0], starts[:-1] + time])
    if windows is not None and len(starts) > windows:
        chosen = np.linspace(0, len(starts) - 1, windows).round().astype(np.int64)
        starts, scored_to = starts[chosen], scored_to[chosen]
    time = min(time, len(tokens) - 1)
    total, count = 0.0, 0
    rows = max(1, EVALUATION_TOKENS // time)
    for begin in range(0, len(starts), rows):
        if should_stop():
            break
        here = slice(begin, begin + rows)
        batch = tokens.batch(starts[here], time).to(device)
        fresh = starts[here][:, None] + np.arange(time) >= scored_to[here][:, None]
        losses = token_losses(logits_of(model, batch), batch.targets)
        counted = torch.from_numpy(fresh).to(device) & (batch.targets != IGNORED)
        total += float(losses[counted].double().sum())
        count += int(counted.sum())
    return _derived(total / count if count else math.nan, tokens)


def _derived(loss: float, tokens: Tokens) -> dict[str, float]:
    return {
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),
        "nats_per_character": loss * len(tokens) / max(tokens.characters, 1),
        "bits_per_byte": loss * len(tokens) / max(tokens.bytes, 1) / math.log(2),
    }

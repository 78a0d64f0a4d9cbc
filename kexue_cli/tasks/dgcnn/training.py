"""Losses of both kinds of readers, and the stages of a training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from kexue_cli.config import OptimConfig
from kexue_cli.errors import ConfigError
from kexue_cli.run.context import Context
from kexue_cli.tasks.dgcnn.batches import Batch, Batches
from kexue_cli.tasks.dgcnn.config import DgcnnTask, StageConfig
from kexue_cli.tasks.dgcnn.crops import Crop
from kexue_cli.tasks.dgcnn.dgcnn_2019 import Logits
from kexue_cli.tasks.dgcnn.encoded_set import EncodedSet
from kexue_cli.tasks.dgcnn.examples import Level
from kexue_cli.tasks.dgcnn.focal_loss import focal_loss_sum
from kexue_cli.tasks.dgcnn.reader import SpanLogits
from kexue_cli.tasks.dgcnn.span_scores import span_loss
from kexue_cli.train.stage import Loss, Stage

READABLE = 100.0  # kexue.fm 6906 multiplies its focal loss by it


def reader_loss(network: nn.Module, batch: Batch) -> Loss:
    """Focal loss over characters, or minus log of the right spans' probability over passages."""
    logits = network(batch)
    if isinstance(logits, SpanLogits):
        losses = span_loss(logits.spans, logits.none, batch.spans, batch.group)
        return Loss(losses.sum(), len(losses))
    return focal(logits, batch)


def focal(logits: Logits, batch: Batch) -> Loss:
    """100 (start + end), summed over characters."""
    mask = batch.passage > 0
    targets = start_end_targets(batch)
    start, end = focal_loss_sum(logits.whole, logits.start, logits.end, targets, mask)
    return Loss(READABLE * (start + end), float(mask.sum()))


def start_end_targets(batch: Batch) -> tuple[Tensor, Tensor]:
    """1 where a correct span starts, and where one ends: each (batch, length)."""
    start, end = torch.zeros(2, *batch.passage.shape, device=batch.passage.device).unbind(0)
    example, first, last = batch.spans.unbind(1)
    start[example, first] = 1
    end[example, last] = 1
    return start, end


def make_stages(ctx: Context, questions: EncodedSet, level: Level, unit: str) -> list[Stage]:
    """The stages that have steps; each later one begins from the best weights so far.

    `unit` is what the loss counts.
    """
    options = OmegaConf.to_object(ctx.cfg.task)
    assert isinstance(options, DgcnnTask)
    stages: list[Stage] = []
    for name, settings in (("first", options.first), ("second", options.second)):
        steps = min(settings.steps, ctx.cfg.limit.steps or settings.steps)
        if steps == 0:
            continue
        stages.append(
            Stage(
                name,
                steps,
                reader_loss,
                make_batches(ctx, questions, level, options, name),
                evaluate_every=min(options.evaluate_every, steps),
                optim=_optim(ctx.cfg.optim, settings),
                from_best=True,
                patience=settings.patience,
                unit=unit,
            )
        )
    return stages


def make_batches(
    ctx: Context, questions: EncodedSet, level: Level, options: DgcnnTask, stage: str
) -> Batches:
    """Batches of a stage."""
    return Batches(
        questions,
        options.batch_size,
        options.max_length,
        Crop[options.crop.name],
        level,
        options.word_dropout,
        options.positive,
        ctx.seeds.integer(f"batches {stage}"),
        ctx.ranks,
        ctx.device.torch_device,
        options.joined,
        options.together,
    )


def _optim(cfg: DictConfig, settings: StageConfig) -> OptimConfig:
    optim: Any = OmegaConf.to_object(cfg)
    if not isinstance(optim, OptimConfig):
        raise ConfigError("optim", "task=dgcnn needs an optimiser: keras_radam, adam, adamw")
    return optim if settings.lr is None else replace(optim, lr=settings.lr)

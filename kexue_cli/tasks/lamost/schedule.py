"""From `cfg.task` to the stages of the training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from torch import nn

from kexue_cli.config import OptimConfig
from kexue_cli.errors import ConfigError
from kexue_cli.run.context import Context
from kexue_cli.tasks.lamost.augment import Augmentation
from kexue_cli.tasks.lamost.config import LamostTask, StageConfig
from kexue_cli.tasks.lamost.layers import SpectrumClassifier
from kexue_cli.tasks.lamost.sampling import Rows, Sampler, make_sampler
from kexue_cli.tasks.lamost.spectra import LamostData, Split
from kexue_cli.tasks.lamost.training import Batch, Batches, CrossEntropy, SoftF1
from kexue_cli.train.stage import Loss, Stage

STAGE_1 = "cross_entropy"  # also the name of the checkpoint with the best weights of this stage
STAGE_2 = "soft_f1"
POST_SHARES = {"star": 0.8, "unknown": 0.1, "galaxy": 0.05, "qso": 0.05}
CACHED_BYTES = 2**30  # normalised training spectra are kept in memory up to this size


def make_stages(
    ctx: Context, model: SpectrumClassifier, data: LamostData, after_stage_1: Callable[[], None]
) -> list[Stage]:
    """The stages that have steps; `after_stage_1` is called when the model is at its best there."""
    options = OmegaConf.to_object(ctx.cfg.task)
    assert isinstance(options, LamostTask)
    assert data.train is not None
    read = _reader(data.train)
    stages: list[Stage] = []
    for name, loss in _losses(ctx, options, data).items():
        settings: StageConfig = getattr(options, name)
        steps = min(settings.steps, ctx.cfg.limit.steps or settings.steps)
        if steps == 0:
            continue
        batch_size = settings.batch_size or options.batch_size
        batches = _batches(ctx, name, options, batch_size, data, model, read)
        stages.append(
            Stage(
                name,
                steps,
                loss,
                _announced(batches, after_stage_1) if name == STAGE_2 and stages else batches,
                evaluate_every=min(options.evaluate_every, steps),
                optim=_optim(ctx.cfg.optim, settings.lr),
                from_best=True,
                patience=settings.patience,
                unit="spectra",
            )
        )
    return stages


def _losses(
    ctx: Context, options: LamostTask, data: LamostData
) -> dict[str, Callable[[nn.Module, Batch], Loss]]:
    weights = None
    if options.class_weights is not None:
        weights = torch.tensor(options.class_weights)
    return {
        STAGE_1: CrossEntropy(options.label_smoothing, weights),
        STAGE_2: SoftF1(ctx.ranks),
    }


def _announced(batches: Batches, begun: Callable[[], None]) -> Callable[[int], Iterator[Batch]]:
    """Call `begun` before batch 0: the loop asks for it once the stage's weights are in place."""

    def start(first_step: int) -> Iterator[Batch]:
        if first_step == 0:
            begun()
        return batches(first_step)

    return start


def _batches(
    ctx: Context,
    stage: str,
    options: LamostTask,
    batch_size: int,
    data: LamostData,
    model: SpectrumClassifier,
    read: Callable[[Rows], NDArray[np.float32]],
) -> Batches:
    assert data.train is not None
    labels = data.train.labels
    assert labels is not None
    augmentation = Augmentation(**asdict(options.augment))
    return Batches(
        read,
        labels,
        _sampler(labels, options, batch_size, data, ctx.seeds.integer(f"batches {stage}")),
        None if augmentation == Augmentation() else augmentation,
        model,
        ctx.seeds.integer(f"dropout {stage}"),
        ctx.ranks,
        ctx.device.torch_device,
    )


def _sampler(
    labels: Rows, options: LamostTask, batch_size: int, data: LamostData, seed: int
) -> Sampler:
    kind, shares = options.sampling.name, options.class_shares
    if shares is None:
        shares = list(POST_SHARES.values())
        if tuple(data.class_names) != tuple(POST_SHARES) and kind == "auto":
            kind = "natural"
    kind = "fixed" if kind == "auto" else kind
    return make_sampler(kind, labels, data.class_names, shares, batch_size, seed)


def _reader(train: Split) -> Callable[[Rows], NDArray[np.float32]]:
    """Rows → normalised flux, out of memory where all training spectra fit there."""
    if train.source.flux.shape[1] * len(train) * 4 > CACHED_BYTES:
        return train.flux
    flux = train.flux()
    return lambda rows: flux[rows]


def _optim(cfg: DictConfig, lr: float | None) -> OptimConfig:
    optim: Any = OmegaConf.to_object(cfg)
    if not isinstance(optim, OptimConfig):
        raise ConfigError("optim", "task=lamost needs an optimiser: keras_adam, adam, adamw, sgd")
    return optim if lr is None else replace(optim, lr=lr)

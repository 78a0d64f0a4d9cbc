"""How long a run trains: one stage, or the stages of Burda et al. 2016."""

from __future__ import annotations

from omegaconf import DictConfig

from kexue_cli.config import OptimConfig
from kexue_cli.tasks.vae.cells import Batches, Workbench
from kexue_cli.train.stage import Stage

LOG_EVERY_STEPS = 200  # at most; small data sets once an epoch, but not every few steps


def epochs_and_rates(task: DictConfig) -> list[tuple[int, float]]:
    """(epochs, factor of the learning rate) of each stage.

    Burda et al.: 3^(i-1) epochs in stage i, the rate 1e-3 rounded as in the authors' code.
    """
    if task.stages is None:
        return [(task.epochs, 1.0)]
    return [(3**i, round(10 ** (1 - i / 7), 1) / 10) for i in range(task.stages)]


def epochs(task: DictConfig) -> int:
    """Epochs of all stages."""
    return sum(count for count, _ in epochs_and_rates(task))


def stages(cfg: DictConfig, bench: Workbench, batches: Batches) -> list[Stage]:
    """What the training loop runs; `limit.steps` leaves that many steps of the first stage."""
    plan = epochs_and_rates(cfg.task)
    made, first = [], 0
    for number, (count, factor) in enumerate(plan, start=1):
        steps = count * batches.per_epoch
        name = f"stage {number} of {len(plan)}"
        if cfg.limit.steps is not None:
            return [_stage(cfg, bench, batches, name, min(steps, cfg.limit.steps), 0, factor)]
        made.append(_stage(cfg, bench, batches, name, steps, first, factor))
        first += steps
    return made


def _stage(
    cfg: DictConfig,
    bench: Workbench,
    batches: Batches,
    name: str,
    steps: int,
    first: int,
    factor: float,
) -> Stage:
    optim: OptimConfig = cfg.optim.copy()
    optim.lr = cfg.optim.lr * factor
    return Stage(
        name,
        steps,
        bench.loss,
        lambda step: batches.starting(first + step),
        cfg.task.evaluate_every_epochs * batches.per_epoch,
        optim,
        log_every=max(10, min(batches.per_epoch, LOG_EVERY_STEPS)),
        unit="images",
    )

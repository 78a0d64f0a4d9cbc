"""The one runner: it knows the order of a run and no task by name."""

from __future__ import annotations

import contextlib
import errno
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kexue_cli.config import Mode, locate, plain
from kexue_cli.errors import ConfigError, Interrupted, UserError
from kexue_cli.run import checkpoint, trackers
from kexue_cli.run.console import Console
from kexue_cli.run.context import Context
from kexue_cli.run.device import Device, choose
from kexue_cli.run.directory import RunDirectory
from kexue_cli.run.dry_run import say_cost
from kexue_cli.run.metrics_log import MetricsLog
from kexue_cli.run.profiling import profiled
from kexue_cli.run.ranks import Ranks, joined
from kexue_cli.run.record import RunRecord
from kexue_cli.run.seeds import Seeds
from kexue_cli.run.signals import StopFlag
from kexue_cli.run.summary import say_changes, say_results, say_start
from kexue_cli.tasks.base import Metric, Task

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@dataclass
class RunResult:
    """Where a finished run lies and what it scored."""

    directory: Path
    metrics: dict[str, Any]


def run(cfg: DictConfig, overrides: list[str]) -> RunResult:
    """Do one run from a checked configuration.

    Raises:
        UserError: bad input; the run directory's status says "failed" and why.
        Interrupted: a signal stopped it; the status says "interrupted".
    """
    if cfg.dry_run and cfg.run_dir is None:
        with tempfile.TemporaryDirectory(prefix="kexue-dry-run-") as folder:
            cfg.run_dir = f"{folder}/run"
            return run(cfg, overrides)
    task_class = locate(cfg.task._target_, "task")
    if cfg.mode.name not in task_class.modes:
        modes = ", ".join(task_class.modes)
        raise ConfigError("mode", f"task={cfg.task.name} has {modes}; not {cfg.mode.name}")
    trackers.check(cfg)
    device = choose(cfg, task_class.bf16_on_cpu, _saved_threads(cfg))
    stop = StopFlag()
    with stop.installed(), joined(device.type) as ranks:
        directory = _directory(cfg, ranks)
        with _disk_errors_named(directory.path):
            ctx = _open(cfg, overrides, directory, device, ranks, stop)
            with _status_recorded(ctx):
                metrics = _steps(task_class(cfg), ctx)
        return RunResult(directory.path, metrics)


def _saved_threads(cfg: DictConfig) -> int | None:
    if cfg.resume is None:
        return None
    return RunDirectory(Path(cfg.resume)).read_json("run.json").get("threads")


def _open(
    cfg: DictConfig,
    overrides: list[str],
    directory: RunDirectory,
    device: Device,
    ranks: Ranks,
    stop: StopFlag,
) -> Context:
    """Begin (or go on with) the record of a run and put everything a task needs together."""
    console = Console(quiet=not ranks.is_main)
    config = plain(cfg)
    if ranks.is_main:
        console.open_log(directory.path / "run.log")
    record = RunRecord.start(directory, config, overrides)
    record.update(**device.describe(), ranks=ranks.size)
    earlier = _earlier_config(directory)
    directory.write_text("config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)))
    directory.write_text(".hydra/overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(overrides)))
    log = MetricsLog(
        directory.path / "metrics.jsonl" if ranks.is_main else None,
        trackers.start(cfg, directory, config) if ranks.is_main else [],
    )
    seeds = Seeds(int(cfg.seed))
    ctx = Context(cfg, directory, record, log, device, seeds, stop, ranks, console)
    ctx.resume = _resume_state(ctx)
    say_start(ctx)
    if cfg.resume is not None:
        say_changes(ctx, earlier)
    return ctx


def _earlier_config(directory: RunDirectory) -> dict[str, Any]:
    """What the run in this directory began with; {} for a new one."""
    path = directory.path / "config.yaml"
    earlier = OmegaConf.load(path) if path.exists() else OmegaConf.create({})
    assert isinstance(earlier, DictConfig)
    return plain(earlier)


def _directory(cfg: DictConfig, ranks: Ranks) -> RunDirectory:
    """Make (or find again) the run directory."""
    path = None
    if ranks.is_main:
        if cfg.resume is not None:
            path = RunDirectory.reopen(Path(cfg.resume)).path
        elif cfg.run_dir is not None:
            path = RunDirectory.claim(Path(cfg.run_dir)).path
        else:
            made = RunDirectory.create(Path(cfg.output_dir), cfg.task.name, cfg.model.name)
            path = made.path
    path = ranks.broadcast_object(path)
    assert path is not None
    return RunDirectory(path, writable=ranks.is_main)


def _resume_state(ctx: Context) -> dict[str, Any] | None:
    """State of the last checkpoint of the run that goes on; the log is cut back to it."""
    if ctx.cfg.resume is None:
        return None
    path = ctx.directory.path / "checkpoints" / "last.pt"
    if not path.exists():
        ctx.console.warn(f"{ctx.directory.path} has no checkpoint yet: starting from the beginning")
        ctx.log.rewind(0)
        return None
    state = checkpoint.load(path, ctx.cfg.task.name, ctx.cfg.model.name)
    ctx.log.rewind(int(state["metrics_position"]))
    return state


@contextlib.contextmanager
def _disk_errors_named(folder: Path) -> Iterator[None]:
    """A failed write, unlike a failed open, does not say where; it was in the run directory."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in DISK_ERRORS:
            error.filename = str(folder)
        raise


@contextlib.contextmanager
def _status_recorded(ctx: Context) -> Iterator[None]:
    """However the run ends, run.json says how."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        ctx.record.finish("interrupted")
        ctx.console.say(f"Stopped. Go on with: kexue-run resume={ctx.directory.path}")
        raise
    except BaseException as error:
        _record_failure(ctx, error)
        raise
    else:
        ctx.record.finish("done")
    finally:
        ctx.log.close()
        ctx.console.close_log()


def _record_failure(ctx: Context, error: BaseException) -> None:
    text = f"{type(error).__name__}: {error}"
    # On a full disk this fails too, and must not hide the error itself.
    with contextlib.suppress(OSError):
        ctx.record.finish("failed", text)
    with contextlib.suppress(OSError):
        ctx.console.to_log(f"error: {text}")
        if not isinstance(error, UserError):
            ctx.console.to_log("".join(traceback.format_exception(error)).rstrip())


def _steps(task: Task, ctx: Context) -> dict[str, Any]:
    """The story of a run, from data to submission."""
    mode = ctx.cfg.mode
    ctx.seeds.seed_global("start")
    task.prepare(ctx)
    _record_fingerprint(ctx)
    if ctx.cfg.checkpoint is not None and ctx.resume is None:
        task.load(ctx, str(ctx.cfg.checkpoint))
    if mode is Mode.generate:
        task.generate(ctx)
        return {}
    if ctx.cfg.dry_run:
        say_cost(task, ctx)
        return {}
    if mode is Mode.train:
        with profiled(ctx):
            task.fit(ctx)
    metrics: dict[str, Any] = {}
    if mode is not Mode.predict:
        metrics = _evaluate(task, ctx)
    if mode is not Mode.evaluate:
        _predict(task, ctx)
    _plot(task, ctx)
    say_results(ctx, metrics)
    return metrics


def _record_fingerprint(ctx: Context) -> None:
    found, earlier = ctx.data_fingerprint, ctx.record.content.get("data_fingerprint")
    if ctx.resume is not None and earlier not in (None, found):
        raise UserError(
            f"resume={ctx.directory.path}: the data are not those the run began with "
            f"(fingerprint {found[:12]}, then {earlier[:12]}). Restore them or start a new run"
        )
    ctx.record.update(data_fingerprint=found)


def _evaluate(task: Task, ctx: Context) -> dict[str, Any]:
    by_split = {split: task.evaluate(ctx, split) for split in task.splits()}
    metrics: dict[str, Any] = {"primary": _primary(task.primary, by_split), **by_split}
    ctx.directory.write_json("metrics.json", metrics)
    return metrics


def _primary(metric: Metric, by_split: dict[str, dict[str, float]]) -> dict[str, Any] | None:
    value = by_split.get(metric.split, {}).get(metric.name)
    if value is None:
        return None
    return {"name": metric.name, "value": value, "mode": metric.mode, "split": metric.split}


def _predict(task: Task, ctx: Context) -> None:
    predictions = task.predict(ctx)
    if predictions is None:
        return
    ctx.directory.write_table("predictions.csv", predictions.as_columns())
    if (validated := task.validation_predictions(ctx)) is not None:
        ctx.directory.write_table("predictions_valid.csv", validated.as_columns())
    submission = task.submission(predictions)
    if submission is not None:
        ctx.directory.write_text("submission.csv", submission.to_text())
        ctx.directory.write_json("submission_rules.json", submission.rules())


def _plot(task: Task, ctx: Context) -> None:
    """Pictures are welcome, but a run is not lost for want of them."""
    if not ctx.ranks.is_main:
        return
    try:
        task.plots(ctx)
    except (UserError, OSError) as error:
        ctx.console.warn(f"no pictures: {error}")

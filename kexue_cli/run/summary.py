"""What is said at the start and at the end of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kexue_cli.run.console import show

if TYPE_CHECKING:
    from kexue_cli.run.context import Context

FILES_TO_NAME = ("submission.csv", "predictions.csv", "metrics.json", "checkpoints", "plots")


def say_start(ctx: Context) -> None:
    """What runs, where, with which settings."""
    cfg, device = ctx.cfg, ctx.device
    choice = f"task={cfg.task.name} model={cfg.model.name} data={cfg.data.name}"
    ctx.console.say(f"kexue-run {choice} mode={cfg.mode.name} seed={cfg.seed}")
    why = f" ({device.reason})" if device.reason else ""
    ranks = f", {ctx.ranks.size} processes" if ctx.ranks.size > 1 else ""
    arithmetic = f"{device.precision.name}, {device.threads} threads"
    ctx.console.say(f"device {device.torch_device}, {arithmetic}{ranks}{why}")
    for group in ("task", "model", "data", "optim"):
        settings = _settings(cfg[group])
        if settings:
            ctx.console.say(f"{group}: {settings}")
    ctx.console.say(f"run directory: {ctx.directory.path}")


def _settings(node: Any) -> str:
    hidden = ("_target_", "name", "task")
    items = [(key, node[key]) for key in node if key not in hidden and node[key] is not None]
    return "  ".join(f"{key}={getattr(value, 'name', value)}" for key, value in items)


def say_results(ctx: Context, metrics: dict[str, Any]) -> None:
    """A table of all numbers that are single, published ones beside them, and where things lie."""
    rows = [
        {"split": split, "metric": name, "value": value, **_expected(ctx, split, name)}
        for split, values in metrics.items()
        if split != "primary" and values
        for name, value in values.items()
        if isinstance(value, (int, float))
    ]
    ctx.console.table("Results", rows)
    primary = metrics.get("primary")
    if primary:
        ctx.console.say(f"{primary['split']}/{primary['name']} = {show(primary['value'])}")
    for name in FILES_TO_NAME:
        if (ctx.directory.path / name).exists():
            ctx.console.say(f"  {ctx.directory.path / name}")


def _expected(ctx: Context, split: str, name: str) -> dict[str, Any]:
    """A column for published values, in runs of experiments that quote some."""
    if not ctx.cfg.expected:
        return {}
    entry = ctx.cfg.expected.get(f"{split}/{name}")
    return {"published": "" if entry is None else f"{show(entry['value'])} ({entry['source']})"}

"""What is said at the start and at the end of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kexue_cli.config import plain
from kexue_cli.run.console import show

if TYPE_CHECKING:
    from kexue_cli.run.context import Context

FILES_TO_NAME = ("submission.csv", "predictions.csv", "metrics.json", "checkpoints", "plots")
FILES_OF_EVERY_RUN = (
    "config.yaml",
    "run.json",
    "run.log",
    "metrics.jsonl",
    "submission_rules.json",
)
NAMED = 6  # files of a task's own


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


def say_changes(ctx: Context, earlier: dict[str, Any]) -> None:
    """Settings that are not those of `earlier`, the configuration the run began with."""
    now = plain(ctx.cfg)
    changed = [
        f"{key}={_word(new)} (was {_word(old)})"
        for group in ("seed", "task", "model", "data", "optim", "limit")
        for key, old, new in _differences(group, earlier.get(group), now[group])
    ]
    if changed:
        ctx.console.say(
            f"changed since the run began: {', '.join(changed)}; what is done is not done again"
        )


def _differences(key: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Dotted key and both values of everything that differs in two trees."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*old, *new]):
            yield from _differences(f"{key}.{name}", old.get(name), new.get(name))
    elif old != new:
        yield key, old, new


def _word(value: Any) -> str:
    return "null" if value is None else str(value)


def say_results(ctx: Context, metrics: dict[str, Any]) -> None:
    """All numbers, a row a metric and a column a split; published ones; where things lie."""
    splits = {name: values for name, values in metrics.items() if name != "primary" and values}
    names = dict.fromkeys(
        name
        for values in splits.values()
        for name, value in values.items()
        if isinstance(value, (int, float))
    )
    rows = [
        {
            "metric": name,
            **{split: values.get(name, "") for split, values in splits.items()},
        }
        for name in names
    ]
    ctx.console.table("Results", rows)
    ctx.console.table("Published against obtained", list(_compared(ctx, splits)))
    primary = metrics.get("primary")
    if primary:
        ctx.console.say(f"{primary['split']}/{primary['name']} = {show(primary['value'])}")
    for name in FILES_TO_NAME:
        if (ctx.directory.path / name).exists():
            ctx.console.say(f"  {ctx.directory.path / name}")
    own = sorted(
        path.name
        for path in ctx.directory.path.iterdir()
        if path.is_file() and path.name not in (*FILES_TO_NAME, *FILES_OF_EVERY_RUN)
    )
    if own:
        more = f", {len(own) - NAMED} more" if len(own) > NAMED else ""
        ctx.console.say(f"  there, too: {', '.join(own[:NAMED])}{more}")


def _compared(ctx: Context, splits: dict[str, dict[str, Any]]) -> Iterator[dict[str, str]]:
    """A row for every number that the experiment quotes, to eight digits, beside the run's own."""
    for key, quoted in (ctx.cfg.expected or {}).items():
        split, _, name = key.partition("/")
        obtained = splits.get(split, {}).get(name)
        if obtained is not None:
            yield {
                "metric": key,
                "published": f"{quoted['value']:.8g}",
                "obtained": f"{obtained:.8g}",
                "difference": f"{obtained - quoted['value']:+.1e}",
                "source": quoted["source"],
            }

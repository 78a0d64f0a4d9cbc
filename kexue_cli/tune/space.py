"""Search spaces: conf/sweep/<name>.yaml, or any YAML file of the user.

    # one line that says what is searched
    metric: valid/macro_f1
    direction: maximize
    overrides: [task=lamost, model=conv1d_res]
    space:
      optim.lr: {low: 1.0e-4, high: 1.0e-2, log: true}
      model.hidden: [64, 128, 256]
      task.batch_size: {low: 32, high: 256, step: 32}

A list is a choice; a range of whole numbers stays whole.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kexue_cli.errors import UserError
from kexue_cli.paths import conf_dir

KEYS = ("metric", "direction", "overrides", "space", "trials", "sampler", "pruner")
RANGE_KEYS = ("low", "high", "log", "step")


@dataclass(frozen=True)
class Space:
    """What is searched: `parameters` maps a setting to a list of choices or to a range."""

    name: str
    metric: str
    direction: str
    overrides: tuple[str, ...]
    parameters: Mapping[str, Any]
    defaults: Mapping[str, Any]

    @property
    def split_and_name(self) -> tuple[str, str]:
        """The metric's split and its name."""
        split, _, name = self.metric.partition("/")
        return split, name


def load(text: str) -> Space:
    """The space of this name (conf/sweep) or file.

    Raises:
        UserError: it is not there, or a part of it makes no sense; the key is named.
    """
    import yaml

    path = Path(text) if text.endswith((".yaml", ".yml")) else conf_dir() / "sweep" / f"{text}.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        known = sorted(p.stem for p in (conf_dir() / "sweep").glob("*.yaml"))
        raise UserError(
            f"there is no search space {text!r}. conf/sweep has: {', '.join(known)}"
        ) from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is no YAML: {error}") from error
    return check(content, path)


def check(content: Any, path: Path) -> Space:
    """Make a Space of a file's content, or raise UserError naming file and key."""
    if not isinstance(content, dict) or not isinstance(content.get("space"), dict):
        raise UserError(f"{path}: expected the keys metric, direction and space")
    unknown = [key for key in content if key not in KEYS]
    if unknown:
        near = difflib.get_close_matches(str(unknown[0]), KEYS, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Valid: {', '.join(KEYS)}"
        raise UserError(f"{path}: unknown key {unknown[0]!r}. {hint}")
    if "/" not in str(content.get("metric", "")):
        raise UserError(f"{path}: metric: expected split/name such as valid/macro_f1")
    if content.get("direction") not in ("maximize", "minimize"):
        raise UserError(f"{path}: direction: expected maximize or minimize")
    for key, values in content["space"].items():
        _check_parameter(f"{path}: space.{key}", values)
    return Space(
        path.stem,
        content["metric"],
        content["direction"],
        tuple(map(str, content.get("overrides", ()))),
        content["space"],
        {key: content[key] for key in ("trials", "sampler", "pruner") if key in content},
    )


def _check_parameter(place: str, values: Any) -> None:
    if isinstance(values, list) and len(values) >= 2:
        return
    if not isinstance(values, dict) or not {"low", "high"} <= values.keys() <= set(RANGE_KEYS):
        raise UserError(f"{place}: expected a list of several choices, or low, high (log, step)")
    low, high = values["low"], values["high"]
    if isinstance(low, str) or isinstance(high, str):
        # YAML reads 1e-4 as a word; 1.0e-4 is a number.
        raise UserError(f"{place}: {low!r} and {high!r} must be numbers; write 1.0e-4, not 1e-4")
    if not low < high:
        raise UserError(f"{place}: low {low} must be below high {high}")
    if values.get("log") and (low <= 0 or "step" in values):
        raise UserError(f"{place}: log needs low above 0 and no step")


def suggest(trial: Any, space: Space) -> dict[str, Any]:
    """Ask the sampler for a value of every parameter."""
    chosen = {}
    for key, values in space.parameters.items():
        if isinstance(values, list):
            chosen[key] = trial.suggest_categorical(key, [_plain(v) for v in values])
            continue
        whole = isinstance(values["low"], int) and isinstance(values["high"], int)
        ask = trial.suggest_int if whole else trial.suggest_float
        options = {k: values[k] for k in ("log", "step") if k in values}
        chosen[key] = ask(key, values["low"], values["high"], **options)
    return chosen


def _plain(value: Any) -> Any:
    """Optuna stores numbers, words and None; lists become the text that Hydra reads."""
    return value if isinstance(value, (bool, int, float, str)) or value is None else str(value)


def grid(space: Space) -> dict[str, list[Any]]:
    """All values of every parameter.

    Raises:
        UserError: a range without a step has endlessly many.
    """
    values: dict[str, list[Any]] = {}
    for key, given in space.parameters.items():
        if isinstance(given, list):
            values[key] = [_plain(v) for v in given]
            continue
        whole = isinstance(given["low"], int) and isinstance(given["high"], int)
        step = given.get("step", 1 if whole and not given.get("log") else None)
        if step is None:
            raise UserError(f"space.{key}: a grid needs a list of values, or a step")
        count = int((given["high"] - given["low"]) / step + 1e-9) + 1
        values[key] = [given["low"] + i * step for i in range(count)]
    return values


def as_overrides(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Settings as words of the command line."""
    return tuple(f"{key}={'null' if v is None else v}" for key, v in settings.items())

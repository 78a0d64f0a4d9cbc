"""What a search leaves behind: the best settings as an experiment, trials.csv, pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kexue_cli.extras import require
from kexue_cli.manage import tables
from kexue_cli.paths import conf_dir
from kexue_cli.run.files import replacing, write_text
from kexue_cli.tune.space import Space, as_overrides


def write_results(directory: Path, study: Any, space: Space, words: tuple[str, ...]) -> None:
    """Write trials.csv, experiment/best.yaml and the pictures, as far as there are results."""
    rows = trial_rows(study, space)
    write_text(directory / "trials.csv", tables.render(rows, format="csv") + "\n")
    optuna = require("optuna", extra="tune")
    completed = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    if not completed:
        return
    write_text(directory / "experiment" / "best.yaml", best_experiment(study, space, words))
    write_pictures(directory / "plots", study, len(completed))


def trial_rows(study: Any, space: Space) -> list[tables.Row]:
    """One row per trial."""
    return [
        {"trial": t.number, "state": t.state.name.lower(), **t.params, space.metric: t.value}
        for t in study.get_trials(deepcopy=False)
    ]


def importance_rows(study: Any) -> list[tables.Row]:
    """How much each parameter mattered, in shares; nothing where that cannot be told yet."""
    optuna = require("optuna", extra="tune")
    completed = study.get_trials(states=(optuna.trial.TrialState.COMPLETE,))
    if len({trial.value for trial in completed}) < 2:
        return []
    try:
        shares = optuna.importance.get_param_importances(study)
    except (ValueError, RuntimeError):
        # Parameters that were never varied, or too few trials.
        return []
    return [{"parameter": name, "importance": float(share)} for name, share in shares.items()]


def best_experiment(study: Any, space: Space, words: tuple[str, ...]) -> str:
    """An experiment file: kexue-run --config-dir <study> experiment=best."""
    import yaml

    best = study.best_trial
    settings = (*words, *as_overrides(best.params))
    groups: list[str | dict[str, str]] = []
    values: dict[str, Any] = {}
    for word in settings:
        key, _, value = word.lstrip("+").partition("=")
        if (conf_dir() / key).is_dir():
            groups.append({f"override /{key}": value})
        else:
            _put(values, key.split("."), yaml.safe_load(value))
    values["experiment"] = "best"
    header = (
        "# @package _global_\n"
        f"# trial {best.number} of {len(study.trials)} in {space.name}: "
        f"{space.metric} {best.value:.5g}\n"
    )
    body = {"defaults": [*groups, "_self_"], **values}
    return header + yaml.safe_dump(body, sort_keys=False, allow_unicode=True)


def _put(tree: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
    tree[keys[-1]] = value


def write_pictures(folder: Path, study: Any, completed: int) -> None:
    """history.png and importance.png."""
    import warnings

    pyplot = require("matplotlib.pyplot", extra="tune")
    optuna = require("optuna", extra="tune")
    pyplot.switch_backend("Agg")
    folder.mkdir(exist_ok=True)
    drawings = {"history": optuna.visualization.matplotlib.plot_optimization_history}
    if completed >= 2 and importance_rows(study):
        drawings["importance"] = optuna.visualization.matplotlib.plot_param_importances
    for name, draw in drawings.items():
        with warnings.catch_warnings():
            # Optuna marks its matplotlib pictures as experimental.
            warnings.simplefilter("ignore")
            draw(study)
        with replacing(folder / f"{name}.png") as temporary:
            pyplot.savefig(temporary, format="png", dpi=120, bbox_inches="tight")
        pyplot.close("all")

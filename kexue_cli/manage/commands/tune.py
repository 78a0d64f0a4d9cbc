"""Search for good settings with Optuna.

  kexue tune lamost_conv1d                          the space conf/sweep/lamost_conv1d.yaml
  kexue tune lamost_conv1d data=dash_sn --trials 50 --sampler cmaes
  kexue tune --study last --trials 80               go on: 80 trials in all
  kexue tune --study DIR --workers 2                also from several shells or machines at once

Every trial is a run of its own; hopeless ones are stopped early (--pruner none to let them run).
The best settings end up in <study>/experiment/best.yaml:
  kexue-run --config-dir <study> experiment=best
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from kexue_cli.errors import UserError
from kexue_cli.manage import tables
from kexue_cli.manage.arguments import add_root_argument
from kexue_cli.run.directory import RunDirectory
from kexue_cli.run.files import write_json

NAME = "tune"
HELP = "search for good settings with Optuna"
WORDS = "words"
DEFAULTS = {"trials": 20, "sampler": "tpe", "pruner": "median", "storage": "sqlite"}
FAILURES_TO_GIVE_UP = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `kexue tune`."""
    parser.add_argument("words", nargs="*", metavar="SPACE KEY=VALUE", help="space, then overrides")
    parser.add_argument("--study", metavar="DIR", help="go on with this study, or with the last")
    parser.add_argument("--trials", type=int, metavar="N", help="trials in all (default: 20)")
    parser.add_argument("--sampler", choices=("tpe", "cmaes", "random", "grid"))
    parser.add_argument("--pruner", choices=("median", "hyperband", "none"))
    parser.add_argument("--storage", help="sqlite (default), journal, or a database URL")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="trials at a time")
    parser.add_argument("--timeout", type=float, metavar="MINUTES", help="start no trial after it")
    parser.add_argument("--seed", type=int, default=0, help="of the sampler")
    add_root_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Search, then say what was best."""
    from kexue_cli.tune import space as spaces
    from kexue_cli.tune.results import write_results
    from kexue_cli.tune.study import open_study
    from kexue_cli.tune.trial import Search

    if args.workers < 1 or (args.trials is not None and args.trials < 1):
        raise UserError("--workers and --trials must be at least 1")
    directory, settings = _directory(args)
    space = spaces.check(settings["content"], Path(settings["space"]))
    words = (*space.overrides, *settings["words"], f"output_dir={args.root}")
    with open_study(
        directory, space, settings["sampler"], settings["pruner"], settings["storage"], args.seed
    ) as study:
        search = Search(directory, space, words, study, args.workers)
        try:
            received = optimize(search, int(settings["trials"]), args.workers, args.timeout)
        finally:
            write_results(directory, study, space, words)
        say_results(directory, study, space)
    return 128 + received if received else 0


def _directory(args: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """The study's directory and what study.json says, new or continued."""
    if args.study is not None:
        return _continued(args)
    from kexue_cli.tune import space as spaces

    if not args.words or "=" in args.words[0]:
        raise UserError("name a search space first: kexue tune SPACE, or --study DIR to go on")
    space = spaces.load(args.words[0])
    given = {key: getattr(args, key) for key in DEFAULTS if getattr(args, key) is not None}
    settings = {**DEFAULTS, **space.defaults, **given}
    settings |= {"schema_version": 1, "space": space.name, "words": args.words[1:]}
    settings["content"] = {
        "metric": space.metric,
        "direction": space.direction,
        "overrides": list(space.overrides),
        "space": dict(space.parameters),
    }
    task = _task([*space.overrides, *args.words[1:]])
    directory = RunDirectory.create(args.root, task, "sweeps").path
    write_json(directory / "study.json", settings)
    print(f"study: {directory}", flush=True)
    return directory, settings


def _task(words: list[str]) -> str:
    """The task of these overrides; a misspelt key is found before any trial."""
    from kexue_cli.command_line import explain
    from kexue_cli.config import register_schemas
    from kexue_cli.sweep.plan import sort_words, task_of

    register_schemas()
    try:
        return task_of(sort_words(words), words)
    except UserError:
        raise
    except Exception as error:
        raise UserError(explain(error, words) or str(error)) from error


def _continued(args: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    if args.words:
        raise UserError("--study goes on with the study's own space and overrides; leave them out")
    directory = Path(args.study)
    if args.study == "last":
        found = sorted(args.root.glob("*/sweeps/*/study.json"), key=lambda path: path.parent.name)
        if not found:
            raise UserError(f"there is no study below {args.root}")
        directory = found[-1].parent
    try:
        settings = json.loads((directory / "study.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{directory} is no study: study.json cannot be read ({error})") from error
    if settings.get("schema_version") != 1:
        raise UserError(f"{directory}/study.json was written by a newer version")
    if args.storage not in (None, settings["storage"]):
        raise UserError(f"this study's storage is {settings['storage']}, not {args.storage}")
    given = {key: getattr(args, key) for key in DEFAULTS if getattr(args, key) is not None}
    return directory, {**settings, **given}


def optimize(search: Any, trials: int, workers: int, timeout_minutes: float | None) -> int:
    """Run trials until there are `trials` in all; returns the signal that stopped it, or 0.

    Raises:
        UserError: the first trials all failed.
    """
    from kexue_cli.sweep.session import stoppable
    from kexue_cli.tune.study import finished, retry_unfinished
    from kexue_cli.tune.trial import Failed, write_plan

    plan = write_plan(search.directory, search.study, search.words, {})
    again = retry_unfinished(search.study, plan)
    left = trials - finished(search.study)
    print(f"{finished(search.study)} trials are done, {max(0, left)} to go", end="")
    print(f", {again} of them again" if again else "", flush=True)
    (search.directory / "stop").unlink(missing_ok=True)
    failures = 0

    def watch(study: Any, trial: Any) -> None:
        nonlocal failures
        failures = failures + 1 if trial.state.name == "FAIL" else 0
        if failures >= FAILURES_TO_GIVE_UP or finished(study) >= trials:
            study.stop()

    with stoppable(search.directory) as received:
        if left > 0:
            seconds = None if timeout_minutes is None else 60 * timeout_minutes
            search.study.optimize(
                search,
                n_trials=left + FAILURES_TO_GIVE_UP,
                n_jobs=workers,
                timeout=seconds,
                catch=(Failed,),
                callbacks=[watch],
            )
    if received:
        print(f"Stopped. Go on with: kexue tune --study {search.directory}")
    elif failures >= FAILURES_TO_GIVE_UP:
        raise UserError(
            f"the last {failures} trials failed; their logs are in {search.directory / 'logs'}"
        )
    return received[0] if received else 0


def say_results(directory: Path, study: Any, space: Any) -> None:
    """The best trials, what mattered, and where the best settings are."""
    from kexue_cli.tune.results import importance_rows, trial_rows

    rows = [row for row in trial_rows(study, space) if row[space.metric] is not None]
    if not rows:
        print("no trial was completed")
        return
    sign = -1 if space.direction == "maximize" else 1
    rows.sort(key=lambda row: sign * float(row[space.metric]))
    print(f"\nbest of {len(rows)} completed trials\n{tables.render(rows[:5])}")
    importance = importance_rows(study)
    if importance:
        print(f"\n{tables.render(importance)}")
    print(f"\nkexue-run --config-dir {directory} experiment=best")

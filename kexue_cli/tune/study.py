"""The study on disk: storage, sampler, pruner; what an earlier process left unfinished."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kexue_cli.errors import UserError
from kexue_cli.extras import require
from kexue_cli.sweep.job import status_of
from kexue_cli.sweep.plan import Plan
from kexue_cli.tune.space import Space, grid

SAMPLERS = ("tpe", "cmaes", "random", "grid")
PRUNERS = ("median", "hyperband", "none")
LOCK_SECONDS = 60
STUDY = "kexue"


@contextlib.contextmanager
def open_study(
    directory: Path, space: Space, sampler: str, pruner: str, storage: str, seed: int
) -> Iterator[Any]:
    """Make the study or go on with it, and close it; several processes may work on one.

    Raises:
        UserError: the storage is locked or damaged, or belongs to another direction.
    """
    optuna = require("optuna", extra="tune")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with contextlib.ExitStack() as stack:
        try:
            kept = _storage(optuna, directory, storage)
            stack.callback(_close, kept)
            study = _study(optuna, kept, space, sampler, pruner, seed)
        except UserError:
            raise
        except Exception as error:
            raise UserError(_explained(error, directory)) from error
        if study.direction.name.lower() != space.direction:
            found = study.direction.name.lower()
            raise UserError(f"{directory} searches to {found}, not to {space.direction}")
        yield study


def _study(optuna: Any, storage: Any, space: Space, sampler: str, pruner: str, seed: int) -> Any:
    return optuna.create_study(
        study_name=STUDY,
        storage=storage,
        sampler=_sampler(optuna, space, sampler, seed),
        pruner=_pruner(optuna, pruner),
        direction=space.direction,
        load_if_exists=True,
    )


def _storage(optuna: Any, directory: Path, storage: str) -> Any:
    """SQLite or a journal inside the study's directory, or any URL that Optuna takes."""
    if storage == "journal":
        backend = optuna.storages.journal.JournalFileBackend(str(directory / "study.journal"))
        return optuna.storages.JournalStorage(backend)
    url = f"sqlite:///{directory.resolve() / 'study.db'}" if storage == "sqlite" else storage
    options: dict[str, Any] = {}
    if url.startswith("sqlite"):
        from sqlalchemy.pool import NullPool

        # nothing is pooled: where the database is locked, nobody is left to close a pool
        options = {"connect_args": {"timeout": LOCK_SECONDS}, "poolclass": NullPool}
    return optuna.storages.RDBStorage(url, engine_kwargs=options)


def _close(storage: Any) -> None:
    """Close the connections of a database, which stay open otherwise."""
    if engine := getattr(storage, "engine", None):
        storage.remove_session()
        engine.dispose()


def _sampler(optuna: Any, space: Space, name: str, seed: int) -> Any:
    samplers = optuna.samplers
    if name == "grid":
        return samplers.GridSampler(grid(space), seed=seed)
    if name == "cmaes":
        require("cmaes", extra="tune")
        return samplers.CmaEsSampler(seed=seed)
    return samplers.RandomSampler(seed=seed) if name == "random" else samplers.TPESampler(seed=seed)


def _pruner(optuna: Any, name: str) -> Any:
    if name == "none":
        return optuna.pruners.NopPruner()
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner()
    return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=0, n_min_trials=3)


def _explained(error: Exception, directory: Path) -> str:
    text = str(error).partition("\n")[0]
    if "locked" in text:
        return (
            f"the storage in {directory} was locked for {LOCK_SECONDS} s by another process. "
            "Wait for it; on a network file system use --storage journal"
        )
    return f"the storage in {directory} cannot be used: {text}"


def retry_unfinished(study: Any, plan: Plan) -> int:
    """Ask again for trials that a killed or stopped process left; returns how many."""
    optuna = require("optuna", extra="tune")
    state = optuna.trial.TrialState
    asked = {t.user_attrs.get("retry_of") for t in study.get_trials(deepcopy=False)}
    waiting = {t.user_attrs.get("retry_of") for t in study.get_trials(states=(state.WAITING,))}
    count = 0
    for trial in study.get_trials(deepcopy=False):
        if trial.number in asked | waiting or trial.number >= len(plan.jobs):
            continue
        status = status_of(plan, trial.number)
        if trial.state == state.RUNNING and status not in ("running", "pending"):
            study.tell(trial.number, state=state.FAIL)
        elif trial.state != state.FAIL:
            continue
        if status == "interrupted":
            study.enqueue_trial(trial.params, user_attrs={"retry_of": trial.number})
            count += 1
    return count


def finished(study: Any) -> int:
    """Trials that count: completed or pruned, and those that failed by themselves."""
    optuna = require("optuna", extra="tune")
    state = optuna.trial.TrialState
    return len(study.get_trials(deepcopy=False, states=(state.COMPLETE, state.PRUNED)))

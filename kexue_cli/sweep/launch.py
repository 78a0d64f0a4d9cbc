"""Hand the jobs to a launcher of Hydra: this process, joblib, submitit, ray or any other plugin.

Hydra itself only sees `number=0,1,4`, so that one impossible combination of settings cannot keep
the others from starting.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kexue_cli.errors import UserError
from kexue_cli.sweep.job import SweepJob, run_job

# Option of hydra/launcher → its plugin module and our extra.
PLUGINS = {
    "joblib": ("hydra_plugins.hydra_joblib_launcher", "joblib"),
    "submitit_local": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
    "submitit_slurm": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
    "ray": ("hydra_plugins.hydra_ray_launcher", "ray"),
    "ray_aws": ("hydra_plugins.hydra_ray_launcher", "ray"),
}


def launch(directory: Path, numbers: Sequence[int], hydra_words: Sequence[str]) -> None:
    """Run these jobs of the sweep through the launcher that `hydra/launcher=` names.

    Raises:
        UserError: the launcher's package is not installed, or another sweeper is asked for.
    """
    import hydra
    from hydra.core.config_store import ConfigStore

    from kexue_cli.paths import conf_dir

    check_words(hydra_words)
    ConfigStore.instance().store(name="sweep_job", node=SweepJob)
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    quoted = str(directory).replace("'", "\\'")
    sys.argv = [
        sys.argv[0],
        "-m",
        *hydra_words,
        f"directory='{quoted}'",
        "number=" + ",".join(map(str, numbers)),
        f"parent={os.getpid()}",
        f"hydra.sweep.dir='{quoted}/.launcher'",
        "hydra.sweep.subdir=${hydra.job.num}",
        "hydra.output_subdir=null",
        "hydra/job_logging=none",
        "hydra/hydra_logging=none",
    ]
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="sweep_job")(_work)()


def _work(cfg: Any) -> str:
    """What the launcher calls in its worker."""
    parallel = jobs_on_this_machine()
    return run_job(Path(cfg.directory), int(cfg.number), parallel, int(cfg.parent))


def jobs_on_this_machine() -> int:
    """How many jobs the launcher runs at once here; clusters give each job its own share."""
    from hydra.core.hydra_config import HydraConfig

    settings = HydraConfig.get()
    if settings.runtime.choices.get("hydra/launcher") != "joblib":
        return 1
    n_jobs = settings.launcher.get("n_jobs", -1)
    cores = os.cpu_count() or 1
    return int(n_jobs) if n_jobs and n_jobs > 0 else max(1, cores + 1 + int(n_jobs or -1))


def check_words(hydra_words: Sequence[str]) -> None:
    """Raise UserError for settings of Hydra which a sweep cannot follow."""
    for word in hydra_words:
        key, _, value = word.lstrip("+").partition("=")
        if key == "hydra/sweeper" and value != "basic":
            raise UserError(f"{word}: a sweep is a grid; for a search use `kexue tune`")
        if key in ("hydra.sweep.dir", "hydra.sweep.subdir", "hydra.run.dir"):
            raise UserError(
                f"{key}: choose the place with output_dir=…, an earlier sweep with sweep=…"
            )
        if key == "hydra/launcher":
            module, extra = PLUGINS.get(value, (None, None))
            if module is not None and not _installed(module):
                raise UserError(
                    f"hydra/launcher={value} needs a package that is not installed. "
                    f"Install it with: pip install 'kexue-cli[{extra}]'"
                )


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False

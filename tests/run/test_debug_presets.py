from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir

from kexue_cli.catalogue import options
from kexue_cli.check import check
from kexue_cli.config import register_schemas
from kexue_cli.paths import conf_dir


@pytest.mark.parametrize("task", [option.name for option in options("task")])
@pytest.mark.parametrize("preset", ["smoke", "overfit", "profile"])
def test_every_debug_preset_fits_every_task(preset: str, task: str) -> None:
    register_schemas()
    with initialize_config_dir(config_dir=str(conf_dir()), version_base="1.3"):
        cfg = compose("config", overrides=[f"task={task}", f"debug={preset}"])
    check(cfg)
    assert cfg.limit.steps is not None
    assert cfg.limit.rows is not None
    assert cfg.profile == (preset == "profile")

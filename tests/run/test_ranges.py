"""Values that all tasks share are refused before any work, by their key."""

from __future__ import annotations

import pytest

from kexue_cli import cli

BETAS = "of at least 0 and below 1"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("optim.lr=nan", "optim.lr: must be above 0, found nan"),
        ("optim.eps=-1", "optim.eps: must be at least 0, found -1.0"),
        ("optim.betas=[2,1]", f"optim.betas: must be two numbers {BETAS}, found [2.0, 1.0]"),
        ("optim.betas=[0.9]", f"optim.betas: must be two numbers {BETAS}, found [0.9]"),
        ("optim.momentum=-1", "optim.momentum: must be at least 0 and below 1, found -1.0"),
        ("optim.ema_decay=1.5", "optim.ema_decay: must be at least 0 and below 1, found 1.5"),
        ("optim.clip_norm=0", "optim.clip_norm: must be above 0, found 0.0"),
        ("optim.warmup_steps=-1", "optim.warmup_steps: must be at least 0, found -1"),
        ("seed=-1", "seed: must be at least 0 and at most 9,223,372,036,854,775,807, found -1"),
        ("checkpoint_minutes=nan", "checkpoint_minutes: must be at least 0, found nan"),
        ("checkpoint_minutes=-1", "checkpoint_minutes: must be at least 0, found -1.0"),
        ("device.threads=0", "device.threads: must be at least 1 and at most 4,096, found 0"),
    ],
)
def test_a_shared_value_out_of_its_range_is_refused(word, message, capsys, tmp_path):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["task=vae", word, f"run_dir={tmp_path / 'run'}"])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()

"""Directory, record, log, seeds and signals of a run."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from kexue_cli.errors import Interrupted, UserError
from kexue_cli.run.context import Context
from kexue_cli.run.directory import RunDirectory
from kexue_cli.run.files import replacing, write_json
from kexue_cli.run.metrics_log import MetricsLog, read_metrics
from kexue_cli.run.record import config_hash, is_alive, process_identity
from kexue_cli.run.seeds import Seeds
from kexue_cli.run.signals import StopFlag


def test_runs_of_the_same_second_do_not_share_a_directory(tmp_path: Path) -> None:
    def make(_: int) -> Path:
        return RunDirectory.create(tmp_path, "em", "gmm").path

    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(make, range(64)))
    assert len(set(paths)) == 64


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot make the run directory.*output_dir="):
        RunDirectory.create(tmp_path / "file", "em", "gmm")


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "outputs").symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match=r"outputs is a link to .*gone, which is no folder"):
        RunDirectory.create(tmp_path / "outputs", "em", "gmm")


def test_a_write_that_fails_says_of_which_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No space left .*a\.txt"), replacing(tmp_path / "a.txt"):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("content", ["{", "[]", "\xff"])
def test_a_damaged_run_json_is_a_users_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        RunDirectory(tmp_path).read_json("run.json")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_that_goes_on_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    left = [tmp_path / ".a.txt.0123abcd.tmp", tmp_path / "checkpoints/.last.pt.89efabcd.tmp"]
    kept = [tmp_path / ".mine.tmp", tmp_path / "a.txt", tmp_path / "checkpoints/last.pt"]
    for path in left + kept:
        path.write_text("")
    RunDirectory.reopen(tmp_path)
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == sorted(kept)


def test_json_is_strict(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": float("nan"), "b": np.float32(0.5), "c": [np.inf]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": None, "b": 0.5, "c": [None]}


def test_the_log_can_be_cut_back_to_a_checkpoint(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log(step=1, loss=0.5)
    position = log.position()
    log(step=2, split="valid", macro_f1=0.25, epoch=0.5)
    log.rewind(position)
    log(step=2, split="valid", macro_f1=0.75)
    log.close()
    assert list(read_metrics(tmp_path / "metrics.jsonl")) == [
        {"step": 1, "split": "train", "loss": 0.5},
        {"step": 2, "split": "valid", "macro_f1": 0.75},
    ]


def test_a_line_still_being_written_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"step": 1}\n{"ste')
    assert list(read_metrics(tmp_path / "m.jsonl")) == [{"step": 1}]


def test_named_streams_differ_and_repeat() -> None:
    seeds = Seeds(3)
    first = seeds.numpy("order").random(4)
    assert np.array_equal(first, Seeds(3).numpy("order").random(4))
    assert not np.array_equal(first, seeds.numpy("init").random(4))
    assert not np.array_equal(first, Seeds(4).numpy("order").random(4))
    assert torch.equal(
        torch.rand(3, generator=seeds.torch("x")), torch.rand(3, generator=seeds.torch("x"))
    )


def test_a_signal_waits_inside_deferred_and_raises_outside() -> None:
    stop, before = StopFlag(), signal.getsignal(signal.SIGINT)
    with stop.installed():
        with stop.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.requested
        with pytest.raises(Interrupted):
            stop.raise_if_requested()
        with pytest.raises(Interrupted, match="signal 2"):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_process_that_is_gone_is_not_alive() -> None:
    mine = process_identity()
    assert is_alive(mine)
    assert not is_alive({**mine, "start_ticks": 1})
    assert not is_alive({**mine, "pid": 2**22 + 1})


def test_the_config_hash_ignores_where_results_go() -> None:
    config = {"seed": 1, "output_dir": "a", "resume": None}
    assert config_hash(config) == config_hash({**config, "output_dir": "b", "resume": "x"})
    assert config_hash(config) != config_hash({**config, "seed": 2})


def test_the_fingerprint_depends_on_values_shape_and_type(
    make_context: Callable[..., Context],
) -> None:
    def fingerprint(*parts: np.ndarray | str) -> str:
        ctx = make_context()
        ctx.fingerprint(*parts)
        return ctx.data_fingerprint

    x = np.arange(6.0)
    assert fingerprint(x, "a") == fingerprint(np.arange(6.0), "a")
    others = [x.reshape(2, 3), x.astype(np.float32), x + 1]
    assert len({fingerprint(other) for other in [x, *others]}) == 4
    assert fingerprint(np.arange(12.0)[::2]) == fingerprint(np.arange(12.0)[::2].copy())

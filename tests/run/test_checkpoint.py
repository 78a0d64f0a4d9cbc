"""Checkpoints: whole, without code, and sure of whose they are."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kexue_cli.errors import UserError
from kexue_cli.run import checkpoint


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoints" / "last.pt"
    checkpoint.save(path, "lamost", "conv1d_res", {"x": torch.arange(3), "step": 7})
    return path


def test_what_was_saved_comes_back(saved: Path) -> None:
    state = checkpoint.load(saved, "lamost", "conv1d_res")
    assert state["step"] == 7
    assert torch.equal(state["x"], torch.arange(3))
    assert [p.name for p in saved.parent.iterdir()] == ["last.pt"]


@pytest.mark.parametrize(
    ("task", "model", "message"),
    [
        ("vae", "conv1d_res", "task=lamost, not of task=vae"),
        ("lamost", "b", "model=conv1d_res, not"),
    ],
)
def test_another_task_or_model_is_refused_by_name(
    saved: Path, task: str, model: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        checkpoint.load(saved, task, model)


@pytest.mark.parametrize("kept_bytes", [0, 100, 900])
def test_a_file_cut_short_is_called_damaged(saved: Path, kept_bytes: int) -> None:
    saved.write_bytes(saved.read_bytes()[:kept_bytes])
    with pytest.raises(UserError, match="damaged or cut short"):
        checkpoint.load(saved, "lamost")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("was_run"),))


def test_a_file_with_code_is_refused_and_the_code_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"task": "lamost", "state": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match="could run code"):
        checkpoint.load(tmp_path / "evil.pt", "lamost")
    with pytest.raises(UserError, match="bare"):
        checkpoint.load(tmp_path / "bare.pt", "lamost")
    assert not (tmp_path / "was_run").exists()


def test_a_full_disk_leaves_the_last_good_checkpoint(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(content: Any, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"No space left.*last good one is still at"):
        checkpoint.save(saved, "lamost", "conv1d_res", {})
    assert checkpoint.load(saved, "lamost")["step"] == 7
    assert [p.name for p in saved.parent.iterdir()] == ["last.pt"]


def test_weights_of_another_shape_are_named_with_both_shapes() -> None:
    wide = nn.Linear(4, 8).state_dict()
    with pytest.raises(UserError, match=r"weight is \(8, 4\) there and \(2, 4\) here"):
        checkpoint.load_weights(nn.Linear(4, 2), wide, "a.pt")
    with pytest.raises(UserError, match="lacks 'bias'"):
        checkpoint.load_weights(nn.Linear(4, 2), {"weight": wide["weight"]}, "a.pt")


def test_a_run_directory_gives_its_best_checkpoint(saved: Path) -> None:
    run = saved.parent.parent
    assert checkpoint.find(run) == saved
    best = saved.with_name("best.pt")
    checkpoint.save(best, "lamost", "conv1d_res", {})
    assert checkpoint.find(run) == best
    with pytest.raises(UserError, match="saved nothing yet"):
        checkpoint.find(saved.parent)

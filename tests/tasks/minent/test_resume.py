"""A run stopped after learning, or finished, and resumed writes what an unbroken one writes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kexue_cli.cli import main
from kexue_cli.tasks.minent import task

SHORT = {"best": ["model.sweeps=4", "model.average=2"], "merge": [], "unigram_mdl": []}
WRITTEN = (
    "segmented.txt", "metrics.json", "metrics.jsonl", "lexicon.csv", "lexicon.txt",
    "predictions.csv", "submission.csv", "before_after.txt",
)  # fmt: skip


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of a small run in a folder of its own; the text's words are hard to tell apart."""
    rng = np.random.default_rng(0)
    syllables = ["ba", "na", "ab", "an", "b", "nab", "a"]
    found = ["".join(rng.choice(syllables, rng.integers(1, 4))) for _ in range(40)]
    lines = ["".join(rng.choice(found, rng.integers(2, 7))) for _ in range(300)]
    (tmp_path / "text.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    return ["task=minent", "data=text", "data.path=text.txt", "data.alphabet=any", "device=cpu"]


def written(folder: str) -> dict[str, bytes]:
    return {name: (Path(folder) / name).read_bytes() for name in WRITTEN}


def stop_after_learning(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    def stopped(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(task, "tally_and_write", stopped)
        with pytest.raises(SystemExit):
            main(command)


@pytest.mark.parametrize("part", [[], ["model.max_characters=1000"]], ids=["all", "a part"])
@pytest.mark.parametrize("model", SHORT)
def test_a_run_that_goes_on_after_learning_writes_the_same_bytes(
    words: list[str], monkeypatch: pytest.MonkeyPatch, model: str, part: list[str]
) -> None:
    command = [*words, f"model={model}", *SHORT[model], *part]
    main([*command, "run_dir=whole"])
    stop_after_learning(monkeypatch, [*command, "run_dir=stopped"])
    assert not Path("stopped/segmented.txt").exists()
    main(["resume=stopped"])
    assert written("stopped") == written("whole")
    main(["resume=whole"])  # it had finished
    assert written("stopped") == written("whole")


@pytest.mark.parametrize("model", ["best", "merge"])
def test_a_run_of_an_earlier_version_is_cut_by_its_lexicon_and_says_so(
    words: list[str], capsys: pytest.CaptureFixture[str], model: str
) -> None:
    main([*words, f"model={model}", *SHORT[model], "run_dir=whole"])
    before = written("whole")
    path = Path("whole/checkpoints/last.pt")
    content = torch.load(path, weights_only=True)
    del content["state"]["ends"]  # as earlier versions saved it
    torch.save(content, path)
    main(["resume=whole"])
    assert "learned under an earlier version" in " ".join(capsys.readouterr().out.split())
    after = written("whole")
    assert after["segmented.txt"] != before["segmented.txt"]
    main([*words, f"model={model}", "mode=predict", "checkpoint=whole", "run_dir=predicted"])
    assert Path("predicted/segmented.txt").read_bytes() == after["segmented.txt"]


@pytest.mark.parametrize("letters", [0, 1, 8, 1001])
def test_word_ends_come_back_from_a_checkpoint(letters: int) -> None:
    ends = np.random.default_rng(letters).random(letters) < 0.5
    found = task.unpacked(task.packed(ends))
    assert found is not None
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, ends)
    assert task.unpacked(task.packed(None)) is None

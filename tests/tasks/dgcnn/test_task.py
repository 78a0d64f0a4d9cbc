"""The task as a user runs it: learning, resuming, warnings, one question from the shell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kexue_cli.cli import main
from kexue_cli.tasks.dgcnn.batches import Batches
from kexue_cli.tasks.dgcnn.dgcnn_2019 import Dgcnn2019
from kexue_cli.tasks.dgcnn.keras_weights import save_keras_weights
from kexue_cli.tasks.dgcnn.task import DgcnnTask

Run = Callable[..., subprocess.CompletedProcess[str]]
SMALL = [
    "task=dgcnn",
    "data.n_questions=120",
    "data.n_valid=20",
    "data.n_passages=3",
    "task.batch_size=8",
    "task.first.steps=6",
    "task.second.steps=4",
    "task.second.lr=1e-4",
    "task.evaluate_every=3",
    "task.word_dropout=0.1",
    "model.n_channels=16",
    "model.word_width=8",
    "optim=keras_radam",
    "optim.ema_decay=0.9",
    "optim.ema_debiased=true",
    "device.threads=1",
    "precision=fp32",
    "device=cpu",
]


def stop_at_batch(number: int) -> Callable[..., object]:
    """A `Batches.__call__` that asks this process to stop with its `number`-th batch (from 0)."""
    original, calls = Batches.__call__, iter(range(10_000))

    def batches(self: Batches, first_step: int) -> object:
        for batch in original(self, first_step):
            if next(calls) == number:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    return batches


def result(folder: Path) -> dict[str, object]:
    """Everything that must be equal: weights, optimiser, average, log, scores, predictions."""
    last = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["state"]
    best = torch.load(folder / "checkpoints" / "best.pt", weights_only=True)["state"]
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {
        "best": best["task"]["model"],
        "last": last["task"]["model"],
        "average": last["loop"]["average"]["average"],
        "optimizer": last["loop"]["optimizers"][0]["state"],
        "log": [{k: v for k, v in row.items() if "time" not in k} for row in log],
        "scores": json.loads((folder / "metrics.json").read_text()),
        "predictions": (folder / "predictions.csv").read_text(),
        "submission": (folder / "submission.csv").read_text(),
    }


def same(a: object, b: object) -> bool:
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    return a == b


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    main([*SMALL, f"run_dir={folder}"])
    return folder


@pytest.mark.parametrize("stop_at", [4, 7])
def test_a_resumed_run_ends_with_the_same_bits(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(Batches, "__call__", stop_at_batch(stop_at))
        with pytest.raises(SystemExit):
            main([*SMALL, f"run_dir={folder}"])
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"
    main([f"resume={folder}"])
    wanted, found = result(uninterrupted), result(folder)
    for name in wanted:
        assert same(wanted[name], found[name]), name


def test_a_signal_while_questions_are_answered_loses_nothing(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, original, calls = tmp_path / "run", DgcnnTask._answer, iter(range(10_000))

    def answer(self: DgcnnTask, *given: Any) -> Any:
        if next(calls) == 2:  # the second evaluation: twenty questions are answered in two parts
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *given)

    with monkeypatch.context() as patched:
        patched.setattr(DgcnnTask, "_answer", answer)
        with pytest.raises(SystemExit):
            main([*SMALL, f"run_dir={folder}"])
    assert next(calls) == 3  # the second part was not answered any more
    main([f"resume={folder}"])
    wanted, found = result(uninterrupted), result(folder)
    for name in wanted:
        assert same(wanted[name], found[name]), name


def test_submission_is_one_line_id_tab_answer_a_question(uninterrupted: Path) -> None:
    lines = (uninterrupted / "submission.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 20
    assert all(line.count("\t") == 1 for line in lines)
    answers = json.loads((uninterrupted / "answers_valid.json").read_text(encoding="utf-8"))
    assert dict(line.split("\t") for line in lines) == answers


def test_answers_of_nothing_but_silence_are_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["model=dgcnn_2019", "limit.steps=1", "task.threshold=0.9", "task.second.steps=0"]
    main([*[w for w in SMALL if not w.startswith("task.second")], *words, f"run_dir={tmp_path}/r"])
    log = (tmp_path / "r" / "run.log").read_text(encoding="utf-8")
    assert "all 20 answers are empty: no score is above task.threshold=0.9" in log
    scores = json.loads((tmp_path / "r" / "metrics.json").read_text())
    assert scores["valid"]["empty"] == 1.0


def test_training_begins_from_keras_weights(tmp_path: Path) -> None:
    words = ["model=dgcnn_2019", "limit.steps=1", "task.second.steps=0", "optim.lr=1e-30"]
    small = [w for w in SMALL if not w.startswith("task.second")]
    weights = tmp_path / "weights.npz"
    main([*small, *words, f"run_dir={tmp_path}/first"])
    best = tmp_path / "first" / "checkpoints" / "best.pt"
    state = torch.load(best, weights_only=True)["state"]["task"]
    model = Dgcnn2019(2 + len(state["characters"]), 8, 16)
    save_keras_weights(model, weights)
    main([*small, *words, f"model.weights={weights}", f"run_dir={tmp_path}/second"])
    best = tmp_path / "second" / "checkpoints" / "best.pt"
    found = torch.load(best, weights_only=True)["state"]["task"]["model"]
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[f"reader.{name}"], parameter, rtol=0, atol=1e-20)
    weights.unlink()  # the checkpoint has them
    main(["mode=evaluate", f"checkpoint={tmp_path}/second", f"run_dir={tmp_path}/third"])
    assert (tmp_path / "third" / "metrics.json").is_file()


def test_text_is_prepared_as_for_the_checkpoint(tmp_path: Path) -> None:
    small = [*SMALL, "limit.steps=1", "data.lower=false", "data.segmenter=none"]
    main([*small, f"run_dir={tmp_path}/run"])
    asked = tmp_path / "asked.json"
    asked.write_text('[{"question": "铁？", "passages": ["铁是Fe。"]}]', encoding="utf-8")
    words = ["data=questions", f"data.test_path={asked}", f"run_dir={tmp_path}/asked"]
    main(["task=dgcnn", "mode=predict", f"checkpoint={tmp_path}/run", *words])
    log = (tmp_path / "asked" / "run.log").read_text(encoding="utf-8")
    assert "text is prepared as for the checkpoint: data.lower=False, not True" in log


def test_an_ensemble_of_unlike_readers_is_refused(
    uninterrupted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*SMALL, "model=dgcnn_2019", "limit.steps=1", f"run_dir={tmp_path}/other"])
    words = [f"task.ensemble=[{tmp_path}/other]", f"run_dir={tmp_path}/both"]
    with pytest.raises(SystemExit):
        main(["task=dgcnn", "mode=evaluate", f"checkpoint={uninterrupted}", *words])
    assert "other is a Dgcnn2019, the checkpoint a Reader" in capsys.readouterr().err


def test_questions_without_answers_are_not_learned_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "questions.json"
    asked = [
        {"id": f"q{i}", "question": f"{i}？", "answer": "铁", "passages": ["铁是Fe。"]}
        for i in range(20)
    ]
    path.write_text(json.dumps(asked), encoding="utf-8")
    words = ["data=questions", f"data.path={path}", f"run_dir={tmp_path}/run"]
    with pytest.raises(SystemExit):
        main(["task=dgcnn", "debug=smoke", *words])
    assert "none of the 18 questions to learn from has an answer" in capsys.readouterr().err


@pytest.mark.parametrize("others", [[], ["again"]])
def test_a_question_from_the_shell_is_answered(
    uninterrupted: Path, tmp_path: Path, others: list[str]
) -> None:
    passages = tmp_path / "passages.txt"
    passages.write_text("氢的元素符号是H。\n\n氦的元素符号是He。\n", encoding="utf-8")
    main(
        [
            "task=dgcnn",
            "mode=predict",
            f"checkpoint={uninterrupted}",
            "question=氦的元素符号是什么？",
            f"passages={passages}",
            "task.threshold=0",
            f"task.ensemble={[str(uninterrupted) for _ in others]}",
            f"run_dir={tmp_path}/run",
        ]
    )
    (line,) = (tmp_path / "run" / "submission.csv").read_text(encoding="utf-8").splitlines()
    identifier, answer = line.split("\t")
    assert identifier == "question"
    assert answer in "氢的元素符号是H。氦的元素符号是He。"


def test_what_stands_in_the_question_is_no_answer_if_so_asked(
    uninterrupted: Path, tmp_path: Path
) -> None:
    passages = tmp_path / "passages.txt"
    passages.write_text("氢的元素符号是H。\n", encoding="utf-8")
    words = ["question=氢的元素符号是什么？", f"passages={passages}", "task.threshold=0"]
    words += ["task.repeat_question=false", f"run_dir={tmp_path}/run"]
    main(["task=dgcnn", "mode=predict", f"checkpoint={uninterrupted}", *words])
    answer = (tmp_path / "run" / "submission.csv").read_text(encoding="utf-8").split("\t")[1]
    assert set(answer) & set("H。")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["question=谁？"], "question= and passages= go together"),
        (
            ["question=谁？", "passages=p.txt"],
            "question: is answered with mode=predict, found train",
        ),
        (["question=' '", "passages=p.txt"], "question: expected a question"),
        (["mode=predict", "question=谁？", "passages=p.txt"], "checkpoint"),
        (["model=dgcnn_2018", "model.word_width=0"], "model.word_width"),
        (["task.positive=2"], "task.positive"),
        (["task.vote_power=0"], "task.vote_power"),
        (["task.first.steps=0"], "nothing to train"),
        (["task.first.lr=-1"], "task.first.lr"),
        (["task.second.patience=0"], "task.second.patience"),
        (["task.valid_questions=-1"], "task.valid_questions"),
        (["task.ensemble=[run]"], "task.ensemble: one reader learns alone"),
        (["model.n_heads=3"], "model.n_heads"),
        (["model.encoder_dilations=[0]"], "model.encoder_dilations"),
        (["model.max_answer_length=0"], "model.max_answer_length"),
        (["model.token_dropout=1.5"], "model.token_dropout"),
        (["model.word_width=0", "model.word_vectors=train"], "model.word_width"),
        (["data.n_folds=119"], "data.n_folds"),
    ],
)
def test_options_that_do_not_go_together_are_named(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["task=dgcnn", *words, f"run_dir={tmp_path}/run"])
    assert message in capsys.readouterr().err

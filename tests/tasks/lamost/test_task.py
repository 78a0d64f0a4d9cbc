"""The task as a user runs it: training, evaluation, prediction of new spectra, bad input."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from kexue_cli.cli import main
from kexue_cli.tasks.lamost.conv1d_res import Conv1dRes
from kexue_cli.tasks.lamost.keras_weights import save_keras_weights

SMALL = [
    "task=lamost",
    "data.n_spectra=300",
    "data.n_test=41",
    "data.length=128",
    "model.filters=[16,16]",
    "task.cross_entropy.steps=4",
    "task.soft_f1.steps=3",
    "task.evaluate_every=2",
    "task.batch_size=40",
    "device=cpu",
    "device.threads=1",
]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The message with which a command is refused."""
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    assert stopped.value.code not in (0, None)
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lamost") / "run"
    main([*SMALL, f"run_dir={folder}"])
    return folder


def test_a_run_leaves_what_was_promised(trained: Path) -> None:
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["primary"]["name"] == "macro_f1"
    splits = {"valid", "test", "valid_after_cross_entropy", "test_after_cross_entropy"}
    assert splits <= metrics.keys()
    for split in splits:
        assert {"macro_f1", "accuracy", "f1/star", "f1/qso"} <= metrics[split].keys()
        table = rows(trained / f"classes_{split}.csv")
        assert [row["class"] for row in table] == ["star", "unknown", "galaxy", "qso"]
        assert list(table[0]) == ["class", "precision", "recall", "f1", "support"]
        counts = np.array([[int(row[n]) for n in list(row)[1:]] for row in rows(
            trained / f"confusion_{split}.csv"
        )])  # fmt: skip
        assert counts.sum(axis=1).tolist() == [int(row["support"]) for row in table]
    pictures = {path.name for path in (trained / "plots").glob("*.png")}
    assert {"learning_curves.png", "confusion_test.png", "worst_mistakes_test.png"} <= pictures


def test_every_spectrum_is_predicted_once_under_its_own_id(trained: Path) -> None:
    predictions = rows(trained / "predictions.csv")
    assert len({row["id"] for row in predictions}) == len(predictions) == 41
    names = ["star", "unknown", "galaxy", "qso"]
    for row in predictions:
        values = [float(row[name]) for name in names]
        assert sum(values) == pytest.approx(1, abs=1e-5)
        assert row["prediction"] == names[int(np.argmax(values))]
    submission = (trained / "submission.csv").read_text().splitlines()
    assert submission == [f"{row['id']},{row['prediction']}" for row in predictions]


def test_splits_are_written_and_disjoint(trained: Path) -> None:
    table = rows(trained / "splits.csv")
    assert len({row["id"] for row in table}) == len(table) == 341
    assert {row["split"] for row in table} == {"train", "valid", "test"}


def test_predicting_again_gives_the_same_file(trained: Path, tmp_path: Path) -> None:
    words = [*SMALL, f"checkpoint={trained}", f"run_dir={tmp_path / 'again'}", "mode=predict"]
    main([*words, "task.submission_header=true"])
    again = tmp_path / "again"
    assert (again / "predictions.csv").read_text() == (trained / "predictions.csv").read_text()
    header, *lines = (again / "submission.csv").read_text().splitlines()
    assert header == "id,type"
    assert lines == (trained / "submission.csv").read_text().splitlines()


def test_evaluating_again_gives_the_same_scores(trained: Path, tmp_path: Path) -> None:
    main([*SMALL, f"checkpoint={trained}", f"run_dir={tmp_path / 'again'}", "mode=evaluate"])
    again = json.loads((tmp_path / "again" / "metrics.json").read_text())
    before = json.loads((trained / "metrics.json").read_text())
    assert again["valid"] == before["valid"]
    assert again["test"] == before["test"]


def sequences(path: Path, n: int = 60, length: int = 128, labelled: bool = True) -> Path:
    rng = np.random.default_rng(0)
    arrays = {"flux": rng.normal(size=(n, length)).astype(np.float32)}
    if labelled:
        arrays["label"] = np.array(["hot", "cold", "warm"])[np.arange(n) % 3]
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def test_any_number_of_classes_and_unlabelled_spectra(tmp_path: Path) -> None:
    common = ["task=lamost", "data=sequences", "model.filters=[16,16]", "device.threads=1"]
    train = sequences(tmp_path / "train.npz")
    new = sequences(tmp_path / "new.npz", n=7, labelled=False)
    short = ["task.cross_entropy.steps=2", "task.soft_f1.steps=2", "task.batch_size=16"]
    main([*common, *short, f"data.path={train}", f"run_dir={tmp_path / 'a'}"])
    saved = f"checkpoint={tmp_path / 'a'}"
    words = [f"data.test_path={new}", f"run_dir={tmp_path / 'b'}", "mode=predict"]
    main([*common, f"data.path={train}", saved, *words])
    predictions = rows(tmp_path / "b" / "predictions.csv")
    assert len(predictions) == 7
    assert set(predictions[0]) == {"id", "prediction", "cold", "hot", "warm"}


@pytest.mark.parametrize("model", ["densenet1d", "inception1d"])
def test_the_other_models_train(tmp_path: Path, model: str) -> None:
    words = [word for word in SMALL if not word.startswith("model.")]
    main([*words, f"model={model}", "task.soft_f1.steps=0", f"run_dir={tmp_path / 'run'}"])
    assert (tmp_path / "run" / "submission.csv").is_file()


def test_training_starts_from_keras_weights(tmp_path: Path) -> None:
    model = Conv1dRes(128, 4, filters=(16, 16), engine="plain")
    save_keras_weights(model, tmp_path / "weights.npz")
    steps = ["task.cross_entropy.steps=0", "task.soft_f1.steps=1", "task.soft_f1.lr=1e-30"]
    words = [f"model.weights={tmp_path / 'weights.npz'}", f"run_dir={tmp_path / 'run'}"]
    main([*SMALL, *steps, *words])
    state = torch.load(tmp_path / "run" / "checkpoints" / "best.pt", weights_only=True)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(state["state"]["task"]["model"][name], tensor)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("task.class_shares=[1,2]", "task.class_shares: has 2 numbers; the classes are star"),
        ("task.class_weights=[1,2]", "task.class_weights: one number for each of star"),
        ("task.official_classes=[star,quasar]", "'quasar' is none of star, unknown"),
        ("task.label_smoothing=1.5", "task.label_smoothing: must be at least 0 and below 1"),
        ("optim.accumulate=2", "soft F1 is of a whole batch"),
        ("model.dropout=1", "model.dropout: must be at least 0 and below 1"),
        ("optim=none", "needs an optimiser"),
        ("model.weights=nowhere.npz", "nowhere.npz: no such file"),
        ("model.filter=[16]", "Did you mean model.filters"),
    ],
)
def test_bad_options_are_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str, message: str
) -> None:
    assert message in refused(capsys, *SMALL, word, f"output_dir={tmp_path}")
    assert not list(tmp_path.rglob("*.pt"))
    assert not list(tmp_path.rglob("predictions.csv"))


def test_a_checkpoint_of_other_options_names_the_tensor_and_both_shapes(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = shutil.copy(trained / "checkpoints" / "best.pt", tmp_path / "best.pt")
    words = ["model.filters=[16,32]", f"checkpoint={file}", "mode=predict"]
    error = refused(capsys, *SMALL, *words, f"output_dir={tmp_path}")
    assert "tensor 'blocks.1." in error
    assert "the model options are not the same" in error


def test_a_checkpoint_for_another_length_is_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data.length=256", f"checkpoint={trained}", "mode=evaluate"]
    error = refused(capsys, *SMALL, *words, f"output_dir={tmp_path}")
    assert "trained on spectra of 128 points; the data have 256" in error


def test_a_checkpoint_of_another_model_is_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for word in SMALL if not word.startswith("model.")]
    error = refused(
        capsys, *words, "model=inception1d", f"checkpoint={trained}", "mode=predict",
        f"output_dir={tmp_path}",
    )  # fmt: skip
    assert "checkpoint of model=conv1d_res, not of model=inception1d" in error

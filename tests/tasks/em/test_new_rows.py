"""A stored fit meets rows it has not seen: columns go by name, labels may be missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kexue_cli.errors import UserError
from tests.tasks.em.conftest import Run


@pytest.fixture
def frame() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(60, 3)) * [1, 2, 3] + 8 * (np.arange(60) % 2)[:, None]
    return pd.DataFrame(values, columns=["a", "b", "c"])


def fit(em: Run, folder: Path, frame: pd.DataFrame, *words: str) -> Path:
    frame.to_csv(folder / "train.csv", index=False)
    return em(
        "data=table", f"data.path={folder / 'train.csv'}", "model.n_components=2",
        "task.plots=false", *words,
    )  # fmt: skip


def predicted(em: Run, run: Path, path: Path, *words: str) -> pd.DataFrame:
    directory = em(
        "mode=predict", f"checkpoint={run}", "data=table", f"data.path={path}",
        "model.n_components=2", "task.plots=false", *words,
    )  # fmt: skip
    return pd.read_csv(directory / "predictions.csv").drop(columns="id")


def test_columns_of_new_rows_go_by_name(em: Run, tmp_path: Path, frame: pd.DataFrame) -> None:
    run = fit(em, tmp_path, frame)
    expected = predicted(em, run, tmp_path / "train.csv")
    frame.assign(more=1.0)[["c", "more", "a", "b"]].to_csv(tmp_path / "new.csv", index=False)
    pd.testing.assert_frame_equal(predicted(em, run, tmp_path / "new.csv"), expected)
    np.save(tmp_path / "new.npy", frame.to_numpy())
    pd.testing.assert_frame_equal(predicted(em, run, tmp_path / "new.npy"), expected)


def test_other_columns_are_refused(em: Run, tmp_path: Path, frame: pd.DataFrame) -> None:
    run = fit(em, tmp_path, frame)
    frame.rename(columns={"b": "z"}).to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(UserError, match=r"columns \(a, z, c\), the fit has 3 \(a, b, c\)"):
        predicted(em, run, tmp_path / "new.csv")
    np.save(tmp_path / "new.npy", frame.to_numpy()[:, :2])
    with pytest.raises(UserError, match="has 2 columns"):
        predicted(em, run, tmp_path / "new.npy")


def test_new_rows_need_no_label_and_no_weight(
    em: Run, tmp_path: Path, frame: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    known = ["data.label=kind", "data.weight=w"]
    run = fit(em, tmp_path, frame.assign(kind="x", w=2.0), *known)
    frame.to_csv(tmp_path / "new.csv", index=False)
    assert len(predicted(em, run, tmp_path / "new.csv", *known)) == 60
    assert "no column 'w': every row weighs 1" in capsys.readouterr().out


@pytest.mark.parametrize("model", ["gmm", "kmeans"])
def test_gaps_in_new_rows(em: Run, tmp_path: Path, frame: pd.DataFrame, model: str) -> None:
    run = fit(em, tmp_path, frame, f"model={model}")
    frame.loc[4, "b"] = np.nan
    frame.to_csv(tmp_path / "new.csv", index=False)
    if model == "gmm":
        probabilities = predicted(em, run, tmp_path / "new.csv").filter(like="probability")
        np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)
    else:
        with pytest.raises(UserError, match="missing value in row 5, column 'b'"):
            predicted(em, run, tmp_path / "new.csv", "model=kmeans")


@pytest.mark.parametrize("model", ["gmm", "kmeans"])
def test_infinite_new_rows_are_refused(
    em: Run, tmp_path: Path, frame: pd.DataFrame, model: str
) -> None:
    run = fit(em, tmp_path, frame, f"model={model}")
    frame.loc[4, "b"] = np.inf
    frame.to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(UserError, match="infinite value in row 5, column 'b'"):
        predicted(em, run, tmp_path / "new.csv", f"model={model}")


@pytest.mark.parametrize("model", ["plsa", "multinomial_mixture"])
def test_test_documents_have_topics_of_their_own(em: Run, tmp_path: Path, model: str) -> None:
    """As many documents as were fitted, in another order and with other words."""
    (tmp_path / "train.ldac").write_text("2 0:9 1:8\n2 0:7 1:9\n2 2:8 3:6\n2 2:5 3:9\n")
    (tmp_path / "test.ldac").write_text("1 2:9\n2 2:7 3:5\n1 0:9\n1 1:7\n")
    directory = em(
        "data=word_counts", f"data.path={tmp_path}/train.ldac", f"model={model}",
        f"data.test_path={tmp_path}/test.ldac", "model.n_components=2", "model.n_init=5",
    )  # fmt: skip
    clusters = pd.read_csv(directory / "predictions.csv")["prediction"].tolist()
    fitted = pd.read_csv(directory / "components.csv").filter(like="mean").to_numpy()
    assert clusters == [int(fitted[:, word].argmax()) for word in (2, 2, 0, 1)]


def test_test_documents_may_lack_the_last_words(em: Run, tmp_path: Path) -> None:
    (tmp_path / "train.ldac").write_text("2 0:9 1:8\n2 0:7 1:9\n2 2:8 3:6\n2 2:5 3:9\n")
    (tmp_path / "test.ldac").write_text("1 0:9\n1 1:7\n")
    em(
        "data=word_counts", f"data.path={tmp_path}/train.ldac", "model=multinomial_mixture",
        f"data.test_path={tmp_path}/test.ldac", "model.n_components=2",
    )  # fmt: skip


def test_every_picture_of_a_folder_is_assigned_under_its_file_name(em: Run, tmp_path: Path) -> None:
    from PIL import Image

    generator = np.random.default_rng(0)
    for number in range(30):
        picture = generator.integers(0, 100, (4, 4)) + 150 * (number % 2)
        Image.fromarray(picture.astype(np.uint8)).save(tmp_path / f"{number}.png")
    words = ("model=kmeans", "model.n_components=2", "task.plots=false", "data=images")
    directory = em(*words, f"data.path={tmp_path}")
    again = em(*words, f"data.path={tmp_path}", "mode=predict", f"checkpoint={directory}")
    found = pd.read_csv(again / "predictions.csv").set_index("id")["prediction"]
    assert sorted(found.index) == sorted(f"{number}.png" for number in range(30))
    parities = [int(str(name).removesuffix(".png")) % 2 for name in found.index]
    assert len(set(zip(parities, found, strict=True))) == 2

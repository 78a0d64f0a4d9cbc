from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kexue_cli.errors import UserError
from kexue_cli.manage import blending
from kexue_cli.manage.predictions import read_members
from kexue_cli.manage.store import read_run, resolve_one
from tests.fake_runs import CLASSES, write_json, write_run, write_table

Kexue = Callable[..., tuple[int, str, str]]


def noisy(target: np.ndarray, strength: float, seed: int) -> np.ndarray:
    """Probabilities (row, class) that favour the target by `strength`."""
    logits = np.random.default_rng(seed).normal(size=(len(target), len(CLASSES)))
    logits[np.arange(len(target)), target] += strength
    p = np.exp(logits)
    return p / p.sum(axis=1, keepdims=True)


def write_predictions(
    path: Path, ids: list[str], p: np.ndarray, target: np.ndarray | None = None
) -> None:
    columns: dict[str, object] = {"id": ids, "prediction": [CLASSES[k] for k in p.argmax(axis=1)]}
    if target is not None:
        columns["target"] = [CLASSES[k] for k in target]
    columns |= {name: [float(v) for v in p[:, k]] for k, name in enumerate(CLASSES)}
    write_table(path, columns)  # type: ignore[arg-type]


TARGET = np.random.default_rng(7).integers(0, 3, 400)
VALID_IDS = [f"v{i}" for i in range(400)]
TEST_IDS = [f"{i:03}" for i in range(50)]


def add_member(root: Path, name: str, strength: float, seed: int, **record: object) -> Path:
    path = write_run(root / "lamost/conv1d_res" / f"2026-11-20_10-00-00-{name}", **record)  # type: ignore[arg-type]
    write_predictions(path / "predictions.csv", TEST_IDS, noisy(TARGET[:50], strength, seed))
    valid = noisy(TARGET, strength, seed + 100)
    write_predictions(path / "predictions_valid.csv", VALID_IDS, valid, TARGET)
    rules = {
        "columns": ["id", "type"],
        "header": False,
        "separator": ",",
        "allowed": {"type": list(CLASSES)},
        "ids": TEST_IDS,
    }
    write_json(path / "submission_rules.json", rules)
    return path


@pytest.fixture
def three(root: Path) -> list[Path]:
    strengths = {"aaaa": 2.0, "bbbb": 1.0, "cccc": 0.0}
    return [add_member(root, name, s, i) for i, (name, s) in enumerate(strengths.items())]


def test_scores_agree_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    p = noisy(TARGET, 1.0, 0)
    found = blending.scores(p, TARGET)
    predicted = p.argmax(axis=1)
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(TARGET, predicted, average="macro"))
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(TARGET, predicted))
    assert found["log_loss"] == pytest.approx(metrics.log_loss(TARGET, p, labels=[0, 1, 2]))


def test_fitted_weights_are_the_maximum_of_the_likelihood() -> None:
    optimize = pytest.importorskip("scipy.optimize")
    p = np.stack([noisy(TARGET, s, i) for i, s in enumerate((2.0, 1.5, 0.0))])
    chosen = p[:, np.arange(len(TARGET)), TARGET]
    best = optimize.minimize(
        lambda w: -np.log(w @ chosen).mean(),
        np.full(3, 1 / 3),
        bounds=[(0, 1)] * 3,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
    )
    weights = blending.fit_weights(p, TARGET)
    assert weights.sum() == pytest.approx(1)
    assert -np.log(weights @ chosen).mean() <= best.fun + 1e-7
    np.testing.assert_allclose(weights, best.x, atol=2e-3)


def test_a_copy_of_the_truth_among_noise_gets_all_the_weight() -> None:
    truth = np.eye(3)[TARGET]
    weights = blending.fit_weights(np.stack([truth, noisy(TARGET, 0.0, 1)]), TARGET)
    assert weights[0] == pytest.approx(1, abs=1e-4)


def test_cross_fitted_rows_do_not_see_their_own_target() -> None:
    p = np.stack([noisy(TARGET, 1.0, 0), noisy(TARGET, 1.0, 1)])
    before = blending.cross_fitted(p, TARGET)
    fold_of_row = np.random.default_rng(0).permutation(len(TARGET)) % 5
    changed = TARGET.copy()
    changed[fold_of_row == 2] = (changed[fold_of_row == 2] + 1) % 3
    after = blending.cross_fitted(p, changed)
    np.testing.assert_array_equal(before[fold_of_row == 2], after[fold_of_row == 2])


def test_ranks_agree_with_scipy_also_with_ties() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(0).integers(0, 10, 50).astype(float)
    np.testing.assert_allclose(blending.average_ranks(values), stats.rankdata(values))


@pytest.mark.parametrize("method", list(blending.METHODS))
def test_every_method_keeps_a_unanimous_vote(method: str) -> None:
    one = noisy(TARGET, 1.0, 0)
    blended = blending.METHODS[method](np.stack([one, one]), np.array([0.3, 0.7]))
    np.testing.assert_allclose(blended.sum(axis=1), 1)
    if method != "rank":
        np.testing.assert_allclose(blended, one)


def test_geometric_mean_is_the_softmax_of_mean_logits() -> None:
    p = np.stack([noisy(TARGET, 1.0, 0), noisy(TARGET, 1.0, 1)])
    logits = np.log(p).mean(axis=0)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(blending.geometric(p, np.array([0.5, 0.5])), expected)


def test_blend_writes_a_checked_submission_and_its_score(
    three: list[Path], root: Path, kexue: Kexue
) -> None:
    code, out, err = kexue("blend", *three)
    assert code == 0, err
    blend = read_run(Path(out.strip().splitlines()[-1]))
    with (blend.path / "submission.csv").open() as file:
        rows = list(csv.reader(file))
    expected = np.mean([noisy(TARGET[:50], s, i) for i, s in enumerate((2.0, 1.0, 0.0))], axis=0)
    assert rows == [[i, CLASSES[k]] for i, k in zip(TEST_IDS, expected.argmax(axis=1), strict=True)]
    valid = np.mean([noisy(TARGET, s, i + 100) for i, s in enumerate((2.0, 1.0, 0.0))], axis=0)
    assert blend.splits["valid"] == pytest.approx(blending.scores(valid, TARGET))
    assert blend.primary["name"] == "macro_f1"
    assert kexue("submit", "check", blend.path / "submission.csv")[0] == 0
    assert "blend" in kexue("leaderboard")[1]


def test_fitted_blend_beats_equal_weights_and_leaves_the_test_rows_out(
    three: list[Path], root: Path, kexue: Kexue
) -> None:
    equal = read_run(Path(kexue("blend", *three)[1].strip().splitlines()[-1]))
    fitted = read_run(Path(kexue("blend", *three, "--fit")[1].strip().splitlines()[-1]))
    assert fitted.splits["valid"]["log_loss"] < equal.splits["valid"]["log_loss"]
    weights = fitted.record["weights"]
    assert weights[0] > weights[1] > weights[2]
    write_predictions(three[0] / "predictions.csv", TEST_IDS, noisy(TARGET[:50], 0.0, 99))
    again = read_run(Path(kexue("blend", *three, "--fit")[1].strip().splitlines()[-1]))
    assert again.record["weights"] == weights


def test_folds_are_assembled_to_out_of_fold_predictions(root: Path) -> None:
    paths = []
    p = noisy(TARGET, 1.0, 0)
    for fold in range(5):
        path = add_member(
            root, f"{fold:04x}", 1.0, fold, settings={"data.fold": fold, "data.n_folds": 5}
        )
        rows = np.arange(fold, 400, 5)
        ids = [VALID_IDS[i] for i in rows]
        write_predictions(path / "predictions_valid.csv", ids, p[rows], TARGET[rows])
        paths.append(path)
    (member,) = read_members([read_run(path) for path in paths])
    assert member.valid is not None
    assert len(member.valid) == 400
    np.testing.assert_allclose(member.valid.loc[VALID_IDS, list(CLASSES)].to_numpy(), p)
    tests = np.mean([noisy(TARGET[:50], 1.0, fold) for fold in range(5)], axis=0)
    np.testing.assert_allclose(member.test.loc[TEST_IDS, list(CLASSES)].to_numpy(), tests)


def test_folds_that_hold_out_a_part_each_give_out_of_fold_scores_and_one_submission(
    root: Path, kexue: Kexue
) -> None:
    p = noisy(TARGET, 1.0, 0)
    for fold in range(4):
        path = add_member(root, f"{fold:04x}", 1.0, fold, settings={"data.fold": fold})
        rows = np.arange(fold, 400, 4)
        ids = [VALID_IDS[i] for i in rows]
        write_predictions(path / "predictions.csv", ids, p[rows], TARGET[rows])
        rules = json.loads((path / "submission_rules.json").read_text())
        write_json(path / "submission_rules.json", rules | {"ids": ids})
    code, out, err = kexue("blend", *sorted((root / "lamost/conv1d_res").iterdir()))
    assert code == 0, err
    assert "400 test rows (out of fold)" in out
    blend = read_run(Path(out.strip().splitlines()[-1]))
    assert blend.splits["test"] == pytest.approx(blending.scores(p, TARGET))
    assert len((blend.path / "submission.csv").read_text().splitlines()) == 400


def test_seeds_with_different_splits_are_scored_on_the_rows_they_share(
    three: list[Path], kexue: Kexue
) -> None:
    p = noisy(TARGET, 1.0, 3)
    write_predictions(three[1] / "predictions_valid.csv", VALID_IDS[:300], p[:300], TARGET[:300])
    _, out, _ = kexue("blend", *three)
    assert out.startswith("300 validation rows")


def test_runs_of_different_data_are_not_blended(root: Path, kexue: Kexue) -> None:
    one = add_member(root, "aaaa", 1.0, 0)
    other = add_member(root, "bbbb", 1.0, 1, data_fingerprint="e" * 64)
    code, _, err = kexue("blend", one, other)
    assert code == 2
    assert "different data" in err
    assert not (root / "lamost" / "blend").exists()


def test_what_does_not_fit_is_named(three: list[Path], kexue: Kexue) -> None:
    unfinished = three[1] / "run.json"
    record = json.loads(unfinished.read_text())
    write_json(unfinished, record | {"status": "failed"})
    assert "is failed" in kexue("blend", *three)[2]
    write_json(unfinished, record)
    write_predictions(three[1] / "predictions.csv", TEST_IDS[1:], noisy(TARGET[:49], 1, 0))
    assert "predict different ids" in kexue("blend", *three)[2]
    write_table(three[1] / "predictions.csv", {"id": ["a", "a"], "prediction": [1, 2]})
    assert "id 'a' occurs twice" in kexue("blend", *three)[2]
    write_table(three[1] / "predictions.csv", {"id": ["a"], "prediction": ["x"], "score": [3.0]})
    assert "no probabilities" in kexue("blend", *three)[2]
    assert not (three[0].parents[1] / "blend").exists()
    (three[1] / "predictions.csv").unlink()
    assert "mode=predict" in kexue("blend", *three)[2]


@pytest.mark.parametrize("weights", ["1,2", "a,b,c", "0,0,0", "1,-1,1"])
def test_bad_weights_are_refused(three: list[Path], kexue: Kexue, weights: str) -> None:
    code, _, err = kexue("blend", *three, "--weights", weights)
    assert code == 2
    assert "--weights" in err


def test_a_submission_that_breaks_the_rules_leaves_nothing_behind(
    three: list[Path], root: Path, kexue: Kexue
) -> None:
    rules = json.loads((three[0] / "submission_rules.json").read_text())
    write_json(three[0] / "submission_rules.json", rules | {"ids": ["another"]})
    code, _, err = kexue("blend", *three)
    assert code == 2
    assert "lacks 1 of 1 ids" in err
    assert not (root / "lamost" / "blend").exists()


def test_classes_in_another_order_are_refused(root: Path) -> None:
    one = add_member(root, "aaaa", 1.0, 0)
    other = add_member(root, "bbbb", 1.0, 1)
    text = (other / "predictions.csv").read_text().replace("galaxy,qso,star", "star,qso,galaxy", 1)
    (other / "predictions.csv").write_text(text)
    with pytest.raises(UserError, match="has the classes"):
        read_members([read_run(one), read_run(other)])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("000,star\n000,star\n001,qso\n", "line 2: id '000' was there before, in line 1"),
        ("000,star\n001,planet\n", "line 2: 'planet' is none of"),
        ("000,star\n001\n", "line 2: 1 fields, expected 2"),
        ("000,star\n9,star\n", "line 2: id '9' is not to be predicted"),
        ("id,type\n000,star\n001,star\n", "line 1: is a header"),
        ("000,star\n", "1 ids are missing, first '001'"),
        ("", "2 ids are missing"),
    ],
)
def test_submit_check_names_line_and_reason(
    root: Path, tmp_path: Path, kexue: Kexue, text: str, reason: str
) -> None:
    run = write_run(root / "lamost/x/2026-11-20_10-00-00-aaaa")
    rules = {"columns": ["id", "type"], "header": False, "separator": ","}
    rules |= {"allowed": {"type": list(CLASSES)}, "ids": ["000", "001"]}
    write_json(run / "submission_rules.json", rules)
    file = tmp_path / "s.csv"
    file.write_text(text)
    code, out, _ = kexue("submit", "check", file, "--like", "aaaa")
    assert code == 1
    assert reason in out


def test_submit_check_of_a_foreign_file(tmp_path: Path, kexue: Kexue) -> None:
    (tmp_path / "index.csv").write_text("id\n1\n2\n")
    file = tmp_path / "s.csv"
    file.write_text("1,a\n2,b\n")
    words = ("submit", "check", file, "--ids", tmp_path / "index.csv", "--classes", "a,b")
    assert kexue(*words)[0] == 0
    file.write_bytes(b"1,a\n2,\xff\n")
    assert "line 2: not UTF-8" in kexue(*words)[1]
    code, _, err = kexue("submit", "check", file)
    assert code == 2
    assert "--like RUN" in err


def test_a_class_called_na_is_a_class(root: Path) -> None:
    paths = [add_member(root, name, 1.0, seed) for seed, name in enumerate(("aaaa", "bbbb"))]
    for path in paths:
        for name in ("predictions.csv", "predictions_valid.csv"):
            text = (path / name).read_text()
            (path / name).write_text(text.replace("galaxy", "NA").replace("qso", "null"))
    members = read_members([read_run(path) for path in paths])
    valid = members[0].valid
    assert valid is not None
    assert members[0].classes == ["NA", "null", "star"]
    assert valid["target"].tolist() == [("NA", "null", "star")[k] for k in TARGET]


def test_components_of_mixtures_are_not_averaged(root: Path, kexue: Kexue) -> None:
    paths = []
    for name in ("aaaa", "bbbb"):
        path = write_run(root / "em/gmm" / f"2026-11-20_10-00-00-{name}", task="em", model="gmm")
        columns: dict[str, list[object]] = {"id": ["0", "1"], "prediction": [0, 1]}
        columns |= {"probability_0": [0.9, 0.2], "probability_1": [0.1, 0.8]}
        write_table(path / "predictions.csv", columns)
        paths.append(path)
    code, _, err = kexue("blend", *paths)
    assert code == 2
    assert "probability_0, probability_1 are components of a mixture" in err
    assert not (root / "em" / "blend").exists()


def test_resolve_finds_blends(three: list[Path], root: Path, kexue: Kexue) -> None:
    path = Path(kexue("blend", *three)[1].strip().splitlines()[-1])
    assert resolve_one(path.name[-4:], root).record["model"] == "blend"

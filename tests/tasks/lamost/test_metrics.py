"""Scores against scikit-learn."""

import numpy as np
import pytest

from kexue_cli.tasks.lamost.metrics import confusion_matrix, macro_f1, precision_recall_f1, scores

sklearn_metrics = pytest.importorskip("sklearn.metrics")
NAMES = ("normal", "af", "other", "noisy")


def answers(seed: int, n: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, size=n, p=[0.6, 0.1, 0.25, 0.05])
    predicted = np.where(rng.random(n) < 0.7, labels, rng.integers(4, size=n))
    return labels, predicted


@pytest.mark.parametrize("seed", range(5))
def test_all_scores_equal_scikit_learns(seed: int) -> None:
    labels, predicted = answers(seed)
    confusion = confusion_matrix(labels, predicted, 4)
    assert np.array_equal(confusion, sklearn_metrics.confusion_matrix(labels, predicted))
    wanted = sklearn_metrics.precision_recall_fscore_support(labels, predicted)
    for ours, theirs in zip(precision_recall_f1(confusion), wanted, strict=False):
        np.testing.assert_allclose(ours, theirs)
    found = scores(confusion, NAMES, ["normal", "af", "other"])
    f1 = sklearn_metrics.f1_score(labels, predicted, average=None)
    assert found["macro_f1"] == pytest.approx(f1.mean()) == macro_f1(confusion)
    assert found["accuracy"] == pytest.approx((labels == predicted).mean())
    assert found["official_f1"] == pytest.approx(f1[:3].mean())
    assert found["f1/noisy"] == pytest.approx(f1[3])


def test_a_class_that_is_never_predicted_or_never_there_scores_zero() -> None:
    labels, predicted = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 3])
    found = precision_recall_f1(confusion_matrix(labels, predicted, 4))
    wanted = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, labels=range(4), zero_division=0
    )
    for ours, theirs in zip(found, wanted, strict=False):
        np.testing.assert_allclose(ours, theirs)


def test_without_rows_all_is_zero() -> None:
    none = np.zeros(0, dtype=int)
    assert scores(confusion_matrix(none, none, 2), ("a", "b"))["accuracy"] == 0

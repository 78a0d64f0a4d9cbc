"""Scores of a classification, all from its confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


def confusion_matrix(labels: NDArray[Any], predicted: NDArray[Any], n_classes: int) -> Counts:
    """(n_classes, n_classes) counts, true class down, predicted class across."""
    flat = np.asarray(labels) * n_classes + np.asarray(predicted)
    return np.bincount(flat, minlength=n_classes**2).reshape(n_classes, n_classes)


def precision_recall_f1(confusion: Counts) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Per class, (n_classes,) each; 0 where nothing was predicted or nothing is there."""
    hits = np.diag(confusion).astype(float)
    predicted, true = confusion.sum(axis=0), confusion.sum(axis=1)

    def ratio(top: NDArray[Any], bottom: NDArray[Any]) -> NDArray[Any]:
        return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)

    return ratio(hits, predicted), ratio(hits, true), ratio(2 * hits, predicted + true)


def macro_f1(confusion: Counts) -> float:
    """Mean F1 of all classes with equal weight: the contest's score."""
    return float(precision_recall_f1(confusion)[2].mean())


def scores(
    confusion: Counts, class_names: Sequence[str], official_classes: Sequence[str] | None = None
) -> dict[str, float]:
    """macro_f1, accuracy, and f1/<class>.

    `official_classes`: the classes over which a challenge averages F1, written as official_f1
    (PhysioNet/CinC 2017: normal, af and other, not noisy).
    """
    f1 = precision_recall_f1(confusion)[2]
    found = {
        "macro_f1": float(f1.mean()),
        "accuracy": float(np.diag(confusion).sum() / max(1, confusion.sum())),
    }
    if official_classes:
        chosen = [class_names.index(name) for name in official_classes]
        found["official_f1"] = float(f1[chosen].mean())
    return {**found, **{f"f1/{name}": float(f1[k]) for k, name in enumerate(class_names)}}

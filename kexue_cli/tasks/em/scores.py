"""Clusters against known classes."""

from __future__ import annotations

import numpy as np

from kexue_cli.extras import require


def against_classes(clusters: np.ndarray, labels: np.ndarray | None) -> dict[str, float]:
    """Accuracy under the best one-to-one naming, adjusted Rand index, mutual information.

    Rows with label -1 are left out; nothing is reported where fewer than two classes are known.
    """
    if labels is None:
        return {}
    known = labels >= 0
    clusters, labels = clusters[known], labels[known]
    if len(np.unique(labels)) < 2:
        return {}
    metrics = require("sklearn.metrics", extra="em")
    matched, _ = matching(clusters, labels)
    return {
        "accuracy": matched / len(labels),
        "adjusted_rand": float(metrics.adjusted_rand_score(labels, clusters)),
        "normalised_mutual_information": float(
            metrics.normalized_mutual_info_score(labels, clusters)
        ),
    }


def matching(clusters: np.ndarray, labels: np.ndarray) -> tuple[int, dict[int, int]]:
    """Rows in agreement under the best one-to-one naming, and that naming: cluster to class."""
    optimize = require("scipy.optimize", extra="em")
    table = np.zeros((int(clusters.max()) + 1, int(labels.max()) + 1), dtype=np.int64)
    np.add.at(table, (clusters, labels), 1)
    rows, columns = optimize.linear_sum_assignment(table, maximize=True)
    naming = {int(row): int(column) for row, column in zip(rows, columns, strict=True)}
    return int(table[rows, columns].sum()), naming

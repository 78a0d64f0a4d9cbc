"""Train, valid and test from one labelled set: stratified, by object, k-fold or its own folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import ConfigError, UserError
from kexue_cli.tasks.lamost.spectra import Integers, SpectraSet


def make_splits(spectra: SpectraSet, cfg: Any, seed: int) -> dict[str, Integers]:
    """Sorted row numbers of `train`, `valid` and `test` (left out if empty) of a labelled set.

    With a fold column `cfg.fold` chooses its rows as test; with `cfg.n_folds` the folds are
    dealt here; else `cfg.test_fraction` of the rows is test. Of the rest, `cfg.valid_fraction`
    is valid. The same seed gives the same splits; the folds of one seed are disjoint and cover
    the set.

    Raises:
        ConfigError: no labels to stratify by, no groups to split by, a fold that is not there.
    """
    rows = np.arange(len(spectra))
    # Two streams, so that the test rows do not depend on how the rest is divided.
    outer, inner = (np.random.default_rng([seed, stream]) for stream in (0, 1))
    is_test = _test_rows(spectra, cfg, outer)
    rest = rows[~is_test]
    weights = [1 - cfg.valid_fraction, cfg.valid_fraction]
    is_valid = _deal(spectra, rest, weights, cfg, inner) == 1
    parts = {"train": rest[~is_valid], "valid": rest[is_valid], "test": rows[is_test]}
    return {name: part for name, part in parts.items() if len(part)}


def _test_rows(spectra: SpectraSet, cfg: Any, rng: np.random.Generator) -> NDArray[np.bool_]:
    rows = np.arange(len(spectra))
    if cfg.fold is not None and spectra.fold is not None:
        is_test = np.asarray(spectra.fold == cfg.fold)
        if not is_test.any():
            there = ", ".join(str(fold) for fold in np.unique(spectra.fold))
            raise ConfigError(
                "data.fold", f"{cfg.fold} is not in the fold column, which has {there}"
            )
        return is_test
    if cfg.fold is not None:
        weights = [1 / cfg.n_folds] * cfg.n_folds
        return _deal(spectra, rows, weights, cfg, rng) == cfg.fold
    if cfg.test_fraction > 0:
        return _deal(spectra, rows, [1 - cfg.test_fraction, cfg.test_fraction], cfg, rng) == 1
    return np.zeros(len(spectra), dtype=bool)


def _deal(
    spectra: SpectraSet,
    rows: Integers,
    weights: Sequence[float],
    cfg: Any,
    rng: np.random.Generator,
) -> Integers:
    """Part number of each of `rows`, part p getting about `weights[p]` of them."""
    assert spectra.labels is not None
    labels = spectra.labels[rows]
    how = getattr(cfg.split_by, "name", cfg.split_by)
    if how == "random":
        return deal_rows(np.zeros_like(labels), weights, rng)
    if how == "stratified":
        return deal_rows(labels, weights, rng)
    if spectra.group is None:
        raise ConfigError(
            "data.split_by", "group needs to know the object of each spectrum: set "
            "data.group_key (sequences) or data.group_by (fits)"
        )  # fmt: skip
    return deal_groups(labels, spectra.group[rows], weights, rng)


def deal_rows(labels: Integers, weights: Sequence[float], rng: np.random.Generator) -> Integers:
    """Deal rows to len(weights) parts, every class in proportion; returns (n,) part numbers.

    A class with at least as many rows as there are parts is in each of them.
    """
    part = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        counts = apportion(len(members), weights, rng)
        part[members] = np.repeat(np.arange(len(weights)), counts)
    return part


def apportion(total: int, weights: Sequence[float], rng: np.random.Generator) -> Integers:
    """Whole numbers that sum to `total` in proportion to `weights` (largest remainder, ties drawn).

    None is 0 if `total` allows.
    """
    exact = total * np.asarray(weights)
    counts = np.floor(exact + 1e-9).astype(np.int64)
    tie = rng.permutation(len(counts))
    left = total - int(counts.sum())
    counts[np.lexsort((tie, -np.round(exact - counts, 9)))[:left]] += 1
    while total >= len(counts) and counts.min() == 0:
        counts[counts.argmax()] -= 1
        counts[counts.argmin()] += 1
    return counts


def deal_groups(
    labels: Integers, group: NDArray[Any], weights: Sequence[float], rng: np.random.Generator
) -> Integers:
    """Deal whole groups to len(weights) parts, classes as even as that allows; (n,) part numbers.

    Greedy: groups that are large or uneven over the classes come first; each goes where the
    shares of the classes then differ least between the parts (the idea of scikit-learn's
    StratifiedGroupKFold).
    """
    _, members = np.unique(group, return_inverse=True)
    counts = np.zeros((members.max() + 1, labels.max() + 1))  # (groups, classes)
    np.add.at(counts, (members, labels), 1)
    shares = counts / np.maximum(counts.sum(axis=0), 1)  # of each class in each group
    shuffled = rng.permutation(len(counts))
    order = shuffled[np.argsort(-counts[shuffled].std(axis=1), kind="stable")]
    scale = 1 / np.asarray(weights)[:, None]
    filled = np.zeros((len(weights), counts.shape[1]))  # (parts, classes): share of class / weight
    part_of_group = np.empty(len(counts), dtype=np.int64)
    for index in order:
        # Adding to part p changes its column sums only: cost of each p from sums and squares.
        added = shares[index] * scale
        squares = (filled**2).sum(axis=0) + added * (2 * filled + added)
        mean = (filled.sum(axis=0) + added) / len(weights)
        cost = np.sqrt(np.maximum(squares / len(weights) - mean**2, 0)).sum(axis=1)
        part_of_group[index] = cost.argmin()
        filled[part_of_group[index]] += added[part_of_group[index]]
    return part_of_group[members]


def limited(labels: Integers | None, indices: Integers, rows: int | None, seed: int) -> Integers:
    """At most `rows` of `indices`, sorted; each class in proportion, at least once."""
    if rows is None or rows >= len(indices):
        return indices
    rng = np.random.default_rng([seed, 2])
    if labels is None:
        return np.sort(rng.choice(indices, rows, replace=False))
    classes, inverse, counts = np.unique(labels[indices], return_inverse=True, return_counts=True)
    wanted = np.minimum(apportion(rows, counts / counts.sum(), rng), counts)
    kept = [
        rng.choice(indices[inverse == position], wanted[position], replace=False)
        for position in range(len(classes))
    ]
    return np.sort(np.concatenate(kept))


def require_every_class(spectra: SpectraSet, parts: Mapping[str, Integers]) -> list[str]:
    """Refuse a train or valid split without some class; return warnings about the test split.

    Raises:
        UserError: naming the class, the split, and how many spectra of it there are in all.
    """
    assert spectra.labels is not None
    total = np.bincount(spectra.labels, minlength=len(spectra.class_names))
    warnings = []
    nothing = np.zeros(0, dtype=np.int64)
    for name, rows in {"train": nothing, "valid": nothing, **parts}.items():
        counts = np.bincount(spectra.labels[rows], minlength=len(spectra.class_names))
        for label in np.flatnonzero(counts == 0):
            said = (
                f"class {spectra.class_names[label]!r} is missing from the {name} split "
                f"({total[label]} spectra of it in the whole set)"
            )
            if name == "test":
                warnings.append(said)
                continue
            remedy = (
                "leave it out of data.classes" if total[label] == 0 else
                "use data.split_by=stratified, another data.valid_fraction or more spectra of it"
            )  # fmt: skip
            raise UserError(f"{said}: {remedy}.")
    return warnings

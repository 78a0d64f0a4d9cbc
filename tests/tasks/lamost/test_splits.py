from types import SimpleNamespace

import numpy as np
import pytest

from kexue_cli.errors import ConfigError, UserError
from kexue_cli.tasks.lamost.spectra import SpectraSet
from kexue_cli.tasks.lamost.splits import (
    apportion,
    deal_groups,
    limited,
    make_splits,
    require_every_class,
)

CLASSES = ("star", "unknown", "galaxy", "qso")


def settings(**changes):
    defaults = {
        "split_by": "stratified", "valid_fraction": 0.2, "test_fraction": 0.0,
        "n_folds": None, "fold": None,
    }  # fmt: skip
    return SimpleNamespace(**{**defaults, **changes})


def toy(counts=(400, 60, 20, 7), group=None, fold=None):
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(4), counts))
    ids = np.arange(len(labels)).astype(str)
    return SpectraSet(np.zeros((len(labels), 3)), ids, CLASSES, "", labels, group, fold)


def grouped(seed=0):
    """About 2,000 rows of 300 objects, each of one class and with 1 to 13 spectra."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 14, 300)
    object_class = rng.choice(4, 300, p=[0.7, 0.1, 0.1, 0.1])
    order = rng.permutation(sizes.sum())
    group = np.repeat(np.arange(300), sizes)[order].astype(str)
    labels = np.repeat(object_class, sizes)[order]
    return SpectraSet(np.zeros((len(labels), 3)), order.astype(str), CLASSES, "", labels, group)


def histogram(spectra, rows):
    return np.bincount(spectra.labels[rows], minlength=4)


def test_stratified_splits_are_disjoint_complete_and_in_proportion():
    spectra = toy()
    parts = make_splits(spectra, settings(test_fraction=0.1), seed=0)
    everything = np.concatenate(list(parts.values()))
    assert sorted(everything) == list(range(len(spectra)))
    assert histogram(spectra, parts["test"]).tolist() == [40, 6, 2, 1]
    assert histogram(spectra, parts["valid"]).tolist() == [72, 11, 4, 1]


def test_the_seed_alone_decides_the_splits():
    spectra = toy()
    first, again, other = (make_splits(spectra, settings(), seed) for seed in (3, 3, 4))
    assert np.array_equal(first["valid"], again["valid"])
    assert not np.array_equal(first["valid"], other["valid"])


def test_every_class_with_two_spectra_reaches_both_splits():
    spectra = toy((100, 2, 3, 2))
    for seed in range(20):
        parts = make_splits(spectra, settings(), seed)
        assert (histogram(spectra, parts["train"]) > 0).all()
        assert (histogram(spectra, parts["valid"]) > 0).all()


@pytest.mark.parametrize("split_by", ["stratified", "group", "random"])
def test_folds_cover_the_set_once_and_share_out_the_classes(split_by):
    spectra = grouped()
    tests = []
    for fold in range(5):
        cfg = settings(n_folds=5, fold=fold, split_by=split_by)
        parts = make_splits(spectra, cfg, seed=7)
        assert sum(map(len, parts.values())) == len(spectra)
        tests.append(parts["test"])
    assert sorted(np.concatenate(tests)) == list(range(len(spectra)))
    if split_by != "random":
        counts = np.array([histogram(spectra, rows) for rows in tests])
        assert (np.ptp(counts, axis=0) <= (1 if split_by == "stratified" else 12)).all()


def test_no_object_straddles_two_splits():
    spectra = grouped()
    for seed in range(5):
        cfg = settings(split_by="group", test_fraction=0.15)
        parts = make_splits(spectra, cfg, seed)
        objects = [set(spectra.group[rows]) for rows in parts.values()]
        assert not objects[0] & objects[1]
        assert not objects[0] & objects[2]
        assert not objects[1] & objects[2]
        shares = histogram(spectra, parts["test"]) / histogram(spectra, np.arange(len(spectra)))
        assert np.abs(shares - 0.15).max() < 0.06


def test_groups_are_dealt_about_as_evenly_as_scikit_learn_does():
    model_selection = pytest.importorskip("sklearn.model_selection")
    spectra = grouped(3)
    part = deal_groups(spectra.labels, spectra.group, [0.2] * 5, np.random.default_rng(0))
    peer = model_selection.StratifiedGroupKFold(5, shuffle=True, random_state=0)
    theirs = [
        histogram(spectra, rows)
        for _, rows in peer.split(spectra.labels, spectra.labels, spectra.group)
    ]
    ours = [histogram(spectra, part == fold) for fold in range(5)]
    assert np.std(ours, axis=0).sum() <= 1.5 * np.std(theirs, axis=0).sum() + 1


def test_the_sets_own_fold_column_is_the_test_set():
    fold = np.random.default_rng(2).integers(0, 3, 487)
    spectra = toy(fold=fold)
    parts = make_splits(spectra, settings(fold=2), seed=0)
    assert np.array_equal(parts["test"], np.flatnonzero(fold == 2))
    with pytest.raises(ConfigError, match=r"data\.fold: 9 is not in the fold column.*0, 1, 2"):
        make_splits(spectra, settings(fold=9), seed=0)


def test_splitting_by_group_without_groups_names_the_setting():
    with pytest.raises(ConfigError, match=r"data\.split_by.*data\.group_key"):
        make_splits(toy(), settings(split_by="group"), seed=0)


def test_a_class_missing_from_a_split_is_named_with_the_remedy():
    spectra = toy((50, 10, 5, 1))
    parts = make_splits(spectra, settings(), seed=0)
    with pytest.raises(UserError, match=r"'qso' is missing from the (train|valid) split \(1 spe"):
        require_every_class(spectra, parts)
    absent = toy((50, 10, 5, 0))
    with pytest.raises(UserError, match=r"leave it out of data\.classes"):
        require_every_class(absent, make_splits(absent, settings(), seed=0))


def test_a_class_missing_from_the_test_split_is_a_warning_only():
    spectra = toy((50, 10, 5, 5))
    rows = np.arange(len(spectra))
    parts = {"train": rows, "valid": rows, "test": rows[spectra.labels != 3]}
    assert "'qso' is missing from the test split" in require_every_class(spectra, parts)[0]


def test_apportion_sums_up_and_gives_everybody_something_if_it_can():
    rng = np.random.default_rng(0)
    for total in range(60):
        counts = apportion(total, [0.7, 0.2, 0.06, 0.04], rng)
        assert counts.sum() == total
        assert total < 4 or counts.min() > 0
    assert apportion(100, [0.5, 0.3, 0.2], rng).tolist() == [50, 30, 20]


def test_a_limit_keeps_every_class():
    spectra = toy()
    rows = limited(spectra.labels, np.arange(0, len(spectra), 2), 20, seed=0)
    assert len(rows) == 20
    assert (rows % 2 == 0).all()
    assert (histogram(spectra, rows) > 0).all()
    assert limited(None, rows, 5, seed=0).shape == (5,)
    assert limited(None, rows, None, seed=0) is rows

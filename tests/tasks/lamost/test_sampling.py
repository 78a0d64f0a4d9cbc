"""Which rows a batch holds."""

import numpy as np
import pytest

from kexue_cli.errors import ConfigError, UserError
from kexue_cli.tasks.lamost.sampling import (
    Balanced,
    FixedCounts,
    Natural,
    counts_of_batch,
    make_sampler,
)

LABELS = np.repeat([0, 1, 2, 3], [900, 70, 20, 10])
NAMES = ("star", "unknown", "galaxy", "qso")
SHARES = [0.8, 0.1, 0.05, 0.05]


def test_the_posts_shares_give_its_counts() -> None:
    sampler = make_sampler("fixed", LABELS, NAMES, SHARES, 160, seed=1)
    for step in range(5):
        assert np.bincount(LABELS[sampler(step)]).tolist() == [128, 16, 8, 8]


@pytest.mark.parametrize(
    ("batch_size", "shares", "counts"),
    [
        (160, [0.8, 0.1, 0.05, 0.05], [128, 16, 8, 8]),
        (10, [1, 1, 1], [4, 3, 3]),
        (7, [0.9, 0.05, 0.05], [6, 1, 0]),
    ],
)
def test_counts_add_up_to_the_batch(batch_size, shares, counts) -> None:
    assert counts_of_batch(batch_size, shares) == counts


@pytest.mark.parametrize("kind", ["fixed", "balanced", "natural"])
def test_a_batch_depends_on_seed_and_step_alone(kind: str) -> None:
    def sampler(seed: int):
        return make_sampler(kind, LABELS, NAMES, SHARES, 50, seed)

    first = sampler(1)
    batches = [first(step) for step in range(30)]
    assert np.array_equal(sampler(1)(17), batches[17])
    assert not np.array_equal(sampler(2)(17), batches[17])
    assert not np.array_equal(batches[16], batches[17])
    assert all(len(batch) == 50 for batch in batches)


def test_natural_takes_every_row_once_in_each_pass_across_batch_borders() -> None:
    sampler = Natural(n_rows=10, batch_size=4, seed=0)
    stream = np.concatenate([sampler(step) for step in range(15)])
    passes = stream.reshape(6, 10)
    assert (np.sort(passes, axis=1) == np.arange(10)).all()
    assert len({tuple(order) for order in passes}) == 6


def test_natural_fills_a_batch_larger_than_the_set() -> None:
    rows = Natural(n_rows=3, batch_size=8, seed=0)(0)
    assert np.bincount(rows).tolist() in ([3, 3, 2], [3, 2, 3], [2, 3, 3])


def test_balanced_is_even_over_the_steps() -> None:
    sampler = Balanced(LABELS, 4, 10, seed=0)
    drawn = np.concatenate([LABELS[sampler(step)] for step in range(20)])
    assert np.bincount(drawn).tolist() == [50, 50, 50, 50]


def test_a_row_of_a_class_is_drawn_as_often_as_any_other() -> None:
    sampler = FixedCounts(LABELS, [0, 0, 0, 10], seed=0)
    times = np.bincount(np.concatenate([sampler(s) for s in range(1000)]) - 990)
    assert times.min() > 900  # 1000 expected, standard deviation 30
    assert times.max() < 1100


def test_shares_must_be_one_for_each_class() -> None:
    with pytest.raises(
        ConfigError, match=r"task.class_shares: has 4 numbers; the classes are Ia, Ib"
    ):
        make_sampler("fixed", np.array([0, 1]), ("Ia", "Ib"), SHARES, 160, 0)


@pytest.mark.parametrize("kind", ["fixed", "balanced"])
def test_a_class_without_rows_is_named(kind: str) -> None:
    with pytest.raises(UserError, match=r"class qso.*task.sampling=natural"):
        make_sampler(kind, LABELS[:-10], NAMES, SHARES, 160, 0)

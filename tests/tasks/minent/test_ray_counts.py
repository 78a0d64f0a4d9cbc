"""Counting on a local Ray cluster gives the same bits."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kexue_cli.errors import UserError
from kexue_cli.tasks.minent import ngrams, ray_counts, symbols
from tests.tasks.minent.counting import corpus_of

ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")


@pytest.fixture
def cluster() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own, of its coming versions
        ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
        yield
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_counts_from_ray_are_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    lines = ["".join(rng.choice(list("abcdefgh"), rng.integers(1, 60))) for _ in range(500)]
    corpus = corpus_of(tmp_path / "t.txt", lines)
    local = ngrams.count_ngrams(corpus, 4)
    monkeypatch.setattr(ray_counts, "LEAST_JOB", 2000)
    monkeypatch.setattr(ray_counts, "LEAST_MERGE", 1000)
    monkeypatch.setattr(symbols, "CHUNK_CHARACTERS", 500)
    spread = ray_counts.count_ngrams_with_ray(corpus, 4, memory_mib=0)
    np.testing.assert_array_equal(spread.records.keys, local.records.keys)
    np.testing.assert_array_equal(spread.records.counts, local.records.counts)
    with pytest.raises(UserError, match="larger than the longest piece"):
        ray_counts.count_ngrams_with_ray(corpus_of(tmp_path / "s.txt", ["ab"]), 4)

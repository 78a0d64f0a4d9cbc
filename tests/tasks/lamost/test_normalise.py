import warnings

import numpy as np
import pytest

from kexue_cli.errors import UserError
from kexue_cli.tasks.lamost.config_data import Normalise
from kexue_cli.tasks.lamost.normalise import Normalisation, fill_missing, inspect, refuse_empty

NAN = np.nan
rng = np.random.default_rng(0)
FLUX = rng.normal(300, 40, (5, 101)).astype(np.float32)


def test_scale_is_the_posts_flux_over_100():
    assert np.array_equal(Normalisation()(FLUX), FLUX / np.float32(100))


def test_zscore_has_mean_0_and_deviation_1_as_numpy_says():
    out = Normalisation("zscore")(FLUX)
    expected = (FLUX - FLUX.mean(1, keepdims=True)) / FLUX.std(1, keepdims=True)
    np.testing.assert_allclose(out, expected, atol=2e-5)


def test_l2_gives_unit_vectors():
    np.testing.assert_allclose(np.linalg.norm(Normalisation("l2")(FLUX), axis=1), 1, rtol=1e-6)


def test_robust_is_median_and_scaled_absolute_deviation():
    stats = pytest.importorskip("scipy.stats")
    mad = stats.median_abs_deviation(FLUX.astype(float), axis=1, scale="normal")
    expected = (FLUX - np.median(FLUX, axis=1, keepdims=True)) / mad[:, None]
    np.testing.assert_allclose(Normalisation("robust")(FLUX), expected, rtol=1e-3, atol=1e-5)


def test_robust_of_a_mostly_padded_row_falls_back_to_the_standard_deviation():
    row = np.zeros((1, 100), np.float32)
    row[0, :30] = rng.normal(size=30)
    out = Normalisation("robust")(row)
    np.testing.assert_allclose(out, row / row.std(), rtol=1e-4)


@pytest.mark.parametrize("kind", [kind.name for kind in Normalise])
@pytest.mark.parametrize("value", [0.0, 1.0, 317.208, -1e-3, 3e7])
def test_a_constant_row_stays_finite_in_every_normalisation(kind, value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = Normalisation(kind)(np.full((2, 2600), value, np.float32))
    assert np.isfinite(out).all()
    assert not np.ptp(out, axis=1).any()
    if kind in ("zscore", "robust"):
        assert not out.any()


def test_large_flux_does_not_overflow():
    assert np.isfinite(Normalisation("l2")(np.full((1, 2600), 1e25, np.float32))).all()


def test_clip_cuts_after_normalising():
    spike = FLUX.copy()
    spike[0, 3] = 1e6
    assert Normalisation("zscore", clip=5.0)(spike).max() == 5


def test_missing_edges_repeat_the_nearest_pixel_and_gaps_are_bridged():
    row = np.array([[NAN, NAN, 2.0, NAN, 4.0, np.inf]], np.float32)
    np.testing.assert_array_equal(fill_missing(row), [[2, 2, 2, 3, 4, 4]])
    assert np.isnan(row[0, 0])


@pytest.mark.parametrize("kind", [kind.name for kind in Normalise])
def test_missing_pixels_never_reach_the_network(kind):
    flux = FLUX.copy()
    flux[1, :30] = NAN
    flux[2, -1] = NAN
    flux[3, 50] = -np.inf
    out = Normalisation(kind)(flux)
    assert out.dtype == np.float32
    assert np.isfinite(out).all()


def test_inspect_counts_missing_constant_and_empty_rows_whatever_the_chunk():
    flux = rng.normal(size=(9, 20)).astype(np.float32)
    flux[2, :3] = NAN
    flux[4] = 1.0
    flux[5] = NAN
    flux[7] = 3.0
    flux[7, 0] = np.inf
    for rows_per_chunk in (1, 4, 100):
        quality = inspect(flux, rows_per_chunk)
        assert (quality.rows, quality.missing_pixels, quality.incomplete_rows) == (9, 24, 3)
        assert quality.empty_rows == [5]
        assert quality.constant_rows == [4, 7]


def test_a_spectrum_without_any_pixel_is_refused_by_name():
    flux = FLUX.copy()
    flux[3] = NAN
    ids = np.array(list("abcde"))
    with pytest.raises(UserError, match=r"my set: 1 spectra have no finite pixel.*: d\."):
        refuse_empty(inspect(flux), ids, "my set")

from pathlib import Path

import numpy as np
import pytest

from kexue_cli.tasks.lamost import synthetic_spectra, templates
from kexue_cli.tasks.lamost.config_data import CONTEST_SHARES
from kexue_cli.tasks.lamost.instrument import wavelength_grid
from kexue_cli.tasks.lamost.synthetic_spectra import (
    GALAXY,
    QSO,
    STAR,
    UNKNOWN,
    class_counts,
    draw_galaxies,
    draw_quasars,
    draw_stars,
    reddened,
    simulate,
)
from tests.tasks.lamost.spectra_files import QUIET, load, settings

GRID = wavelength_grid(2600)


def read(part="train", **changes):
    cfg = settings("synthetic_spectra", **{"n_spectra": 600, "n_test": 300, **changes})
    return synthetic_spectra.read(cfg, part, console=QUIET, cache_dir=Path())


def star(kelvin):
    """Noise-free star at rest, (2600,)."""
    bank = templates.stars()
    row = np.array([np.abs(templates.TEMPERATURES - kelvin).argmin()])
    light, depth = (templates.observe(b, row, np.zeros(1), np.log10(GRID)) for b in bank)
    return (light * np.exp(-depth))[0]


def depth_at(flux, center, half_width=6.0, side=40.0):
    """How deep a line is below the continuum beside it, 0 to 1."""
    inside = np.abs(GRID - center) < half_width
    beside = (np.abs(GRID - center) > side) & (np.abs(GRID - center) < 2 * side)
    return 1 - flux[inside].min() / np.median(flux[beside])


def test_the_seed_alone_decides_the_spectra_and_threads_do_not(monkeypatch):
    first = read()
    monkeypatch.setattr(synthetic_spectra, "available_cores", lambda: 1)
    assert np.array_equal(first.flux, read().flux)
    assert first.checksum == read().checksum
    assert not np.array_equal(first.flux, read(data_seed=1).flux)


def test_the_test_set_is_another_draw_with_other_ids():
    train, test = read(), read("test")
    assert len(test) == 300
    assert not set(train.ids) & set(test.ids)
    assert not (train.flux[:300] == test.flux).all(axis=1).any()
    assert read("test", n_test=0) is None


def test_the_contests_class_shares_with_a_few_of_each():
    assert class_counts(100_000, CONTEST_SHARES).tolist() == [91_550, 7_090, 1_080, 280]
    small = class_counts(500, CONTEST_SHARES)
    assert small.sum() == 500
    assert small.min() == synthetic_spectra.MINIMUM_PER_CLASS


def test_spectra_are_finite_float32_on_the_contests_grid():
    spectra = read()
    assert spectra.flux.shape == (600, 2600)
    assert spectra.flux.dtype == np.float32
    assert np.isfinite(spectra.flux).all()
    assert spectra.wavelength_angstrom[[0, -1]].tolist() == [3690, 9100]
    assert read(length=1000).flux.shape == (600, 1000)


def test_unknown_spectra_are_those_with_little_signal():
    flux, labels = simulate(np.array([200, 200, 200, 200]), 2600, np.random.default_rng(0))
    noise = np.median(np.abs(np.diff(flux, axis=1)), axis=1)
    snr = np.array([np.median((np.median(flux, 1) / noise)[labels == k]) for k in range(4)])
    assert snr[UNKNOWN] < 0.4 * snr[[STAR, GALAXY, QSO]].min()


def test_lines_are_strongest_where_the_mk_system_has_them():
    a, f, g, k, m = (star(kelvin) for kelvin in (9500, 6800, 5700, 4500, 3200))
    hydrogen = [depth_at(flux, 4861.3) for flux in (a, f, g, k)]
    assert hydrogen == sorted(hydrogen, reverse=True)
    calcium = [depth_at(flux, 3933.7) for flux in (a, f, g)]
    assert calcium == sorted(calcium)
    assert depth_at(k, 5175) > depth_at(f, 5175)
    assert depth_at(m, 5893) > depth_at(g, 5893) + 0.2
    # The titanium oxide band at 7053 is a step: sharp to the blue, in M stars alone.
    for flux, strong in ((m, True), (g, False)):
        blue = np.median(flux[(GRID > 7020) & (GRID < 7045)])
        red = np.median(flux[(GRID > 7065) & (GRID < 7085)])
        assert (red < 0.7 * blue) == strong


def test_hot_stars_are_bluer():
    colour = [star(kelvin)[(GRID > 4500) & (GRID < 4700)].mean() for kelvin in (3500, 5500, 9000)]
    assert colour == sorted(colour)


def test_a_redshift_moves_a_line_by_1_plus_z():
    gas = templates.nebular()
    z = np.array([0.0, 0.1, 0.3])
    flux = templates.observe(gas, np.zeros(3), z, np.log10(GRID))
    h_beta = (4600 * (1 + z[:, None]) < GRID) & (5100 * (1 + z[:, None]) > GRID)
    peak = GRID[np.argmax(np.where(h_beta, flux, 0), axis=1)]
    np.testing.assert_allclose(peak, 4861.3 * (1 + z), atol=2.1)


def test_an_emission_line_has_the_equivalent_width_it_is_given():
    gas = templates.nebular()
    step = np.gradient(templates.ANGSTROM)
    h_alpha = np.abs(templates.ANGSTROM - 6562.8) < 60
    assert (gas[0] * step)[h_alpha].sum() == pytest.approx(1, rel=1e-3)


def test_old_galaxies_have_a_4000_angstrom_break():
    old, young = templates.galaxies()[[0, -1]]
    d4000 = [
        light[(templates.ANGSTROM > 4050) & (templates.ANGSTROM < 4250)].mean()
        / light[(templates.ANGSTROM > 3750) & (templates.ANGSTROM < 3950)].mean()
        for light in (old, young)
    ]
    assert d4000[0] > 1.5 > 1.35 > d4000[1]


def test_dust_reddens_by_the_colour_excess():
    """E(B-V) = 1 makes B - V redder by 1 magnitude and V fainter by 3.1."""
    band = np.array([4400.0, 5500.0])
    b, v = -2.5 * np.log10(reddened(np.ones((1, 2)), band, np.ones(1))[0])
    assert b - v == pytest.approx(1, abs=0.05)
    assert v == pytest.approx(3.1, abs=0.05)


@pytest.mark.parametrize("draw", [draw_stars, draw_galaxies, draw_quasars])
def test_noise_free_light_is_positive(draw):
    light = draw(200, GRID, np.random.default_rng(0))
    assert light.dtype == np.float32
    assert (light >= 0).all()
    assert (np.median(light, axis=1) > 0).all()


def test_the_embedded_default_loads_with_every_class_in_every_split(tmp_path):
    loaded = load(settings("synthetic_spectra"), tmp_path, limit_rows=150)
    for split in (loaded.train, loaded.valid, loaded.test):
        assert split is not None
        assert len(split) <= 150
        assert (np.bincount(split.labels, minlength=4) > 0).all()


def test_the_classes_are_neither_hopeless_nor_easy():
    """A linear classifier on coarse, normalised spectra: far above chance, far below 1."""
    linear = pytest.importorskip("sklearn.linear_model")
    metrics = pytest.importorskip("sklearn.metrics")
    flux, labels = simulate(np.full(4, 500), 2600, np.random.default_rng(1))
    flux = flux / np.linalg.norm(flux, axis=1, keepdims=True)
    coarse = flux.reshape(len(flux), 130, 20).mean(axis=2) * 50  # (spectra, bins)
    model = linear.LogisticRegression(C=0.1, max_iter=2000).fit(coarse[:1500], labels[:1500])
    score = metrics.f1_score(labels[1500:], model.predict(coarse[1500:]), average="macro")
    assert 0.6 < score < 0.97

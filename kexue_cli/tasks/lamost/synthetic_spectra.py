"""data=synthetic_spectra: a simulator of LAMOST low-resolution spectra with the contest's classes.

A noise-free object (`templates`) is drawn, put at a redshift, reddened, and observed: sky and
read-out noise over the throughput of two arms, residuals of badly subtracted sky lines, telluric
bands, an imperfect join of the arms at 5700-5900 angstrom, an uncertain flux calibration, cosmic
rays. `unknown` is an object of any kind, or empty sky, whose signal drowns in that. The
signal-to-noise ratios of the classes overlap, so that no classifier reaches a score of 1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.run.cores import available_cores
from kexue_cli.tasks.lamost import templates
from kexue_cli.tasks.lamost.instrument import expose, wavelength_grid
from kexue_cli.tasks.lamost.spectra import Integers, SpectraSet
from kexue_cli.tasks.lamost.splits import apportion

Floats = NDArray[np.floating[Any]]
Draw = Callable[[int, Floats, np.random.Generator], Floats]

STAR, UNKNOWN, GALAXY, QSO = range(4)
ROWS_PER_CHUNK = 256  # keeps the temporaries within the cache
MINIMUM_PER_CLASS = 6  # so that each class reaches every split

STAR_TYPE_SHARES = {  # kelvin range: share among the stars of LAMOST
    (7500.0, 10500.0): 0.11,  # A
    (6000.0, 7500.0): 0.30,  # F
    (5200.0, 6000.0): 0.34,  # G
    (3900.0, 5200.0): 0.19,  # K
    (2900.0, 3900.0): 0.06,  # M
}
UNKNOWN_KIND_SHARES = (0.74, 0.0, 0.18, 0.08)  # what an unknown object really is
EMPTY_SKY_SHARE = 0.12  # unknown spectra without any object
MEDIAN_SNR = (18.0, 1.5, 8.0, 8.0)  # per pixel, by class
SNR_SPREAD = (0.85, 0.55, 0.6, 0.6)  # in ln S/N
LOWEST_KNOWN_SNR = 1.5
COUNTS_PER_SNR = 4.5  # median flux over S/N of the survey's spectra


def read(cfg: Any, part: str, *, console: Any, cache_dir: Path) -> SpectraSet | None:
    """The simulated set; `part` is `train` (labelled, to be split) or `test` (another draw)."""
    total = cfg.n_spectra if part == "train" else cfg.n_test
    if not total:
        return None
    rng = np.random.default_rng([cfg.data_seed, part == "test"])
    counts = class_counts(total, cfg.class_shares)
    flux, labels = simulate(counts, cfg.length, rng, cfg.snr_scale)
    recipe = f"{cfg.data_seed} {part} {counts.tolist()} {cfg.length} {cfg.snr_scale}"
    first_id = 100_000 if part == "train" else 500_000
    return SpectraSet(
        flux=flux,
        ids=np.array([str(first_id + row) for row in range(len(flux))]),
        class_names=tuple(cfg.classes),
        checksum=hashlib.sha256(recipe.encode() + flux[:, ::97].tobytes()).hexdigest(),
        labels=labels,
        wavelength_angstrom=wavelength_grid(cfg.length),
    )


def training_is_there(cfg: Any) -> bool:
    """Always: it is drawn anew."""
    return True


def class_counts(total: int, shares: Any) -> Integers:
    """How many spectra of each class: in proportion, but a few at least."""
    weights = np.array(shares, dtype=float)
    counts = apportion(total, weights / weights.sum(), np.random.default_rng(0))
    missing = np.clip(MINIMUM_PER_CLASS - counts, 0, None)
    counts += missing
    counts[counts.argmax()] -= min(missing.sum(), counts.max() - MINIMUM_PER_CLASS)
    return counts


def simulate(
    counts: Integers, length: int, rng: np.random.Generator, snr_scale: float = 1.0
) -> tuple[Floats, Integers]:
    """Draw `counts[k]` spectra of class k in random order.

    Returns:
        flux (n, length) float32 in counts, labels (n,) int64.
    """
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    kinds = labels.copy()  # what the objects are; unknown ones are of any kind
    unknown = labels == UNKNOWN
    kinds[unknown] = rng.choice(len(counts), unknown.sum(), p=UNKNOWN_KIND_SHARES)
    snr = draw_snr(labels, rng) * snr_scale
    wavelength = wavelength_grid(length)
    flux = np.empty((len(labels), length), dtype=np.float32)

    def fill(chunk: tuple[Draw, Integers, np.random.Generator]) -> None:
        draw, rows, stream = chunk
        model = draw(len(rows), wavelength, stream)
        flux[rows] = expose(model, snr[rows], COUNTS_PER_SNR, stream)

    # A random stream for each chunk: the same spectra however many threads there are.
    with ThreadPoolExecutor(min(8, available_cores())) as threads:
        list(threads.map(fill, chunks_of_one_kind(kinds, rng)))
    return flux, labels


def chunks_of_one_kind(
    kinds: Integers, rng: np.random.Generator
) -> Iterator[tuple[Draw, Integers, np.random.Generator]]:
    """Row numbers of stars, then galaxies, then quasars, a few hundred at a time."""
    for kind, draw in ((STAR, draw_stars), (GALAXY, draw_galaxies), (QSO, draw_quasars)):
        members = np.flatnonzero(kinds == kind)
        for start in range(0, len(members), ROWS_PER_CHUNK):
            yield draw, members[start : start + ROWS_PER_CHUNK], rng.spawn(1)[0]


def draw_snr(labels: Integers, rng: np.random.Generator) -> Floats:
    """Signal-to-noise ratio per pixel (n,) of each object, 0 for empty sky."""
    median, spread = np.array(MEDIAN_SNR)[labels], np.array(SNR_SPREAD)[labels]
    snr = median * np.exp(spread * rng.standard_normal(len(labels)))
    unknown = labels == UNKNOWN
    snr[~unknown] = np.maximum(snr[~unknown], LOWEST_KNOWN_SNR)
    snr[unknown & (rng.random(len(labels)) < EMPTY_SKY_SHARE)] = 0.0
    return snr


def draw_stars(n: int, wavelength: Floats, rng: np.random.Generator) -> Floats:
    """Noise-free stars (n, length), types A to M, with a radial velocity, metallicity and dust."""
    ranges = np.array(list(STAR_TYPE_SHARES))
    chosen = rng.choice(len(ranges), n, p=list(STAR_TYPE_SHARES.values()))
    kelvin = ranges[chosen, 0] + rng.random(n) * np.ptp(ranges[chosen], axis=1)
    step = np.log(templates.TEMPERATURES[1] / templates.TEMPERATURES[0])
    row = np.rint(np.log(kelvin / templates.TEMPERATURES[0]) / step)
    redshift = rng.normal(0, 60.0, n) / templates.SPEED_OF_LIGHT
    strength = np.exp(rng.normal(-0.1, 0.25, n))[:, None].astype(np.float32)  # of lines
    bank = templates.stars()
    log_wavelength = np.log10(wavelength)
    depth = templates.observe(bank.depth, row, redshift, log_wavelength)
    light = templates.observe(bank.continuum, row, redshift, log_wavelength)
    return reddened(light * np.exp(-strength * depth), wavelength, rng.exponential(0.12, n))


def draw_galaxies(n: int, wavelength: Floats, rng: np.random.Generator) -> Floats:
    """Noise-free galaxies (n, length): old to star-forming, redshift up to about 0.4."""
    redshift = np.clip(rng.gamma(2.5, 0.045, n), 0.003, 0.45)
    young = rng.beta(0.7, 1.6, n)
    row = np.rint(young * (len(templates.YOUNG_FRACTIONS) - 1))
    log_wavelength = np.log10(wavelength)
    light = templates.observe(templates.galaxies(), row, redshift, log_wavelength)
    h_alpha = young * 35.0 * np.exp(rng.normal(0, 0.7, n))  # equivalent width, angstrom
    ratios = np.exp(rng.normal(np.log([1.0, 0.4, 0.35, 0.45]), [0.0, 0.4, 0.7, 0.4], (n, 4)))
    active = (rng.random(n) < 0.1)[:, None] * np.array([2.0, 3.0, 15.0, 8.0])
    widths = (h_alpha[:, None] * ratios + active * rng.random((n, 1))).astype(np.float32)
    gas = templates.nebular()
    for species in range(len(gas)):
        which = np.full(n, species)
        profile = templates.observe(gas, which, redshift, log_wavelength)
        light += widths[:, species, None] * profile
    return reddened(light, wavelength, rng.exponential(0.08, n))


def draw_quasars(n: int, wavelength: Floats, rng: np.random.Generator) -> Floats:
    """Noise-free quasars (n, length): power law, broad lines, forest; redshift 0.1 to 3.8."""
    redshift = np.clip(rng.gamma(4.0, 0.37, n), 0.08, 3.8)
    rest = wavelength / (1 + redshift[:, None])
    slope = rng.normal(-1.45, 0.35, (n, 1))
    continuum = (rest / 2500.0) ** slope
    continuum = continuum / np.median(continuum, axis=1, keepdims=True)
    width = np.clip(rng.normal(0.5, 0.2, n), 0, 1)
    row = np.rint(width * (len(templates.QUASAR_WIDTHS) - 1))
    strength = np.exp(rng.normal(0, 0.4, n))[:, None]
    log_wavelength = np.log10(wavelength)
    broad = templates.observe(templates.quasar_broad(), row, redshift, log_wavelength)
    narrow = templates.observe(templates.nebular(), np.full(n, 2), redshift, log_wavelength)
    light = continuum * (1 + strength * broad + rng.exponential(8.0, n)[:, None] * narrow)
    return reddened(light * lyman_forest(rest, redshift, rng), wavelength, rng.exponential(0.04, n))


def lyman_forest(rest: Floats, redshift: Floats, rng: np.random.Generator) -> Floats:
    """Transmission (n, length) of the hydrogen between us and a quasar, blueward of Lyman alpha."""
    absorber = rest / 1215.67 * (1 + redshift[:, None])  # 1 + z of hydrogen that absorbs here
    mean_depth = 0.0036 * np.clip(absorber, 1, None) ** 3.45 / 2
    clumps = rng.gamma(0.6, 1 / 0.6, rest.shape)
    return np.exp(-np.where(rest < 1215.67, mean_depth * clumps, 0.0))


def reddened(light: Floats, wavelength: Floats, e_b_v: Floats) -> Floats:
    """Light (n, length) behind dust of colour excess `e_b_v` (n,), optical law with R_V = 3.1.

    Source: Cardelli, Clayton & Mathis 1989, equations 3a and 3b.
    """
    y = 1e4 / wavelength - 1.82
    a = np.polyval([0.32999, -0.77530, 0.01979, 0.72085, -0.02427, -0.50447, 0.17699, 1], y)
    b = np.polyval([-2.09002, 5.30260, -0.62251, -5.38434, 1.07233, 2.28305, 1.41338, 0], y)
    magnitudes = 3.1 * e_b_v[:, None] * (a + b / 3.1)
    return (light * 10 ** (-0.4 * magnitudes)).astype(np.float32)

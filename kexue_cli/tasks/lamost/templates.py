"""Rest-frame template spectra of stars, galaxies and quasars for the simulator.

All templates lie on one grid of equal steps in log10 wavelength, where a redshift is a
shift. They are not model atmospheres: line strengths follow simple curves over temperature
that put each feature where the MK system has it (Balmer lines strongest at A0, Ca II and
the G band in G and K, titanium oxide in M).
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kexue_cli.tasks.lamost import lines

Floats = NDArray[np.floating[Any]]

LOG_STEP = 1e-4  # log10 angstrom; 69 km/s, the step of LAMOST and SDSS spectra
LOG_GRID = np.arange(np.log10(700.0), np.log10(9600.0), LOG_STEP)
ANGSTROM = 10**LOG_GRID
SPEED_OF_LIGHT = 299_792.458  # km/s
HC_OVER_K = 1.438777e8  # angstrom kelvin

TEMPERATURES = np.geomspace(2900.0, 10500.0, 80)  # kelvin, M6 to A0
YOUNG_FRACTIONS = np.linspace(0.0, 1.0, 12)  # of a galaxy's light at 5500 angstrom
QUASAR_WIDTHS = np.geomspace(1800.0, 11000.0, 10)  # FWHM of the broad lines, km/s


def gaussian(center: float, sigma: float) -> Floats:
    """Line profile of height 1 on the grid, `sigma` in angstrom."""
    return np.exp(-0.5 * ((ANGSTROM - center) / sigma) ** 2)


def bump(temperature: Floats, peak: float, width: float) -> Floats:
    """A species' strength over temperature: 1 at `peak`, a Gaussian of `width` in ln T."""
    return np.exp(-0.5 * (np.log(temperature / peak) / width) ** 2)


def cooler_than(temperature: Floats, limit: float, width: float) -> Floats:
    """A strength that rises from 0 to 1 as the temperature falls through `limit`."""
    return 1 / (1 + np.exp((temperature - limit) / width))


class StarBank(NamedTuple):
    """Over `TEMPERATURES`: continuum (1 at 5500 angstrom) and optical depth of all lines."""

    continuum: Floats  # (temperatures, grid)
    depth: Floats  # (temperatures, grid)


@cache
def stars() -> StarBank:
    """Black bodies and the optical depth of their lines at solar abundance."""
    kelvin = TEMPERATURES
    planck = ANGSTROM**-5.0 / np.expm1(HC_OVER_K / (ANGSTROM * kelvin[:, None]))
    at_5500 = np.searchsorted(ANGSTROM, 5500.0)
    depth = _atomic_depth(kelvin) + _molecular_depth(kelvin)
    continuum = planck / planck[:, at_5500, None]
    return StarBank(continuum.astype(np.float32), depth.astype(np.float32))


def _atomic_depth(kelvin: Floats) -> Floats:
    """Optical depth (temperatures, grid) of hydrogen and metal lines."""
    cool = cooler_than(kelvin, 6900.0, 550.0)
    species: list[tuple[dict[str, float], Floats, float]] = [  # lines, depth, sigma in angstrom
        (lines.CALCIUM_HK, 0.25 * bump(kelvin, 8200.0, 0.15) + 1.9 * cool, 5.0),
        (lines.CALCIUM_TRIPLET, 0.55 * bump(kelvin, 4700.0, 0.35), 3.5),
        (lines.CALCIUM_I, 0.8 * bump(kelvin, 3800.0, 0.22), 4.0),
        (lines.G_BAND, 0.6 * bump(kelvin, 5200.0, 0.18), 7.0),
        (lines.MAGNESIUM_B, 0.55 * bump(kelvin, 4600.0, 0.25), 3.2),
        (lines.SODIUM_D, 0.08 + 0.9 * cooler_than(kelvin, 4500.0, 350.0), 3.0),
        (lines.IRON, 0.28 * bump(kelvin, 4900.0, 0.25), 2.4),
    ]
    depth = np.zeros((len(kelvin), len(ANGSTROM)))
    for wavelengths, strength, sigma in species:
        profile = np.sum([gaussian(center, sigma) for center in wavelengths.values()], axis=0)
        depth += strength[:, None] * profile
    hydrogen = bump(kelvin, 9500.0, 0.3)[:, None]
    narrow = np.sum([gaussian(center, 3.2) for center in lines.BALMER.values()], axis=0)
    wings = np.sum(
        [np.exp(-np.abs(ANGSTROM - center) / 11.0) for center in lines.BALMER.values()], axis=0
    )
    paschen = np.sum([gaussian(center, 9.0) for center in lines.PASCHEN.values()], axis=0)
    depth += (0.2 + 0.4 * hydrogen) * narrow + 0.75 * hydrogen**2 * wings
    return depth + 0.25 * hydrogen**2 * paschen + _blanketing(kelvin)


def _blanketing(kelvin: Floats) -> Floats:
    """Optical depth of the many faint metal lines, denser to the blue, and the 4000 A break.

    Their positions are drawn once from a fixed stream: the same lines in every star.
    """
    rng = np.random.default_rng(4000)
    centers = 2500 + rng.exponential(1300.0, 1800)
    faint = np.zeros(len(ANGSTROM))
    for center, strength in zip(centers, rng.exponential(0.075, len(centers)), strict=True):
        near = slice(*np.searchsorted(ANGSTROM, [center - 9, center + 9]))
        faint[near] += strength * np.exp(-0.5 * ((ANGSTROM[near] - center) / 2.2) ** 2)
    metals = bump(kelvin, 4500.0, 0.26)[:, None]
    edge = 1 / (1 + np.exp((ANGSTROM - 3990.0) / 25.0))
    ultraviolet = np.clip((4000.0 - ANGSTROM) / 1500.0, 0, None)
    return metals * (faint + 0.45 * edge + 1.6 * ultraviolet)


def _molecular_depth(kelvin: Floats) -> Floats:
    """Optical depth of magnesium and calcium hydride and of titanium oxide in K and M stars."""
    bands = np.zeros(len(ANGSTROM))
    for head, strength in lines.TIO_HEADS.items():
        redward = ANGSTROM - head
        edge = 1 / (1 + np.exp(-np.clip(redward / 4.0, -50, 50)))
        bands += strength * edge * np.exp(-np.clip(redward, 0, None) / 110.0)
    hydride = 0.5 * gaussian(6385.0, 18.0) + 0.6 * gaussian(6850.0, 35.0)
    oxide = 1.3 * cooler_than(kelvin, 3550.0, 180.0)[:, None]
    magnesium = 0.35 * bump(kelvin, 4200.0, 0.15)[:, None] * gaussian(5120.0, 45.0)
    return oxide * (bands + hydride) + magnesium


@cache
def galaxies() -> Floats:
    """Starlight of galaxies (young fractions, grid), 1 at 5500 angstrom.

    Old light is a mix of K, G and M stars, young light of A and F; all lines are widened by
    a velocity dispersion of 200 km/s.
    """
    bank = stars()
    light = bank.continuum * np.exp(-bank.depth)
    light = light / light[:, np.searchsorted(ANGSTROM, 5500.0), None]

    def mix(shares: dict[float, float]) -> Floats:
        nearest = [int(np.abs(TEMPERATURES - kelvin).argmin()) for kelvin in shares]
        return np.array(list(shares.values())) @ light[nearest]

    old = mix({3500.0: 0.1, 4300.0: 0.5, 5000.0: 0.25, 5700.0: 0.15})
    young = mix({10000.0: 0.45, 8000.0: 0.25, 6500.0: 0.2, 4800.0: 0.1})
    sigma = 200.0 / SPEED_OF_LIGHT / np.log(10) / LOG_STEP  # in grid steps
    offset = np.arange(-12, 13)
    kernel = np.exp(-0.5 * (offset / sigma) ** 2)
    widened = [np.convolve(part, kernel / kernel.sum(), mode="same") for part in (old, young)]
    share = YOUNG_FRACTIONS[:, None]
    return ((1 - share) * widened[0] + share * widened[1]).astype(np.float32)


@cache
def nebular() -> Floats:
    """Emission lines of ionised gas (4, grid), each an equivalent width of 1 angstrom.

    Rows: hydrogen (of H alpha, with case-B ratios), [O II], [O III], [N II] with [S II] and [O I].
    """
    hydrogen = {6562.8: 1.0, 4861.3: 0.35, 4340.5: 0.16, 4101.7: 0.09}
    nitrogen = {6583.5: 1.0, 6548.1: 0.33, 6716.4: 0.6, 6730.8: 0.45, 6300.3: 0.12}
    species = (hydrogen, {3727.4: 1.0}, {5006.8: 1.0, 4958.9: 0.34, 3868.8: 0.15}, nitrogen)
    rows = []
    for ratios in species:
        profiles = [
            strength * gaussian(center, sigma) / (sigma * np.sqrt(2 * np.pi))
            for center, strength in ratios.items()
            for sigma in [7e-4 * center]  # 500 km/s FWHM: gas motion and resolution
        ]
        rows.append(np.sum(profiles, axis=0))
    return np.array(rows, dtype=np.float32)


QUASAR_EQUIVALENT_WIDTHS = {  # angstrom, typical values of composite spectra
    "Lyα": 80.0, "N V": 18.0, "Si IV": 9.0, "C IV": 30.0, "He II": 5.0, "C III]": 21.0,
    "Mg II": 32.0, "Hδ": 6.0, "Hγ": 13.0, "Hβ": 45.0, "Hα": 190.0,
}  # fmt: skip


@cache
def quasar_broad() -> Floats:
    """Broad lines and iron (widths, grid), relative to the continuum."""
    rows = []
    for width in QUASAR_WIDTHS:
        relative = width / SPEED_OF_LIGHT / 2.355
        row = _iron_pseudo_continuum()
        for name, equivalent_width in QUASAR_EQUIVALENT_WIDTHS.items():
            center = lines.QUASAR[name]
            sigma = relative * center
            row = row + equivalent_width / (sigma * np.sqrt(2 * np.pi)) * gaussian(center, sigma)
        rows.append(row)
    return np.array(rows, dtype=np.float32)


def _iron_pseudo_continuum() -> Floats:
    """Fe II blends beside Mg II and H beta, and the Balmer continuum (the small blue bump)."""
    iron = 0.25 * gaussian(2500.0, 90.0) + 0.18 * gaussian(3150.0, 110.0)
    iron += 0.16 * gaussian(4560.0, 60.0) + 0.15 * gaussian(5250.0, 70.0)
    edge = 1 / (1 + np.exp((ANGSTROM - 3680.0) / 40.0))
    return iron + 0.25 * edge * np.exp(-np.clip(3680.0 - ANGSTROM, 0, None) / 700.0)


def observe(bank: Floats, row: Floats, redshift: Floats, log_wavelength: Floats) -> Floats:
    """Rows (n,) of a bank (rows, grid), shifted by redshift (n,), at (length,) observed points.

    Linear interpolation on the log grid; beyond the grid the last value is repeated.
    """
    position = ((log_wavelength - LOG_GRID[0]) / LOG_STEP).astype(np.float32)
    shift = (np.log10(1 + redshift) / LOG_STEP).astype(np.float32)
    place = np.clip(position[None, :] - shift[:, None], 0, len(LOG_GRID) - 1.001)
    left = place.astype(np.int32)
    part = place - left  # (n, length)
    flat = bank.reshape(-1)
    left += (row * bank.shape[1]).astype(np.int32)[:, None]
    low = flat.take(left)
    return low + part * (flat.take(left + 1) - low)

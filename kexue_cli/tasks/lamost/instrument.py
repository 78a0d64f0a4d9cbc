"""What telescope, sky and pipeline add to a noise-free spectrum in the simulator."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kexue_cli.tasks.lamost import lines

Floats = NDArray[np.floating[Any]]

FIRST_ANGSTROM, LAST_ANGSTROM = 3690.0, 9100.0
JOIN_ANGSTROM = 5800.0  # where the red arm takes over


def wavelength_grid(length: int) -> Floats:
    """The contest's grid: `length` equal steps from 3690 to 9100 angstrom."""
    return np.linspace(FIRST_ANGSTROM, LAST_ANGSTROM, length)


class Night(NamedTuple):
    """Fixed curves on a wavelength grid."""

    noise: Floats  # (length,) noise relative to its median
    sky_lines: Floats  # (sky lines, length) profiles of residuals
    telluric_depth: Floats  # (length,) optical depth of oxygen and water
    x: Floats  # (length,) wavelength scaled to -1..1, for calibration errors
    red_arm: Floats  # (length,) 0 in the blue arm, 1 in the red arm


@cache
def night(length: int) -> Night:
    """The curves for the grid of `length` points."""
    wavelength = wavelength_grid(length)

    def gaussian(center: Floats | float, sigma: float) -> Floats:
        return np.exp(-0.5 * ((wavelength - center) / sigma) ** 2)

    # The hydroxyl bands crowd the red; their positions are drawn once, the same for all spectra.
    rng = np.random.default_rng(7200)
    bands = rng.choice([7300.0, 7800.0, 8350.0, 8830.0, 9000.0], 60) + rng.normal(0, 75.0, 60)
    centers = np.concatenate([list(lines.SKY.values()), bands])
    strength = np.concatenate([[3.5, 0.6, 1.0, 0.5], rng.exponential(0.5, 60)])
    profiles = strength[:, None] * gaussian(centers[:, None], 2.3)
    noise = 1 + 2.5 * np.exp(-(wavelength - FIRST_ANGSTROM) / 180.0)
    noise += 1.2 * np.exp((wavelength - LAST_ANGSTROM) / 120.0)
    noise += 0.5 * gaussian(JOIN_ANGSTROM, 70.0) + 0.35 * profiles.sum(axis=0)
    telluric = 0.35 * gaussian(6875.0, 12.0) + 0.7 * gaussian(7605.0, 16.0)
    telluric += 0.08 * gaussian(7200.0, 50.0) + 0.12 * gaussian(8220.0, 60.0)
    telluric += 0.2 * gaussian(9050.0, 60.0)
    return Night(
        noise=(noise / np.median(noise)).astype(np.float32),
        sky_lines=profiles.astype(np.float32),
        telluric_depth=telluric.astype(np.float32),
        x=np.linspace(-1, 1, length, dtype=np.float32),
        red_arm=(1 / (1 + np.exp(-(wavelength - JOIN_ANGSTROM) / 25.0))).astype(np.float32),
    )


def expose(light: Floats, snr: Floats, counts_per_snr: float, rng: np.random.Generator) -> Floats:
    """Observe noise-free light (n, length) at a median signal-to-noise ratio (n,) per pixel.

    Returns:
        flux (n, length) float32 in counts. The noise of faint objects is that of the sky and
        does not fall with their flux; S/N 0 is empty sky.
    """
    n, length = light.shape
    curves = night(length)

    def normal(*shape: int) -> Floats:
        return rng.standard_normal(shape, dtype=np.float32)

    light = light / np.median(light, axis=1, keepdims=True)
    light = light * np.exp(-0.6 * rng.random((n, 1), dtype=np.float32) * curves.telluric_depth)
    light *= np.exp(0.10 * normal(n, 1) * curves.x + 0.05 * normal(n, 1) * curves.x**2)
    light *= 1 + 0.05 * normal(n, 1) * curves.red_arm

    signal = snr.astype(np.float32)[:, None]
    # Variance of sky and read-out (constant) and of the object's own photons, in units of sky.
    photons = np.minimum(signal / 10.0, 1.0)
    noise = curves.noise * np.sqrt((1 - photons) + photons * np.clip(light, 0.05, None))
    noise *= normal(n, length)
    residuals = (0.8 * normal(n, len(curves.sky_lines))) @ curves.sky_lines
    join = 0.4 * normal(n, 1) * curves.red_arm  # sky level of the arms subtracted unevenly
    unit = counts_per_snr * np.exp(0.5 * normal(n, 1))  # counts of one sigma of noise
    flux = unit * (signal * light + noise + residuals + join)
    return add_cosmic_rays(flux, unit, rng)


def add_cosmic_rays(flux: Floats, unit: Floats, rng: np.random.Generator) -> Floats:
    """Half a hit per spectrum on average that the pipeline left, one or two pixels wide."""
    n, length = flux.shape
    hits = rng.poisson(0.5 * n)
    row, pixel = rng.integers(n, size=hits), rng.integers(length - 1, size=hits)
    height = unit[row, 0] * (6 + rng.exponential(12.0, hits)).astype(np.float32)
    flux[row, pixel] += height
    flux[row, pixel + 1] += height * rng.random(hits, dtype=np.float32) ** 2
    return flux

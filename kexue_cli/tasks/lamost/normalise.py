"""Missing pixels and flux scale: what happens to a spectrum between its file and the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import UserError

Floats = NDArray[np.floating[Any]]

KINDS = ("scale", "l2", "zscore", "robust", "none")
MAD_TO_SIGMA = 1.4826  # standard deviation of a Gaussian over its median absolute deviation


def to_float32(values: NDArray[Any], named: Callable[..., str]) -> NDArray[np.float32]:
    """`values` in single precision, contiguous.

    Raises:
        UserError: a finite number that is infinite then; `named(*indices)` says where it stands.
    """
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(values, dtype=np.float32)
    infinite = np.isinf(single)
    if infinite.any() and (lost := infinite & np.isfinite(values)).any():
        where = np.unravel_index(int(lost.argmax()), lost.shape)
        raise UserError(
            f"{named(*where)} is {values[where]:g}, too large for float32 (3.4e38). Correct it, "
            "leave it empty if it is missing, or scale the set."
        )
    return single


def fill_missing(flux: Floats) -> Floats:
    """Replace non-finite pixels of (n, length) flux by interpolation along the spectrum.

    Missing edges repeat the nearest measured pixel; a spectrum without any becomes 0.
    The array is returned as it is when nothing is missing.
    """
    finite = np.isfinite(flux)
    if finite.all():
        return flux
    flux = np.array(flux)
    pixel = np.arange(flux.shape[1])
    for row in np.flatnonzero(~finite.all(axis=1)):
        good = finite[row]
        measured = flux[row, good]
        flux[row] = np.interp(pixel, pixel[good], measured) if measured.size else 0.0
    return flux


def divided(flux: Floats, spread: Floats) -> Floats:
    """Rows of `flux` over their `spread` (n, 1); rows without spread (constant ones) become 0."""
    usable = np.isfinite(spread) & (spread > 0)
    return np.where(usable, flux / np.where(usable, spread, 1.0), 0.0)


def zscore(flux: Floats) -> Floats:
    """Each row minus its mean over its standard deviation."""
    centred = flux - flux.mean(axis=1, keepdims=True, dtype=np.float64)
    return divided(centred, meaningful(centred.std(axis=1, keepdims=True), flux))


def l2(flux: Floats) -> Floats:
    """Each row over its Euclidean norm."""
    return divided(flux, np.sqrt(np.einsum("nl,nl->n", flux, flux, dtype=np.float64))[:, None])


def robust(flux: Floats) -> Floats:
    """Each row minus its median over 1.4826 median absolute deviations.

    Where more than half of the pixels are equal (padding) that deviation is 0 and the
    standard deviation takes its place.
    """
    centred = flux - np.median(flux, axis=1, keepdims=True)
    spread = MAD_TO_SIGMA * np.median(np.abs(centred), axis=1, keepdims=True)
    fallback = centred.std(axis=1, keepdims=True, dtype=np.float64)
    return divided(centred, meaningful(np.where(spread > 0, spread, fallback), flux))


def meaningful(spread: Floats, flux: Floats) -> Floats:
    """`spread` (n, 1), but 0 where it is only the rounding error of a constant row."""
    level = np.abs(flux).max(axis=1, keepdims=True)
    return np.where(spread > 1e-6 * level, spread, 0.0)


@dataclass(frozen=True)
class Normalisation:
    """Maps raw flux (n, length) to the network's float32 input of the same shape.

    `kind`: `scale` divides by `scale` (100 in the kexue.fm post), `l2`, `zscore` and
    `robust` work on each spectrum by itself, `none` keeps the units. Afterwards values
    beyond +-`clip` are cut off if `clip` is given.
    """

    kind: str = "scale"
    scale: float = 100.0
    clip: float | None = None

    def __call__(self, flux: Floats) -> Floats:
        """The input of the network for flux (n, length); the argument stays as it is."""
        flux = fill_missing(np.asarray(flux))
        if self.kind == "scale":
            flux = flux / np.float32(self.scale)
        elif self.kind != "none":
            flux = {"l2": l2, "zscore": zscore, "robust": robust}[self.kind](flux)
        if self.clip is not None:
            flux = np.clip(flux, -self.clip, self.clip)
        return np.ascontiguousarray(flux, dtype=np.float32)


@dataclass(frozen=True)
class Quality:
    """What is unusual about a set of spectra: row numbers, and how many pixels are missing."""

    rows: int
    missing_pixels: int
    incomplete_rows: int
    empty_rows: list[int]
    constant_rows: list[int]


def inspect(flux: Floats, rows_per_chunk: int = 4096) -> Quality:
    """Count missing pixels and constant spectra of (n, length) flux at constant memory."""
    missing = incomplete = 0
    empty: list[int] = []
    constant: list[int] = []
    for start in range(0, len(flux), rows_per_chunk):
        chunk = np.asarray(flux[start : start + rows_per_chunk])
        low, high = chunk.min(axis=1), chunk.max(axis=1)  # both NaN or infinite if a pixel is
        constant.extend(start + np.flatnonzero(low == high))
        for row in np.flatnonzero(~np.isfinite(low) | ~np.isfinite(high)):
            measured = chunk[row][np.isfinite(chunk[row])]
            missing += chunk.shape[1] - measured.size
            incomplete += 1
            if not measured.size:
                empty.append(start + int(row))
            elif np.ptp(measured) == 0:
                constant.append(start + int(row))
    constant = sorted(int(row) for row in set(constant) - set(empty))
    return Quality(len(flux), missing, incomplete, empty, constant)


def refuse_empty(quality: Quality, ids: NDArray[np.str_], where: str) -> None:
    """Raise UserError if a spectrum of `where` has no measured pixel at all."""
    if quality.empty_rows:
        named = ", ".join(str(ids[row]) for row in quality.empty_rows[:5])
        raise UserError(
            f"{where}: {len(quality.empty_rows)} spectra have no finite pixel (all NaN): {named}. "
            "Remove them from the set, or from its index."
        )

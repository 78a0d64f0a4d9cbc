"""data=fits: survey files, LAMOST low resolution and SDSS, resampled to one grid.

Layouts read (plain or .gz):
LAMOST DR1 to DR7: a primary image whose first rows are flux and inverse variance, the wavelength
by COEFF0 and COEFF1 of the header (log10 angstrom; the third row is something else in DR1).
LAMOST DR8 and later: a table COADD of one row with vectors FLUX, IVAR, WAVELENGTH.
SDSS spec-*.fits: a table COADD of one row per pixel with flux, ivar, loglam.
The class is CLASS of the primary header or of a one-row table (SPECOBJ, SPALL).
"""

from __future__ import annotations

import glob
import gzip
import hashlib
import io
import os
import warnings
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import UserError
from kexue_cli.extras import require
from kexue_cli.tasks.lamost.conversion import Conversion, convert, key_of
from kexue_cli.tasks.lamost.labels import encode, read_index, require_unique, some
from kexue_cli.tasks.lamost.normalise import to_float32
from kexue_cli.tasks.lamost.spectra import SpectraSet

Floats = NDArray[np.floating[Any]]
SUFFIXES = (".fits.gz", ".fit.gz", ".fits", ".fit")
LAMOST_FLUX, LAMOST_IVAR = 0, 1  # rows of the primary image


class SurveySpectrum(NamedTuple):
    """One file's content; `class_name` and `group` are None where it does not tell them."""

    wavelength_angstrom: Floats  # (pixels,)
    flux: Floats  # (pixels,), NaN where the survey gives no weight to a pixel
    class_name: str | None
    group: str | None


def read(cfg: Any, part: str, *, console: Any, cache_dir: Path) -> SpectraSet | None:
    """The files of `cfg.path` (part `train`) or `cfg.test_path` (part `test`; None without).

    Raises:
        UserError: no files, one that is no spectrum, a missing or unknown class, no overlap
            with the grid.
    """
    place = cfg.path if part == "train" else cfg.test_path
    if place is None:
        return None
    require("astropy.io.fits", extra="fits")
    paths = list_files(place, part)
    ids = np.array([spectrum_id(path) for path in paths])
    require_unique(ids, place)
    grid = np.linspace(cfg.first_angstrom, cfg.last_angstrom, cfg.length)

    def read_rows(start: int, stop: int) -> tuple[NDArray[np.float32], list[Any]]:
        spectra = [read_file(path, cfg.group_by) for path in paths[start:stop]]
        flux = [resample(s, grid, path) for s, path in zip(spectra, paths[start:stop], strict=True)]
        return np.stack(flux), [(s.class_name, s.group) for s in spectra]

    stats = [path.stat() for path in paths]
    sizes, times = [s.st_size for s in stats], [s.st_mtime_ns for s in stats]
    key = key_of(ids, sizes, times, "fits", grid.tolist(), cfg.group_by)
    wanted = Conversion(key, (len(paths), cfg.length), read_rows)
    with warnings.catch_warnings():  # odd header cards are the survey's affair
        warnings.simplefilter("ignore", require("astropy.utils.exceptions", "fits").AstropyWarning)
        converted = convert(wanted, cache_dir, console)
    types, groups = zip(*converted.notes, strict=True)
    classes = tuple(cfg.classes)
    names = class_names(cfg, part, ids, types, paths)
    known = {name.lower() for name in classes}
    if part == "test" and names is not None and (strange := set(names.tolist()) - known):
        console.warn(f"{place}: has classes not learnt ({some(sorted(strange))}): not scored")
        names = None
    labels = None if names is None else encode(names, classes, place, ids)
    named = f"{converted.checksum} {None if labels is None else labels.tolist()}"
    return SpectraSet(
        flux=converted.flux,
        ids=ids,
        class_names=classes,
        checksum=hashlib.sha256(named.encode()).hexdigest(),
        labels=labels,
        group=None if cfg.group_by is None else np.array(groups).astype(str),
        wavelength_angstrom=grid,
        quality=converted.quality,
    )


def list_files(place: str, part: str) -> list[Path]:
    """The FITS files of a folder (searched recursively) or glob, sorted by name."""
    files = _files_of(place)
    if not files:
        key = "path" if part == "train" else "test_path"
        raise UserError(
            f"{place}: no FITS files there. data.{key} names a folder or a glob of LAMOST or "
            f"SDSS spectra ({', '.join(SUFFIXES)}); the surveys' sites offer them for download."
        )
    return sorted(files, key=lambda path: path.name)


def training_is_there(cfg: Any) -> bool:
    """Whether there are FITS files at `cfg.path`."""
    return bool(_files_of(cfg.path))


def _files_of(place: str) -> list[Path]:
    if os.path.isdir(place):
        found = [Path(folder, name) for folder, _, names in os.walk(place) for name in names]
    else:
        found = [Path(name) for name in glob.glob(place, recursive=True)]
    return [path for path in found if path.name.endswith(SUFFIXES)]


def spectrum_id(path: Path) -> str:
    """The file's name without its endings."""
    suffix = next(suffix for suffix in SUFFIXES if path.name.endswith(suffix))
    return path.name.removesuffix(suffix)


def read_file(path: Path, group_by: str | None = None) -> SurveySpectrum:
    """Read one survey file of any of the layouts above.

    Raises:
        UserError: not a whole FITS file, no spectrum in it, no header key `group_by`.
    """
    fits = require("astropy.io.fits", extra="fits")
    try:
        with fits.open(_whole(path), memmap=False) as hdus:  # the arrays outlive the file
            wavelength, flux, ivar = _arrays(hdus, path)
            group = hdus[0].header.get(group_by) if group_by is not None else None
            class_name = _class_of(hdus)
    except (OSError, ValueError, EOFError, TypeError, zlib.error) as error:
        raise UserError(f"{path}: not a whole FITS file: {error}. Fetch it again.") from error
    if group_by is not None and group is None:
        raise UserError(f"{path}: no header key {group_by} (data.group_by) in the primary header.")
    if (ivar > 0).any():
        flux = np.where(ivar > 0, flux, np.nan)
    return SurveySpectrum(wavelength, flux, class_name, None if group is None else str(group))


def _whole(path: Path) -> Path | io.BytesIO:
    """What astropy is given: it stops before a gzip stream's end, where the checksum is."""
    if path.suffix != ".gz":
        return path
    return io.BytesIO(gzip.decompress(path.read_bytes()))


def _arrays(hdus: Any, path: Path) -> tuple[Floats, Floats, Floats]:
    """Wavelength in angstrom, flux and inverse variance, each (pixels,) float64."""
    primary, header = hdus[0].data, hdus[0].header
    if primary is not None and primary.ndim == 2 and "COEFF0" in header and "COEFF1" in header:
        return _of_image(primary.astype(np.float64), header, path)
    for hdu in hdus[1:]:
        columns = {name.lower(): name for name in getattr(hdu.columns, "names", [])}
        if "flux" in columns and {"wavelength", "loglam"} & columns.keys():
            return _of_table(hdu.data, columns, path)
    raise UserError(
        f"{path}: no spectrum found. Expected a LAMOST image (rows flux and ivar, header COEFF0, "
        "COEFF1) or a table with the columns flux and wavelength or loglam; it has "
        f"{some([_show(hdu) for hdu in hdus])}."
    )


def _of_image(rows: Floats, header: Any, path: Path) -> tuple[Floats, Floats, Floats]:
    for key in ("COEFF0", "COEFF1"):
        if not isinstance(header[key], int | float):
            raise UserError(f"{path}: {key} in the header must be a number, found {header[key]!r}.")
    if len(rows) <= LAMOST_IVAR:
        raise UserError(
            f"{path}: the image has {len(rows)} row of {rows.shape[1]} pixels; expected flux and "
            "inverse variance in its first two rows."
        )
    wavelength = 10 ** (header["COEFF0"] + header["COEFF1"] * np.arange(rows.shape[1]))
    return wavelength, rows[LAMOST_FLUX], rows[LAMOST_IVAR]


def _of_table(table: Any, columns: dict[str, str], path: Path) -> tuple[Floats, Floats, Floats]:
    def column(name: str) -> Floats:
        try:
            return np.asarray(table[columns[name]], dtype=np.float64).ravel()
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{path}: column {columns[name]} must hold numbers: {error}."
            ) from error

    flux = column("flux")
    axis = "wavelength" if "wavelength" in columns else "loglam"
    place = column(axis)
    ivar = column("ivar") if "ivar" in columns else np.ones_like(flux)
    for name, values in ((axis, place), ("ivar", ivar)):
        if len(values) != len(flux):
            raise UserError(
                f"{path}: {len(flux)} values of {columns['flux']}, but {len(values)} of "
                f"{columns[name]}: expected one of each for every pixel."
            )
    return (place if axis == "wavelength" else 10**place), flux, ivar


def _show(hdu: Any) -> str:
    names = getattr(getattr(hdu, "columns", None), "names", None)
    return f"{hdu.name}({', '.join(names[:4]) if names else getattr(hdu, 'shape', '')})"


def _class_of(hdus: Any) -> str | None:
    """The class in lower case, from the primary header or a table of one row."""
    found = hdus[0].header.get("CLASS")
    for hdu in hdus[1:]:
        if found is None and "CLASS" in getattr(getattr(hdu, "columns", None), "names", ()):
            found = hdu.data["CLASS"][0] if len(hdu.data) == 1 else None
    return str(found).strip().lower() if found is not None else None


def resample(spectrum: SurveySpectrum, grid: Floats, path: Path) -> NDArray[np.float32]:
    """Flux at `grid` (length,) by linear interpolation between good pixels; NaN beyond them.

    Raises:
        UserError: the spectrum covers no point of the grid, or is beyond float32.
    """
    good = np.isfinite(spectrum.flux) & np.isfinite(spectrum.wavelength_angstrom)
    wavelength, flux = spectrum.wavelength_angstrom[good], spectrum.flux[good]
    order = np.argsort(wavelength)
    if not len(order):
        return np.full(len(grid), np.nan, dtype=np.float32)
    flux = np.interp(grid, wavelength[order], flux[order], left=np.nan, right=np.nan)
    if np.isnan(flux).all():
        raise UserError(
            f"{path}: covers {wavelength.min():.0f} to {wavelength.max():.0f} angstrom, nothing of "
            f"the grid {grid[0]:.0f} to {grid[-1]:.0f}: set data.first_angstrom and "
            "data.last_angstrom."
        )
    return to_float32(flux, lambda point: f"{path}: the flux at {grid[point]:.0f} angstrom")


def class_names(
    cfg: Any, part: str, ids: NDArray[np.str_], types: tuple[str | None, ...], paths: list[Path]
) -> NDArray[np.str_] | None:
    """Class of each spectrum from `cfg.labels` or the files; None for an unlabelled test set.

    Raises:
        UserError: a training spectrum without class.
    """
    if cfg.labels is not None and part == "train":
        named, listed = read_index(Path(cfg.labels), needs_type=True)
        assert listed is not None
        type_of = dict(zip(named.tolist(), listed.tolist(), strict=True))
        types = tuple(type_of.get(name) for name in ids.tolist())
    absent = [path for path, name in zip(paths, types, strict=True) if name is None]
    if not absent:
        return np.array(types, dtype=str)
    if part == "test":
        return None
    where = f"in {cfg.labels}" if cfg.labels is not None else "(CLASS in its header or tables)"
    raise UserError(
        f"{absent[0]}: no class {where}; {len(absent)} files of {len(paths)} have none. Give "
        "data.labels=<CSV id,type>, the id being the file's name without .fits."
    )

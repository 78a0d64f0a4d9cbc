import gzip
from typing import Any

import numpy as np
import pytest

from kexue_cli.config import Mode
from kexue_cli.errors import UserError
from kexue_cli.tasks.lamost import fits
from tests.tasks.lamost.spectra_files import QUIET, Heard, load, settings

astropy_fits = pytest.importorskip("astropy.io.fits")
LOG_WAVELENGTH = 3.5682 + 1e-4 * np.arange(3908)
WAVELENGTH = 10**LOG_WAVELENGTH
rng = np.random.default_rng(0)


def spectrum():
    flux = 300 + 50 * np.sin(WAVELENGTH / 200) + rng.normal(size=len(WAVELENGTH))
    return flux.astype(np.float32), np.ones_like(flux, dtype=np.float32)


def image(path, flux, ivar, **header):
    """LAMOST DR1 to DR7; the third row is not to be trusted."""
    hdu = astropy_fits.PrimaryHDU(np.stack([flux, ivar, rng.random(len(flux)), ivar, ivar]))
    hdu.header.update({"COEFF0": 3.5682, "COEFF1": 1e-4, **header})
    hdu.writeto(path)


def row_table(path, flux, ivar, **header):
    """LAMOST DR8 and later: one row of vectors."""
    columns = [
        astropy_fits.Column(name, f"{len(flux)}E", array=[values])
        for name, values in (("FLUX", flux), ("IVAR", ivar), ("WAVELENGTH", WAVELENGTH))
    ]
    primary = astropy_fits.PrimaryHDU()
    primary.header.update(header)
    table = astropy_fits.BinTableHDU.from_columns(columns, name="COADD")
    astropy_fits.HDUList([primary, table]).writeto(path)


def pixel_table(path, flux, ivar, **header):
    """SDSS spec files: one row per pixel, the class in a table of its own."""
    columns = [
        astropy_fits.Column(name, "E", array=values)
        for name, values in (("flux", flux), ("loglam", LOG_WAVELENGTH), ("ivar", ivar))
    ]
    hdus = [astropy_fits.PrimaryHDU(), astropy_fits.BinTableHDU.from_columns(columns, name="COADD")]
    if "CLASS" in header:
        named = [astropy_fits.Column("CLASS", "6A", array=[header["CLASS"]])]
        hdus.append(astropy_fits.BinTableHDU.from_columns(named, name="SPECOBJ"))
    astropy_fits.HDUList(hdus).writeto(path)


LAYOUTS = {"image": image, "row_table": row_table, "pixel_table": pixel_table}


def read(place, part="train", tmp_path=None, **changes):
    cfg = settings("fits", **{"path" if part == "train" else "test_path": str(place)}, **changes)
    return fits.read(cfg, part, console=QUIET, cache_dir=place.parent / "cache")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("gzipped", [False, True])
def test_every_layout_gives_the_same_spectrum_on_the_grid(tmp_path, layout, gzipped):
    flux, ivar = spectrum()
    folder = tmp_path / "spectra"
    folder.mkdir()
    path = folder / "spec-1.fits"
    LAYOUTS[layout](path, flux, ivar, CLASS="GALAXY")
    if gzipped:
        (folder / "spec-1.fits.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    found = read(folder)
    grid = np.linspace(3690, 9100, 2600)
    inside = (grid >= WAVELENGTH[0]) & (grid <= WAVELENGTH[-1])
    np.testing.assert_allclose(found.wavelength_angstrom, grid)
    expected = np.interp(grid, WAVELENGTH, flux)
    np.testing.assert_allclose(found.flux[0, inside], expected[inside], rtol=1e-3)
    assert np.isnan(found.flux[0, ~inside]).all()
    assert found.ids.tolist() == ["spec-1"]
    assert found.labels.tolist() == [2]


def test_pixels_without_weight_are_bridged_by_their_neighbours(tmp_path):
    flux, ivar = spectrum()
    bad = slice(2000, 2100)
    flux[bad], ivar[bad] = 1e6, 0
    folder = tmp_path / "spectra"
    folder.mkdir()
    image(folder / "a.fits", flux, ivar, CLASS="STAR")
    found = read(folder)
    assert np.nanmax(found.flux) < 400


def test_the_class_can_come_from_a_csv_and_files_from_a_glob(tmp_path):
    for name in "abcd":
        image(tmp_path / f"{name}.fits", *spectrum(), CLASS="STAR")
    (tmp_path / "types.csv").write_text("id,type\na,qso\nb,star\nc,unknown\nd,galaxy\n")
    found = read(tmp_path / "[abc].fits", labels=str(tmp_path / "types.csv"))
    assert found.ids.tolist() == ["a", "b", "c"]
    assert [found.class_names[label] for label in found.labels] == ["qso", "star", "unknown"]


def test_a_header_key_names_the_object(tmp_path):
    for name, target in (("a", 7), ("b", 8), ("c", 7)):
        image(tmp_path / f"{name}.fits", *spectrum(), CLASS="STAR", OBJNAME=target)
    assert read(tmp_path / "*.fits", group_by="OBJNAME").group.tolist() == ["7", "8", "7"]
    with pytest.raises(UserError, match=r"a\.fits: no header key NOSUCH \(data\.group_by\)"):
        read(tmp_path / "*.fits", group_by="NOSUCH")


def test_unlabelled_files_can_be_predicted(tmp_path):
    image(tmp_path / "a.fits", *spectrum())
    cfg = settings("fits", test_path=str(tmp_path / "*.fits"))
    loaded = load(cfg, tmp_path / "cache", mode=Mode.predict)
    assert loaded.predicted.labels is None
    assert np.isfinite(loaded.predicted.flux()).all()


def test_new_files_of_a_class_not_learnt_are_predicted_all_the_same(tmp_path):
    image(tmp_path / "a.fits", *spectrum(), CLASS="STAR")
    image(tmp_path / "b.fits", *spectrum(), CLASS="NEBULA")
    heard = Heard()
    cfg = settings("fits", test_path=str(tmp_path / "*.fits"))
    found = fits.read(cfg, "test", console=heard, cache_dir=tmp_path / "cache")
    assert found is not None
    assert found.labels is None
    assert "classes not learnt (nebula)" in heard.lines[-1]
    with pytest.raises(UserError, match=r"unknown class 'nebula' \(first at b\)"):
        read(tmp_path / "*.fits")


def test_a_training_file_without_class_is_named(tmp_path):
    image(tmp_path / "a.fits", *spectrum(), CLASS="STAR")
    image(tmp_path / "b.fits", *spectrum())
    with pytest.raises(UserError, match=r"b\.fits: no class .*1 files of 2.*data\.labels"):
        read(tmp_path / "*.fits")


def test_files_that_hold_no_spectrum_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"no FITS files there\. data\.path names"):
        read(tmp_path / "empty")
    astropy_fits.PrimaryHDU(np.zeros((4, 4))).writeto(tmp_path / "picture.fits")
    with pytest.raises(UserError, match=r"picture\.fits: no spectrum found.*it has PRIMARY"):
        read(tmp_path / "picture.fits")
    image(tmp_path / "cut.fits", *spectrum(), CLASS="STAR")
    (tmp_path / "cut.fits").write_bytes((tmp_path / "cut.fits").read_bytes()[:20000])
    with pytest.raises(UserError, match=r"cut\.fits: not a whole FITS file"):
        read(tmp_path / "cut.fits")
    (tmp_path / "text.fits").write_text("hello")
    with pytest.raises(UserError, match=r"text\.fits: not a whole FITS file"):
        read(tmp_path / "text.fits")


def test_a_spectrum_off_the_grid_says_where_it_is(tmp_path):
    image(tmp_path / "a.fits", *spectrum(), CLASS="STAR")
    with pytest.raises(UserError, match=r"covers 3700 to 90\d\d angstrom.*data\.first_angstrom"):
        read(tmp_path / "a.fits", first_angstrom=1e4, last_angstrom=2e4)


def test_a_spectrum_without_any_pixel_is_refused(tmp_path):
    flux, ivar = spectrum()
    image(tmp_path / "a.fits", np.full_like(flux, np.nan), ivar, CLASS="STAR")
    image(tmp_path / "b.fits", flux, ivar, CLASS="STAR")
    with pytest.raises(UserError, match=r"no finite pixel \(all NaN\): a\."):
        load(settings("fits", path=str(tmp_path / "*.fits")), tmp_path / "cache")


def test_real_files_of_both_surveys_and_all_releases(data_dir, tmp_path):
    if not list((data_dir / "spectra").glob("fits_*")):
        pytest.skip("no spectra/fits_lamost, spectra/fits_sdss")
    cfg = settings("fits", path=str(data_dir / "spectra" / "fits_*" / "*"))
    found: Any = fits.read(cfg, "train", console=QUIET, cache_dir=tmp_path)
    assert np.bincount(found.labels, minlength=4).tolist() == [13, 0, 2, 5]
    assert np.isfinite(found.flux).mean() > 0.97
    assert (np.nanmedian(found.flux, axis=1) > 0).all()
    # H alpha of an A star of DR1 stands at its laboratory wavelength.
    (row,) = np.flatnonzero(found.ids == "spec-55862-B6212_sp06-011")
    near = np.abs(found.wavelength_angstrom - 6564.6) < 40
    deepest = found.wavelength_angstrom[near][np.argmin(found.flux[row, near])]
    assert abs(deepest - 6564.6) < 4


def test_a_damaged_gzip_is_refused_though_its_beginning_can_be_read(tmp_path):
    image(tmp_path / "a.fits", *spectrum(), CLASS="STAR")
    content = bytearray(gzip.compress((tmp_path / "a.fits").read_bytes()))
    content[-8:-4] = b"\0\0\0\0"  # the checksum
    (tmp_path / "a.fits.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.fits\.gz: not a whole FITS file.*Fetch it again"):
        read(tmp_path / "a.fits.gz")
    content[2000:2100] = b"\xff" * 100
    (tmp_path / "a.fits.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.fits\.gz: not a whole FITS file.*Fetch it again"):
        read(tmp_path / "a.fits.gz")


def test_an_image_without_inverse_variance_is_refused(tmp_path):
    hdu = astropy_fits.PrimaryHDU(spectrum()[0][None])
    hdu.header.update({"COEFF0": 3.5682, "COEFF1": 1e-4})
    hdu.writeto(tmp_path / "a.fits")
    with pytest.raises(UserError, match=r"1 row of 3908 pixels; expected flux and inverse"):
        read(tmp_path / "a.fits")


def test_text_where_a_number_belongs_is_named(tmp_path):
    image(tmp_path / "a.fits", *spectrum(), COEFF0="abc")
    with pytest.raises(UserError, match=r"COEFF0 in the header must be a number, found 'abc'"):
        read(tmp_path / "a.fits")


def test_flux_and_wavelength_of_different_length_are_refused(tmp_path):
    columns = [
        astropy_fits.Column(name, f"{n}E", array=[np.ones(n)])
        for name, n in (("FLUX", 10), ("WAVELENGTH", 100))
    ]
    table = astropy_fits.BinTableHDU.from_columns(columns, name="COADD")
    astropy_fits.HDUList([astropy_fits.PrimaryHDU(), table]).writeto(tmp_path / "a.fits")
    with pytest.raises(UserError, match=r"10 values of FLUX, but 100 of WAVELENGTH"):
        read(tmp_path / "a.fits")


def test_flux_too_large_for_single_precision_is_refused(tmp_path):
    flux, ivar = (values.astype(np.float64) for values in spectrum())
    flux[:] = 1e300
    image(tmp_path / "a.fits", flux, ivar, CLASS="STAR")
    with pytest.raises(UserError, match=r"flux at \d+ angstrom is 1e\+300, too large"):
        read(tmp_path / "a.fits")

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kexue_cli.config import Mode
from kexue_cli.errors import UserError
from kexue_cli.tasks.lamost import sequence_tables, sequences
from tests.tasks.lamost.spectra_files import QUIET, load, settings

rng = np.random.default_rng(0)
FLUX = rng.normal(size=(60, 17)).astype(np.float32)
NAMES = np.array(["cat", "ant", "bee"])[rng.permutation(np.repeat([0, 1, 2], 20))]


def read(path, part="train", **changes):
    cfg = settings(
        "sequences", **{"path" if part == "train" else "test_path": str(path)}, **changes
    )
    return sequences.read(cfg, part, console=QUIET, cache_dir=path.parent)


def npz(tmp_path, **arrays):
    path = tmp_path / "set.npz"
    np.savez(path, **arrays)
    return path


def table(n=60):
    columns = {f"FE{point}": FLUX[:n, point] for point in reversed(range(17))}
    ids = [f"{row:032x}" for row in range(n)]
    return pd.DataFrame({"id": ids, **columns, "answer": NAMES[:n]})


@pytest.mark.parametrize("key", ["flux", "x"])
def test_npz_with_flux_or_x_and_labels_by_name(tmp_path, key):
    spectra = read(npz(tmp_path, **{key: FLUX}, label=NAMES))
    np.testing.assert_array_equal(spectra.flux, FLUX)
    assert spectra.class_names == ("ant", "bee", "cat")
    assert [spectra.class_names[label] for label in spectra.labels] == NAMES.tolist()
    assert spectra.ids[7] == "7"


def test_other_array_names_are_settings(tmp_path):
    path = npz(
        tmp_path, ecg=FLUX.astype(np.int16), rhythm=NAMES, patient=np.arange(60) // 2,
        part=np.arange(60) % 3, record=np.arange(60) + 100, grid=np.arange(17.0),
    )  # fmt: skip
    spectra = read(
        path, flux_key="ecg", label_key="rhythm", group_key="patient", fold_key="part",
        id_key="record", wavelength_key="grid",
    )  # fmt: skip
    assert spectra.flux.dtype == np.float32
    assert spectra.group[5] == "2"
    assert spectra.fold[5] == 2
    assert spectra.ids[5] == "105"
    assert spectra.wavelength_angstrom[3] == 3


def test_the_class_order_can_be_chosen_and_numbers_count_the_classes(tmp_path):
    named = read(npz(tmp_path, x=FLUX, label=NAMES), classes=["cat", "bee", "ant"])
    numbered = read(npz(tmp_path, x=FLUX, label=named.labels), classes=["cat", "bee", "ant"])
    assert numbered.class_names == ("cat", "bee", "ant")
    assert np.array_equal(named.labels, numbered.labels)


def test_numbers_as_labels_sort_as_numbers(tmp_path):
    spectra = read(npz(tmp_path, x=FLUX, y=np.arange(60) % 12))
    assert spectra.class_names == tuple(map(str, range(12)))
    assert spectra.labels[11] == 11


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_wide_table_of_the_baai_contest(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(sequence_tables, "CSV_ROWS_PER_CHUNK", 23)
    path = tmp_path / f"set{suffix}"
    if suffix == ".csv":
        table().to_csv(path, index=False)
    else:
        pytest.importorskip("pyarrow")
        table().to_parquet(path)
    spectra = read(path)
    np.testing.assert_allclose(spectra.flux, FLUX, rtol=1e-6)
    assert spectra.ids[3] == f"{3:032x}"
    assert [spectra.class_names[label] for label in spectra.labels] == NAMES.tolist()


def test_another_column_prefix_is_a_setting(tmp_path):
    path = tmp_path / "set.csv"
    table().rename(columns=lambda name: name.replace("FE", "flux_")).to_csv(path, index=False)
    np.testing.assert_allclose(read(path, flux_key="flux_").flux, FLUX, rtol=1e-6)


@pytest.mark.parametrize("blank", [True, False])
def test_an_unlabelled_table_can_be_predicted(tmp_path, blank):
    train = npz(tmp_path, x=FLUX, label=NAMES)
    new = table(9).assign(answer="") if blank else table(9).drop(columns="answer")
    new.to_csv(tmp_path / "new.csv", index=False)
    cfg = settings("sequences", path=str(train), test_path=str(tmp_path / "new.csv"))
    loaded = load(cfg, tmp_path)
    assert loaded.predicted.labels is None
    assert loaded.predicted.ids[2] == f"{2:032x}"
    alone = load(
        settings("sequences", path="gone", test_path=str(tmp_path / "new.csv")), tmp_path,
        mode=Mode.predict, class_names=("ant", "bee", "cat"),
    )  # fmt: skip
    np.testing.assert_array_equal(alone.predicted.flux(), loaded.predicted.flux())


def test_folds_of_the_set_become_the_test_split(tmp_path):
    fold = np.arange(60) % 4
    path = npz(tmp_path, x=FLUX, label=NAMES, fold=fold)
    loaded = load(settings("sequences", path=str(path), fold_key="fold", fold=1), tmp_path)
    assert loaded.test.indices.tolist() == np.flatnonzero(fold == 1).tolist()
    assert loaded.test.labels is not None


@pytest.mark.parametrize(
    ("arrays", "changes", "message"),
    [
        ({"y": NAMES}, {}, r"no array flux or x; it has y.*data\.flux_key"),
        ({"x": FLUX}, {}, r"no column of labels.*data\.label_key"),
        ({"x": FLUX, "label": NAMES[:50]}, {}, r"60 rows of flux but 50 of label"),
        ({"x": FLUX[0], "label": NAMES}, {}, r"\(spectra, points\), found shape \(17,\)"),
        ({"x": FLUX, "label": NAMES, "f": NAMES}, {"fold_key": "f"}, r"must hold whole numbers"),
        ({"x": FLUX, "label": NAMES}, {"group_key": "sn"}, r"data\.group_key=sn.*it has label"),
        ({"x": FLUX, "label": NAMES}, {"classes": ["ant", "bee", "cta"]}, r"'cat'.*mean 'cta'"),
        ({"x": NAMES[:, None], "label": NAMES}, {}, r"x must hold numbers"),
        ({"x": FLUX, "label": NAMES, "id": NAMES}, {}, r"3 ids occur more than once"),
        ({"x": FLUX, "label": NAMES, "wavelength": np.ones(4)}, {}, r"wavelength has shape \(4,\)"),
        (
            {"x": FLUX, "label": NAMES, "wavelength": np.full(17, np.nan)},
            {},
            r"wavelength must hold finite numbers.*data\.wavelength_key=null",
        ),
        ({"x": FLUX, "label": np.eye(60)[:, :3]}, {}, r"label has shape \(60, 3\).*argmax"),
        ({"x": FLUX, "label": np.array("ant")}, {}, r"label has shape \(\), expected \(60,\)"),
        ({"x": FLUX, "label": np.repeat("ant", 60)}, {}, r"every spectrum is of class 'ant'"),
        ({"x": np.full((60, 17), 1e300), "label": NAMES}, {}, r"x\[0, 0\] is .*e\+\d+, too large"),
        ({"x": FLUX, "label": NAMES, "id": [""] + ["a"] * 59}, {}, r"row 0 has no id"),
        (
            {"x": FLUX, "label": NAMES, "f": np.arange(60) / 2},
            {"fold_key": "f"},
            r"must hold whole numbers, found 0\.5 in row 1",
        ),
        (
            {"x": FLUX, "label": NAMES, "f": np.where(NAMES == "ant", np.nan, 1.0)},
            {"fold_key": "f"},
            r"must hold whole numbers, found nan in row \d+",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, arrays, changes, message):
    with pytest.raises(UserError, match=message):
        read(npz(tmp_path, **arrays), **changes)


def test_a_pickle_in_an_npz_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (exec, ("raise SystemExit('ran')",))

    np.savez(tmp_path / "set.npz", x=FLUX, label=np.array([Trap()] * 60, dtype=object))
    with pytest.raises(UserError, match="without pickles"):
        read(tmp_path / "set.npz")
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UserError, match="without pickles"):
        read(tmp_path / "bare.npz")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "id,a,b\n1,2,3\n", r"no columns FE0, FE1.*it has id, a, b.*data\.flux_key"),
        ("a.csv", "id,FE0,FE1,answer\n1,2,3,cat\n1,2,x,cat\n", r"numbers.*'x' .*FE1 in row 1"),
        ("a.csv", "id,FE0,answer\n1,2,cat\n,3,ant\n", r"row 1 has no id"),
        ("a.csv", "id,FE0,FE1,answer\n1,2,3,cat\n2,3,1e300,ant\n", r"FE1 in row 1 is 1e\+300"),
        ("a.csv", "id,FE0,answer\n1,2,3,4\n2,2,3,4\n", r"more cells than its header"),
        ("a.csv.gz", "no gzip", r"not a table of numbers"),
        ("a.csv", "id,FE0,FE1,answer\n1,2,3,cat\n2,3\n", r"1 rows have no label"),
        ("a.csv", "", r"not a table of numbers"),
        ("a.csv", "id,FE0,answer\n", r"found shape \(0, 1\)"),
        ("a.npz", "PK no zip", r"not a readable \.npz"),
        ("a.parquet", "no parquet", r"not a readable parquet"),
        ("a.dat", "1 2 3", r"expected \.npz, \.csv, \.csv\.gz or \.parquet"),
    ],
)
def test_a_file_that_is_no_set_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        read(tmp_path / name)


def test_a_bare_array_is_not_a_set(tmp_path):
    with (tmp_path / "set.npz").open("wb") as file:
        np.save(file, FLUX)
    with pytest.raises(UserError, match="a single array without a name"):
        read(tmp_path / "set.npz")


def test_a_missing_file_says_what_is_expected(tmp_path):
    with pytest.raises(UserError, match=r"gone\.npz: no such file\. data\.path names"):
        read(tmp_path / "gone.npz")


def test_a_truncated_npz_is_refused(tmp_path):
    path = npz(tmp_path, x=FLUX, label=NAMES)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"not a readable \.npz"):
        read(path)


REAL = {
    "dash_sn": (4813, 1024, [3288, 550, 481, 494]),
    "cinc2017": (8528, 2600, [5050, 738, 2456, 284]),
}


@pytest.mark.parametrize("name", REAL)
def test_real_sets_load_with_their_own_folds(data_dir, tmp_path, name, monkeypatch):
    from omegaconf import OmegaConf

    from kexue_cli.paths import conf_dir

    monkeypatch.setenv("KEXUE_DATA_DIR", str(data_dir))
    preset: Any = OmegaConf.load(conf_dir() / "data" / f"{name}.yaml")
    preset.pop("defaults")
    cfg = settings("sequences", **{**preset, "fold": 0})
    if not (data_dir / "spectra" / name).is_dir():
        pytest.skip(f"no spectra/{name}")
    loaded = load(cfg, tmp_path)
    n, length, counts = REAL[name]
    source = loaded.train.source
    assert source.flux.shape == (n, length)
    assert np.bincount(source.labels).tolist() == counts
    assert (source.fold[loaded.test.indices] == 0).all()
    assert np.isfinite(loaded.train.flux(slice(0, 500))).all()
    if name == "dash_sn":
        objects = [set(source.group[s.indices]) for s in (loaded.train, loaded.valid, loaded.test)]
        assert not objects[0] & (objects[1] | objects[2])


def test_real_lamost_spectra_have_red_edges_that_are_filled(data_dir, tmp_path):
    path = data_dir / "spectra" / "lamost_lrs" / "lamost_lrs.npz"
    if not path.is_file():
        pytest.skip("no spectra/lamost_lrs")
    archive = np.load(path)
    letter = [name[:1] for name in archive["subclass"]]
    kept = np.isin(letter, list("AFGKM"))
    small = npz(tmp_path, flux=archive["flux"][kept], label=np.array(letter)[kept])
    loaded = load(settings("sequences", path=str(small)), tmp_path)
    assert loaded.notes["spectra with missing pixels"] == np.isnan(
        archive["flux"][kept]
    ).any(axis=1).sum()  # fmt: skip
    assert np.isfinite(loaded.train.flux()).all()


WORDS = ["NA", "None", "null", "n/a", "nan"]


def test_classes_ids_and_groups_called_na_are_names(tmp_path):
    path = tmp_path / "set.csv"
    rows = [f"{word},{number},,{word},{word}" for number, word in enumerate(WORDS)]
    path.write_text("\n".join(["id,FE0,FE1,answer,star", *rows]) + "\n")
    spectra = read(path, group_key="star")
    assert spectra.class_names == tuple(sorted(WORDS))
    assert spectra.ids.tolist() == spectra.group.tolist() == WORDS
    assert np.isnan(spectra.flux[:, 1]).all()


@pytest.mark.parametrize("word", ["", "NA", "nan", "null", "NaN"])
def test_a_missing_number_stays_one(tmp_path, word):
    path = tmp_path / "set.csv"
    path.write_text(f"id,FE0,FE1,answer\n1,2,{word},a\n2,3,4,b\n")
    np.testing.assert_array_equal(read(path).flux, [[2, np.nan], [3, 4]])


def test_folds_may_be_written_as_decimals(tmp_path):
    path = tmp_path / "set.csv"
    path.write_text("id,FE0,answer,f\n1,2,a,1.0\n2,3,b,0\n")
    assert read(path, fold_key="f").fold.tolist() == [1, 0]


def test_a_table_may_be_gzipped(tmp_path):
    table().to_csv(tmp_path / "set.csv.gz", index=False)
    np.testing.assert_allclose(read(tmp_path / "set.csv.gz").flux, FLUX, rtol=1e-6)


def test_a_damaged_npz_or_parquet_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "set.npz", x=FLUX, label=NAMES)
    damage(tmp_path / "set.npz", 300)
    with pytest.raises(UserError, match=r"not a readable \.npz"):
        read(tmp_path / "set.npz")
    pytest.importorskip("pyarrow")
    table().to_parquet(tmp_path / "set.parquet")
    for start in (4, 30, 300):
        damage(tmp_path / "set.parquet", start)
    with pytest.raises(UserError, match=r"not a readable parquet"):
        read(tmp_path / "set.parquet")


def damage(path, start):
    content = bytearray(path.read_bytes())
    content[start : start + 60] = b"\xaa" * 60
    path.write_bytes(content)

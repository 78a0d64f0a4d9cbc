import zipfile

import numpy as np
import pytest

from kexue_cli.config import Mode
from kexue_cli.errors import UserError
from kexue_cli.tasks.lamost import conversion, tianchi
from tests.tasks.lamost.spectra_files import QUIET, TYPES, load, settings, write_contest


def contest(root, **changes):
    return settings("tianchi", root=str(root), length=40, **changes)


def read(root, cache, part="train", **changes):
    return tianchi.read(contest(root, **changes), part, console=QUIET, cache_dir=cache)


def pack(folder, path, compression=zipfile.ZIP_DEFLATED, inside="deep/folder/"):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for file in folder.glob("*.txt"):
            archive.write(file, inside + file.name)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "set"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def test_ids_flux_and_labels_stay_together_in_the_order_of_the_index(root, cache):
    flux = write_contest(root)
    lines = (root / "train_index.csv").read_text().split()
    (root / "train_index.csv").write_text("\n".join([lines[0], *reversed(lines[1:])]))
    spectra = read(root, cache)
    assert spectra.ids.tolist() == [str(1000 + row) for row in reversed(range(len(TYPES)))]
    np.testing.assert_array_equal(spectra.flux, flux[::-1])
    assert [spectra.class_names[label] for label in spectra.labels] == TYPES[::-1]


def test_the_contests_label_order_is_star_unknown_galaxy_qso(root, cache):
    write_contest(root)
    assert read(root, cache).class_names == ("star", "unknown", "galaxy", "qso")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_is_read_like_its_folder(root, cache, compression):
    flux = write_contest(root)
    pack(root / "train", root / "as_downloaded.zip", compression)
    spectra = read(
        root, cache,
        train_index=str(root / "train_index.csv"), train_dir=str(root / "as_downloaded.zip"),
    )  # fmt: skip
    np.testing.assert_array_equal(spectra.flux, flux)


def test_a_set_in_several_zips_within_a_folder_is_one_set(root, cache):
    flux = write_contest(root)
    parts = root / "parts"
    for start in (0, 14):
        chosen = parts / str(start)
        chosen.mkdir(parents=True)
        for row in range(start, start + 14):
            (root / "train" / f"{1000 + row}.txt").rename(chosen / f"{1000 + row}.txt")
    pack(parts / "0", parts / "one.zip")
    for file in (parts / "0").iterdir():
        file.unlink()
    index = str(root / "train_index.csv")
    spectra = read(root, cache, train_index=index, train_dir=str(parts))
    np.testing.assert_array_equal(spectra.flux, flux)


def test_the_names_of_each_round_are_found_and_the_earliest_is_taken(root, cache):
    names = (
        "first_train_{}_20180131", "first_test_{}_20180131", "first_rank_{}_20180307",
        "second_a_train_{}_20180313", "final_rank_{}_20180413",
    )  # fmt: skip
    for name in names:
        (root / name.format("data")).mkdir(parents=True)
        (root / (name.format("index") + ".csv")).touch()
    (root / "first_train_data_20180131.zip").touch()
    for changes, part, found in (
        ({}, "train", 0), ({"round": "second_a"}, "train", 3),
        ({}, "test", 1), ({"round": "final"}, "test", 4),
    ):  # fmt: skip
        index, places = tianchi.find_round(contest(root, **changes), part)
        assert index == root / (names[found].format("index") + ".csv")
        assert places == (root / names[found].format("data"),)


def test_rank_data_in_ten_parts_is_found_whole(root):
    for part in range(10):
        (root / f"first_rank_data_20180307_part_{part}").mkdir(parents=True)
    (root / "first_rank_index_20180307.csv").touch()
    _, places = tianchi.find_round(contest(root), "test")
    assert len(places) == 10


def test_without_a_test_set_there_is_none(root, cache):
    write_contest(root)
    assert read(root, cache, "test") is None
    loaded = load(contest(root), cache)
    assert loaded.test is None
    assert loaded.predicted is loaded.valid


def test_a_folder_of_new_files_needs_no_index_and_no_training_set(root, cache):
    flux = write_contest(root)
    cfg = contest("nowhere", test_dir=str(root / "train"))
    loaded = load(cfg, cache, mode=Mode.predict)
    assert loaded.train is None
    assert loaded.predicted.labels is None
    np.testing.assert_array_equal(loaded.predicted.raw_flux(), flux)
    np.testing.assert_array_equal(loaded.predicted.flux([3, 1]), flux[[3, 1]] / np.float32(100))
    assert loaded.predicted.ids[0] == "1000"


def test_a_test_index_alone_orders_the_ids(root, cache):
    flux = write_contest(root)
    (root / "test_index.csv").write_text("id\n1005\n1002\n")
    cfg = contest(
        root, test_index=str(root / "test_index.csv"), test_dir=str(root / "train"),
        ignore_extra=True,
    )  # fmt: skip
    test = load(cfg, cache).test
    assert test is not None
    assert test.ids.tolist() == ["1005", "1002"]
    np.testing.assert_array_equal(test.raw_flux(), flux[[5, 2]])


def test_capitals_of_a_class_name_do_not_matter_unless_they_tell_classes_apart(root, cache):
    write_contest(root, ["Star", "QSO", "galaxy", "unknown"])
    assert read(root, cache).labels.tolist() == [0, 3, 2, 1]
    own = read(root, cache, classes=["Galaxy", "star", "Unknown", "QSO"])
    assert own.labels.tolist() == [1, 3, 0, 2]
    assert own.class_names[3] == "QSO"
    with pytest.raises(UserError, match="unknown class 'Star'"):
        read(root, cache, classes=["star", "STAR", "QSO", "galaxy", "unknown"])


# What can be wrong with the files.


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def spoil_index(old, new):
    return lambda root: change(root / "train_index.csv", old, new)


def write_text(name, text):
    return lambda root: (root / "train" / name).write_text(text)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_index("1003,star", "7777,star"), r"train_index.csv names 1 spectra that .*train do"),
        (spoil_index("1003,star\n", ""), r"train has 1 spectra that .*not name: 1003\..*ignore_ex"),
        (spoil_index("id,type", "name,class"), r"expected the columns id,type .*'name', 'class'"),
        (spoil_index("id,type", "id,typ"), r"'type' is missing"),
        (spoil_index("1003,star", "1002,star"), r"1 ids occur more than once: 1002"),
        (spoil_index("1003,star", "1003,"), r"train_index.csv: line 5 has an empty cell"),
        (spoil_index("1014,unknown", "1014,unkown"), r"unknown class 'unkown' \(first at 1014\)"),
        (spoil_index("1014,unknown", "1014,unkown"), r"Did you mean 'unknown'\?"),
        (write_text("1007.txt", ",".join(["1"] * 39)), r"1007\.txt: expected 40 numbers, found 39"),
        (write_text("1007.txt", ",".join(["1"] * 41)), r"1007\.txt: expected 40 numbers, found 41"),
        (write_text("1007.txt", "<html>not found</html>"), r"1007\.txt: '<html>not' is not a num"),
        (write_text("1007.txt", ""), r"1007\.txt: expected 40 numbers, found none: it is empty"),
        (write_text("1007.txt", ",".join(["nan"] * 40)), r"no finite pixel \(all NaN\): 1007"),
    ],
)  # fmt: skip
def test_a_malformed_set_is_refused_by_file_and_name(root, cache, spoil, message):
    write_contest(root)
    spoil(root)
    with pytest.raises(UserError, match=message):
        load(contest(root), cache)
    assert not list(cache.glob("lamost/*.partial"))


def test_a_missing_folder_says_what_is_looked_for_and_where_to_get_it(root, cache):
    with pytest.raises(UserError, match=r"first_train_index_20180131\.csv.*231646.*data\.root"):
        read(root, cache)
    write_contest(root)
    with pytest.raises(UserError, match=r"gone: no such folder or zip"):
        read(root, cache, train_index=str(root / "train_index.csv"), train_dir=str(root / "gone"))
    with pytest.raises(UserError, match=r"gone\.csv: no such index file"):
        read(root, cache, train_index=str(root / "gone.csv"), train_dir=str(root / "train"))
    with pytest.raises(UserError, match=r"also needs data\.train_index"):
        read(root, cache, train_dir=str(root / "train"))


def test_an_empty_folder_is_not_a_set(root, cache):
    (root / "train").mkdir(parents=True)
    (root / "train_index.csv").write_text("id,type\n1,star\n")
    with pytest.raises(UserError, match=r"no \*\.txt file"):
        read(root, cache)


def test_a_truncated_zip_says_to_fetch_it_again(root, cache):
    write_contest(root)
    pack(root / "train", root / "cut.zip")
    whole = (root / "cut.zip").read_bytes()
    (root / "cut.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cut\.zip: not a whole zip file.*fetch it again"):
        read(
            root, cache, train_index=str(root / "train_index.csv"), train_dir=str(root / "cut.zip")
        )


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_of_a_zip_is_named(root, cache, compression):
    write_contest(root)
    pack(root / "train", root / "bad.zip", compression)
    content = bytearray((root / "bad.zip").read_bytes())
    with zipfile.ZipFile(root / "bad.zip") as archive:
        member = archive.getinfo("deep/folder/1004.txt")
    content[member.header_offset + 30 + len(member.filename) + 40] ^= 0xFF
    (root / "bad.zip").write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.zip/1004\.txt: this member of the zip is damaged"):
        read(
            root, cache, train_index=str(root / "train_index.csv"), train_dir=str(root / "bad.zip")
        )


def test_the_same_id_in_two_places_is_refused(root, cache):
    write_contest(root)
    (root / "train" / "again").mkdir()
    (root / "train" / "again" / "1003.txt").write_text("1")
    with pytest.raises(UserError, match=r"1 ids occur more than once: 1003"):
        read(root, cache)


# The cache.


def count_parsing(monkeypatch):
    parsed = []
    real = tianchi.read_texts

    def count(reader, rows, out):
        parsed.append(len(rows))
        real(reader, rows, out)

    monkeypatch.setattr(tianchi, "read_texts", count)
    return parsed


def test_a_set_is_converted_once_and_again_when_a_file_changes(root, cache, monkeypatch):
    flux = write_contest(root)
    parsed = count_parsing(monkeypatch)
    first = read(root, cache)
    assert sum(parsed) == len(flux)
    assert read(root, cache).checksum == first.checksum
    assert sum(parsed) == len(flux)
    (root / "train" / "1003.txt").write_text(",".join(["7.5"] * 40))
    changed = read(root, cache)
    assert sum(parsed) == 2 * len(flux)
    assert changed.checksum != first.checksum
    assert set(changed.flux[3]) == {7.5}


def test_other_types_in_the_index_need_no_new_conversion(root, cache, monkeypatch):
    write_contest(root)
    first = read(root, cache)
    parsed = count_parsing(monkeypatch)
    change(root / "train_index.csv", "1003,star", "1003,qso")
    again = read(root, cache)
    assert not parsed
    assert again.labels[3] == 3
    assert again.checksum != first.checksum


def test_an_interrupted_conversion_goes_on_where_it_was(root, cache, monkeypatch):
    monkeypatch.setattr(conversion, "ROWS_PER_CHUNK", 4)
    flux = write_contest(root)
    real = tianchi.read_texts
    parsed = []

    def stop_in_the_middle(reader, rows, out):
        parsed.append(len(rows))
        if len(parsed) == 4:
            raise KeyboardInterrupt
        return real(reader, rows, out)

    monkeypatch.setattr(tianchi, "read_texts", stop_in_the_middle)
    with pytest.raises(KeyboardInterrupt):
        read(root, cache, workers=1)
    assert not list(cache.glob("lamost/*/meta.json"))
    before = len(parsed)
    spectra = read(root, cache, workers=1)
    assert before >= 4
    assert sum(parsed[before:]) == len(flux) - 3 * 4
    np.testing.assert_array_equal(spectra.flux, flux)


def test_a_half_cache_is_never_taken_for_whole(root, cache):
    flux = write_contest(root)
    read(root, cache)
    (folder,) = (path for path in cache.glob("lamost/*") if path.is_dir())
    # As a power cut leaves it: the journal's last line torn, its rows not in the array.
    partial = folder.with_suffix(".partial")
    folder.rename(partial)
    (partial / "meta.json").unlink()
    np.save(partial / "flux.npy", np.zeros_like(flux))
    journal = partial / "journal.jsonl"
    journal.write_text(journal.read_text()[:-30])
    np.testing.assert_array_equal(read(root, cache).flux, flux)
    assert folder.is_dir()


def test_an_array_that_is_gone_makes_the_journal_worthless(root, cache):
    flux = write_contest(root)
    read(root, cache)
    (folder,) = (path for path in cache.glob("lamost/*") if path.is_dir())
    folder.rename(folder.with_suffix(".partial"))
    (folder.with_suffix(".partial") / "flux.npy").unlink()
    np.testing.assert_array_equal(read(root, cache).flux, flux)


def out_of_space(*_):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("pwrite", [out_of_space, lambda file, data, at: data.nbytes // 2])
def test_a_full_disk_is_said_before_and_during_the_conversion(root, cache, monkeypatch, pwrite):
    write_contest(root)
    with monkeypatch.context() as patch:
        patch.setattr(conversion.os, "pwrite", pwrite)
        with pytest.raises(UserError, match=r"No space left.*KEXUE_CACHE_DIR"):
            read(root, cache)
    assert not list(cache.glob("lamost/*.partial"))
    monkeypatch.setattr(conversion.shutil, "disk_usage", lambda _: type("", (), {"free": 100})())
    with pytest.raises(UserError, match=r"need .* GB, but only"):
        read(root, cache)


def test_constant_rows_and_missing_pixels_are_counted_over_all_chunks(root, cache, monkeypatch):
    monkeypatch.setattr(conversion, "ROWS_PER_CHUNK", 5)
    write_contest(root)
    (root / "train" / "1006.txt").write_text(",".join(["1"] * 40))
    (root / "train" / "1013.txt").write_text(",".join(["nan"] * 3 + ["5", "6"] * 18 + ["nan"]))
    quality = read(root, cache).quality
    assert quality.constant_rows == [6]
    assert (quality.rows, quality.missing_pixels, quality.incomplete_rows) == (28, 4, 1)


def test_real_spectra_in_the_contests_format_equal_numpys_reading(data_dir, cache):
    root = data_dir / "spectra" / "mini4"
    if not root.is_dir():
        pytest.skip("no spectra/mini4")
    loaded = load(settings("tianchi", root=str(root)), cache)
    assert loaded.train is not None
    assert loaded.valid is not None
    assert len(loaded.train) + len(loaded.valid) == 617
    source = loaded.train.source
    assert np.bincount(source.labels).tolist() == [429, 155, 20, 13]
    for row in range(0, 617, 56):
        expected = np.loadtxt(root / "train" / f"{source.ids[row]}.txt", delimiter=",")
        np.testing.assert_array_equal(source.flux[row], expected.astype(np.float32))

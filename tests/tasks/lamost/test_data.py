import numpy as np
import pytest
from omegaconf import OmegaConf

from kexue_cli.config import Mode
from kexue_cli.errors import ConfigError, UserError
from kexue_cli.tasks.lamost import data
from kexue_cli.tasks.lamost.config_data import DATA_SCHEMAS, check_data
from tests.tasks.lamost.spectra_files import Heard, load, settings, write_contest

rng = np.random.default_rng(0)
FLUX = rng.normal(5, 1, (90, 31)).astype(np.float32)
NAMES = np.repeat(["a", "b", "c"], 30)


@pytest.fixture
def path(tmp_path):
    def write(name="train", flux=FLUX, **arrays):
        np.savez(tmp_path / f"{name}.npz", x=flux, **arrays)
        return str(tmp_path / f"{name}.npz")

    return write


def test_flux_labels_and_ids_of_a_split_belong_together(path, tmp_path):
    loaded = load(settings("sequences", path=path(label=NAMES), normalise="none"), tmp_path)
    for split in (loaded.train, loaded.valid):
        rows = [int(name) for name in split.ids]
        np.testing.assert_array_equal(split.flux(), FLUX[rows])
        assert [loaded.class_names[label] for label in split.labels] == NAMES[rows].tolist()
        np.testing.assert_array_equal(split.flux([4, 2]), FLUX[[rows[4], rows[2]]])


def test_the_assignment_lists_every_spectrum_with_its_split(path, tmp_path):
    loaded = load(settings("sequences", path=path(label=NAMES), test_fraction=0.2), tmp_path)
    table = loaded.assignment()
    assert sorted(table["row"]) == list(range(90))
    assert table["split"].count("test") == 18
    assert all(str(row) == name for row, name in zip(table["row"], table["id"], strict=True))


def test_same_data_and_seed_give_the_same_splits_and_fingerprint(path, tmp_path):
    cfg = settings("sequences", path=path(label=NAMES))
    one, two = load(cfg, tmp_path), load(cfg, tmp_path)
    assert one.checksum == two.checksum
    assert one.assignment() == two.assignment()
    path(label=NAMES, flux=FLUX + 1)
    assert load(cfg, tmp_path).checksum != one.checksum


def test_a_test_set_of_another_length_is_refused(path, tmp_path):
    short = path("test", flux=FLUX[:, :30])
    cfg = settings("sequences", path=path(label=NAMES), test_path=short)
    with pytest.raises(UserError, match="test spectra have 30 points, the training spectra 31"):
        load(cfg, tmp_path)


def test_labels_of_the_test_set_follow_the_classes_of_the_training_set(path, tmp_path):
    labelled = path("test", flux=FLUX[30:], label=NAMES[30:])
    cfg = settings("sequences", path=path(label=NAMES), test_path=labelled)
    loaded = load(cfg, tmp_path)
    assert loaded.test.labels.min() == 1
    strange = path("test", flux=FLUX[:2], label=["a", "d"])
    with pytest.raises(UserError, match="unknown class 'd'"):
        load(settings("sequences", path=path(label=NAMES), test_path=strange), tmp_path)


def test_a_checkpoints_label_order_wins(path, tmp_path):
    cfg = settings("sequences", path=path(label=NAMES))
    loaded = load(cfg, tmp_path, class_names=("c", "b", "a"))
    assert loaded.class_names == ("c", "b", "a")


def test_a_checkpoint_of_other_classes_is_refused(path, tmp_path):
    cfg = settings("sequences", path=path(label=NAMES))
    with pytest.raises(UserError, match="unknown class 'c'"):
        load(cfg, tmp_path, class_names=("a", "b"))


def test_every_split_is_limited(path, tmp_path):
    cfg = settings("sequences", path=path(label=NAMES), test_path=path("test", label=NAMES))
    loaded = load(cfg, tmp_path, limit_rows=7)
    assert [len(split) for split in (loaded.train, loaded.valid, loaded.test)] == [7, 7, 7]
    assert set(loaded.train.labels) == {0, 1, 2}


def test_constant_and_incomplete_spectra_are_counted_and_said(path, tmp_path):
    flux = FLUX.copy()
    flux[3] = 2.5
    flux[40, :4] = np.nan
    heard = Heard()
    loaded = data.load(
        settings("sequences", path=path(flux=flux, label=NAMES)),
        seed=0, cache_dir=tmp_path, console=heard,
    )  # fmt: skip
    assert loaded.notes["constant spectra"] == 1
    assert loaded.notes["spectra with missing pixels"] == 1
    assert "warning: 1 spectra are constant: 3" in heard.lines
    assert any(line.startswith("4 missing pixels in 1 spectra") for line in heard.lines)


def test_an_all_nan_spectrum_is_refused_by_id(path, tmp_path):
    flux = FLUX.copy()
    flux[17] = np.nan
    with pytest.raises(UserError, match=r"no finite pixel \(all NaN\): 17\."):
        load(settings("sequences", path=path(flux=flux, label=NAMES)), tmp_path)


def alone(data):
    """A configuration that has nothing but `cfg.data`."""
    return OmegaConf.create({"data": data})


@pytest.mark.parametrize("kind", [name.removeprefix("data/") for name in DATA_SCHEMAS])
def test_the_defaults_of_every_kind_are_valid(kind):
    check_data(alone(settings(kind)))


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"valid_fraction": 0.0}, r"data\.valid_fraction"),
        ({"valid_fraction": 1.0}, r"data\.valid_fraction"),
        ({"test_fraction": 1.0}, r"data\.test_fraction"),
        ({"n_folds": 5}, r"data\.fold"),
        ({"fold": 0}, r"data\.n_folds"),
        ({"fold": 5, "n_folds": 5}, r"data\.fold"),
        ({"fold": -1, "n_folds": 5}, r"data\.fold"),
        ({"fold": 0, "n_folds": 1}, r"data\.n_folds"),
        ({"fold": 0, "n_folds": 5, "test_fraction": 0.1}, r"data\.test_fraction"),
        ({"scale": 0.0}, r"data\.scale"),
        ({"clip": -1.0}, r"data\.clip"),
        ({"classes": ["a", "a"]}, r"data\.classes"),
        ({"classes": ["a"]}, r"data\.classes"),
        ({"classes": ["a", "target"]}, r"data\.classes: a class cannot be named target"),
        ({"scale": float("nan")}, r"data\.scale"),
        ({"clip": float("nan")}, r"data\.clip"),
        ({"valid_fraction": float("nan")}, r"data\.valid_fraction"),
    ],
)
def test_settings_that_contradict_each_other_name_the_key(changes, key):
    with pytest.raises(ConfigError, match=key):
        check_data(alone(settings("sequences", **changes)))


def test_the_simulator_keeps_its_classes_and_shares():
    with pytest.raises(ConfigError, match=r"data\.class_shares"):
        check_data(alone(settings("synthetic_spectra", class_shares=[0.5, 0.5])))
    with pytest.raises(ConfigError, match=r"data\.classes"):
        check_data(alone(settings("synthetic_spectra", classes=["a", "b", "c", "d"])))


def test_bad_data_ends_the_command_with_a_message_and_no_traceback(kexue_run, tmp_path):
    write_contest(tmp_path / "set", length=128)
    (tmp_path / "set" / "train" / "1003.txt").write_text("1,2,oops")
    ended = kexue_run(
        "task=lamost", "data=tianchi", f"data.root={tmp_path / 'set'}", "data.length=128",
        env={"KEXUE_CACHE_DIR": str(tmp_path / "cache")},
    )  # fmt: skip
    assert ended.returncode != 0
    assert "1003.txt: 'oops' is not a number" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list((tmp_path / "cache").glob("lamost/*.partial"))


@pytest.mark.parametrize("name", ["id", "prediction", "target"])
def test_a_class_named_as_a_column_of_the_predictions_is_refused(path, tmp_path, name):
    names = np.where(NAMES == "b", name, NAMES)
    with pytest.raises(ConfigError, match=rf"a class cannot be named {name}: predictions\.csv"):
        load(settings("sequences", path=path(label=names)), tmp_path)


def test_too_few_spectra_for_two_splits_are_refused(path, tmp_path):
    two = settings("sequences", path=path(flux=FLUX[:2], label=["a", "b"]))
    with pytest.raises(UserError, match=r"class 'a' is missing from the valid split \(1 spectra"):
        load(two, tmp_path)


def test_a_labelled_test_set_is_evaluated_without_training_spectra(path, tmp_path):
    test = path("test", label=NAMES)
    cfg = settings("sequences", path=str(tmp_path / "gone.npz"), test_path=test)
    loaded = load(cfg, tmp_path, mode=Mode.evaluate, class_names=("a", "b", "c"))
    assert loaded.valid is None
    assert loaded.test.labels.tolist() == np.repeat([0, 1, 2], 30).tolist()
    both = settings("sequences", path=path(label=NAMES), test_path=test)
    loaded = load(both, tmp_path, mode=Mode.evaluate, class_names=("a", "b", "c"))
    assert loaded.valid is not None


def test_a_test_set_without_labels_cannot_be_evaluated(path, tmp_path):
    cfg = settings("sequences", path=str(tmp_path / "gone.npz"), test_path=path("test"))
    with pytest.raises(UserError, match=r"test spectra have no labels.*use mode=predict"):
        load(cfg, tmp_path, mode=Mode.evaluate, class_names=("a", "b"))

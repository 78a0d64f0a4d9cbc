"""Options of the spectra a run learns from. Nothing here imports numpy or torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from kexue_cli.config import DataConfig, check_ranges
from kexue_cli.errors import ConfigError
from kexue_cli.tasks.lamost.config_ranges import DATA_RANGES

DATA_ROOT = "${oc.env:KEXUE_DATA_DIR,data}"
CONTEST_CLASSES = ("star", "unknown", "galaxy", "qso")
RESERVED = ("id", "prediction", "target")  # columns of predictions.csv beside the classes
CONTEST_SHARES = (0.9155, 0.0709, 0.0108, 0.0028)


class Normalise(Enum):
    """What is done to each spectrum before the network sees it."""

    scale = "scale"  # divide by data.scale, as the kexue.fm post does by 100
    l2 = "l2"  # divide by the Euclidean norm
    zscore = "zscore"  # minus mean, over standard deviation
    robust = "robust"  # minus median, over 1.4826 median absolute deviations
    none = "none"


class SplitBy(Enum):
    """What the splits respect."""

    stratified = "stratified"  # every class in the same proportion in every split
    group = "group"  # spectra of one object stay together; stratified as well as possible
    random = "random"  # neither, as in the kexue.fm post


@dataclass
class SplitConfig:
    """How labelled spectra become train, valid and test, and their scale; of all data kinds."""

    split_by: SplitBy = SplitBy.stratified
    valid_fraction: float = 0.2  # of the spectra that are not test
    test_fraction: float = 0.0  # 0: the test set has files of its own, or there is none
    n_folds: int | None = None  # k-fold: fold number `fold` is the test set
    fold: int | None = None  # also of the set's own fold column, where it has one
    normalise: Normalise = Normalise.scale
    scale: float = 100.0
    clip: float | None = None  # cut off beyond +-clip, after normalising


@dataclass
class SyntheticSpectra(SplitConfig, DataConfig):
    """Simulated LAMOST spectra: nothing to download."""

    name: str = "synthetic_spectra"
    task: str = "lamost"
    kind: str = "synthetic_spectra"
    n_spectra: int = 20000  # train and valid together
    n_test: int = 5000
    length: int = 2600
    data_seed: int = 2018  # of the simulator; the split follows the run's seed
    classes: list[str] = field(default_factory=lambda: list(CONTEST_CLASSES))
    class_shares: list[float] = field(default_factory=lambda: list(CONTEST_SHARES))
    snr_scale: float = 1.0  # signal-to-noise of everything; below 1 is harder


@dataclass
class Tianchi(SplitConfig, DataConfig):
    """The contest's files: index CSVs and one text file per spectrum, in a folder or zip."""

    name: str = "tianchi"
    task: str = "lamost"
    kind: str = "tianchi"
    root: str = DATA_ROOT + "/lamost"  # searched for the names of the contest's rounds
    round: str | None = None  # first | second_a | second_b | final; null: the earliest found
    train_index: str | None = None  # CSV `id,type`
    train_dir: str | None = None  # folder (also of zips), or zip as downloaded
    test_index: str | None = None  # CSV `id` or `id,type`; null: every file of test_dir
    test_dir: str | None = None
    classes: list[str] = field(default_factory=lambda: list(CONTEST_CLASSES))
    length: int = 2600
    ignore_extra: bool = False  # accept spectra of train_dir that the index does not name
    workers: int | None = None  # threads of the conversion; null: the number of cores


@dataclass
class Fits(SplitConfig, DataConfig):
    """Survey files: LAMOST low resolution (DR1 to DR9) and SDSS spec-*.fits, plain or gzipped."""

    name: str = "fits"
    task: str = "lamost"
    kind: str = "fits"
    path: str = DATA_ROOT + "/fits"  # folder, searched recursively, or a glob
    test_path: str | None = None
    labels: str | None = None  # CSV `id,type`; null: the class in each file
    classes: list[str] = field(default_factory=lambda: list(CONTEST_CLASSES))
    length: int = 2600
    first_angstrom: float = 3690.0
    last_angstrom: float = 9100.0
    group_by: str | None = None  # header key of the object, such as OBJNAME, for split_by=group


@dataclass
class Sequences(SplitConfig, DataConfig):
    """Any labelled one-dimensional set: .npz, or a wide .csv, .csv.gz or .parquet table."""

    name: str = "sequences"
    task: str = "lamost"
    kind: str = "sequences"
    path: str = DATA_ROOT + "/sequences.npz"
    test_path: str | None = None  # labelled or not
    flux_key: str | None = None  # npz: null is `flux` or `x`; table: prefix, null is FE
    label_key: str | None = None  # null: label, answer, type, class or y
    id_key: str | None = None  # null: id; without it the row number
    group_key: str | None = None  # the object of each row, for split_by=group
    fold_key: str | None = None  # the set's own folds, for data.fold
    wavelength_key: str | None = "wavelength"  # npz only; in angstrom; absent is fine
    classes: list[str] | None = None  # names in label order; null: those found, sorted
    normalise: Normalise = Normalise.zscore


DATA_SCHEMAS: dict[str, type] = {
    "data/synthetic_spectra": SyntheticSpectra,
    "data/tianchi": Tianchi,
    "data/fits": Fits,
    "data/sequences": Sequences,
}


def check_data(cfg: Any) -> None:
    """Ranges and rules of `cfg.data`.

    Raises:
        ConfigError: naming the key, what was expected and what was found.
    """
    check_ranges(cfg, DATA_RANGES)
    data = cfg.data
    if data.kind == "fits" and data.first_angstrom >= data.last_angstrom:
        raise ConfigError(
            "data.first_angstrom",
            f"below data.last_angstrom={data.last_angstrom:g}, found {data.first_angstrom:g}",
        )
    _check_folds(data)
    _check_classes(data)


def _check_folds(data: Any) -> None:
    own_folds = data.get("fold_key") is not None
    if data.n_folds is not None and data.fold is None:
        raise ConfigError("data.fold", f"data.n_folds={data.n_folds} needs data.fold=0 or above")
    if data.fold is not None and data.n_folds is None and not own_folds:
        raise ConfigError("data.n_folds", f"data.fold={data.fold} needs the number of folds")
    if None not in (data.fold, data.n_folds) and data.fold >= data.n_folds:
        raise ConfigError("data.fold", f"below data.n_folds={data.n_folds}, found {data.fold}")
    if data.fold is not None and data.test_fraction > 0:
        raise ConfigError("data.test_fraction", "data.fold already sets the test set aside: use 0")


def _check_classes(data: Any) -> None:
    if data.classes is not None and len(set(data.classes)) != len(data.classes):
        raise ConfigError("data.classes", f"names must differ, found {list(data.classes)}")
    if data.classes is not None and len(data.classes) < 2:
        raise ConfigError("data.classes", "two or more names are needed")
    refuse_reserved(data.classes or ())
    shares = data.get("class_shares")
    if shares is not None and len(shares) != len(CONTEST_CLASSES):
        raise ConfigError(
            "data.class_shares", f"four positive shares ({', '.join(CONTEST_CLASSES)}) are needed"
        )
    if data.kind == "synthetic_spectra" and tuple(data.classes) != CONTEST_CLASSES:
        raise ConfigError("data.classes", f"the simulator makes {', '.join(CONTEST_CLASSES)}")


def refuse_reserved(classes: Iterable[str]) -> None:
    """Raise ConfigError where a class has the name of another column of predictions.csv."""
    if reserved := [name for name in classes if name in RESERVED]:
        raise ConfigError(
            "data.classes",
            f"a class cannot be named {' or '.join(reserved)}: predictions.csv has a column of "
            "that name beside those of the classes. Rename it in the file of labels",
        )

"""The catalogue of data sets: where each comes from, its licence, its files and their checksums.

One YAML file per data set in `kexue_cli/manage/catalogue/`. Files with a `url` can be fetched; for
the others `obtain` says how to get them. A `member` is a file inside the archive at `url`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kexue_cli.errors import UserError

CATALOGUE = Path(__file__).parent / "catalogue"
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class DataFile:
    """One file of a data set; `path` is relative to the data set's folder."""

    path: str
    bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None
    url: str | None = None
    member: str | None = None

    @property
    def known_hash(self) -> str | None:
        """The checksum as "algorithm:digits"."""
        if self.sha256 is not None:
            return f"sha256:{self.sha256}"
        return f"md5:{self.md5}" if self.md5 is not None else None


@dataclass(frozen=True)
class Dataset:
    """One entry of the catalogue."""

    name: str
    description: str
    title: str
    tasks: tuple[str, ...]
    folder: str
    licence: str
    origin: str
    obtain: str | None
    files: tuple[DataFile, ...]

    @property
    def fetchable(self) -> str:
        """yes, partly or no: how many of the files have a URL."""
        with_url = sum(file.url is not None for file in self.files)
        return "no" if not with_url else "yes" if with_url == len(self.files) else "partly"


def load_all(catalogue: Path = CATALOGUE) -> list[Dataset]:
    """Every data set, by name."""
    return [load(path) for path in sorted(catalogue.glob("*.yaml"))]


def load(path: Path) -> Dataset:
    """One entry of the catalogue."""
    import yaml

    text = path.read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    content["files"] = tuple(DataFile(**file) for file in content["files"])
    content["tasks"] = tuple(content["tasks"])
    description = text.partition("\n")[0].removeprefix("#").strip()
    return Dataset(name=path.stem, description=description, **{"obtain": None, **content})


def choose(names: list[str], datasets: list[Dataset]) -> list[Dataset]:
    """The named data sets; a task's name means all of its sets, nothing means all.

    Raises:
        UserError: no data set and no task is called so.
    """
    if not names:
        return datasets
    chosen: dict[str, Dataset] = {}
    for name in names:
        named = [d for d in datasets if d.name == name] or [d for d in datasets if name in d.tasks]
        if not named:
            known = ", ".join(d.name for d in datasets)
            raise UserError(f"there is no data set or task {name!r}. Data sets: {known}")
        chosen.update({d.name: d for d in named})
    return list(chosen.values())


def state_of(file: DataFile, folder: Path, deep: bool) -> str:
    """absent, whole, wrong size or wrong checksum; without `deep` the content is not read."""
    path = folder / file.path
    try:
        size = path.stat().st_size
    except OSError:
        return "absent"
    if file.bytes is not None and size != file.bytes:
        return "wrong size"
    if deep and file.known_hash is not None and hash_of(path, file.known_hash) != file.known_hash:
        return "wrong checksum"
    return "whole"


def summary_of(dataset: Dataset, root: Path, deep: bool = False) -> str:
    """One word or two for a data set: here, incomplete, damaged, absent."""
    folder = root / dataset.folder
    if not dataset.files:
        return "here" if folder.is_dir() and any(folder.iterdir()) else "absent"
    states = [state_of(file, folder, deep) for file in dataset.files]
    if all(state == "absent" for state in states):
        return "absent"
    if any(state.startswith("wrong") for state in states):
        return "damaged"
    missing = states.count("absent")
    return f"{missing} of {len(states)} files absent" if missing else "here"


def hash_of(path: Path, like: str) -> str:
    """The file's checksum in the algorithm of `like`, as "algorithm:digits"."""
    algorithm = like.partition(":")[0]
    digest = hashlib.new(algorithm)
    for chunk in _chunks(path):
        digest.update(chunk)
    return f"{algorithm}:{digest.hexdigest()}"


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk

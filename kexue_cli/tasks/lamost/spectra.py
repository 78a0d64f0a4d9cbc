"""What every data kind of the task is turned into: sets of spectra and their splits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.tasks.lamost.normalise import Normalisation, Quality

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class SpectraSet:
    """Spectra of one length on one grid, in the flux units of their file.

    `flux` is (n, length) float32, an array or a read-only memory map; NaN marks
    missing pixels. `ids` is (n,) of str. `labels` is (n,) int64 into `class_names`,
    or None for unlabelled spectra. `group` names the object a spectrum shows,
    `fold` is the set's own fold column. `checksum` names the content. `quality` is what
    `normalise.inspect` found, where the reader kept it.
    """

    flux: Floats
    ids: NDArray[np.str_]
    class_names: tuple[str, ...]
    checksum: str
    labels: Integers | None = None
    group: NDArray[np.str_] | None = None
    fold: Integers | None = None
    wavelength_angstrom: Floats | None = None
    quality: Quality | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Split:
    """Rows `indices` of `source`; flux leaves it cleaned and normalised."""

    source: SpectraSet
    indices: Integers
    normalisation: Normalisation

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def ids(self) -> NDArray[np.str_]:
        """(len(self),) of str."""
        return self.source.ids[self.indices]

    @property
    def labels(self) -> Integers | None:
        """(len(self),) int64, or None for unlabelled spectra."""
        return None if self.source.labels is None else self.source.labels[self.indices]

    def flux(self, rows: Any = slice(None)) -> Floats:
        """Normalised float32 flux (len(rows), length) of the given rows of this split."""
        return self.normalisation(self.source.flux[self.indices[rows]])

    def raw_flux(self, rows: Any = slice(None)) -> Floats:
        """Flux (len(rows), length) in the units of the file, for plots."""
        return np.asarray(self.source.flux[self.indices[rows]])


@dataclass(frozen=True)
class LamostData:
    """The three splits of a run; `train` and `valid` are None when only predicting.

    `notes` holds what a reader of the log should know: rows, classes, missing
    pixels, constant spectra.
    """

    train: Split | None
    valid: Split | None
    test: Split | None
    class_names: tuple[str, ...]
    length: int
    checksum: str
    wavelength_angstrom: Floats | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def predicted(self) -> Split:
        """The split predictions are made for: the test set, else the validation split."""
        split = self.test if self.test is not None else self.valid
        assert split is not None
        return split

    def assignment(self) -> dict[str, list[Any]]:
        """Columns id, split, row (number in its set) of every spectrum, to keep with the run."""
        columns: dict[str, list[Any]] = {"id": [], "split": [], "row": []}
        for name in ("train", "valid", "test"):
            split: Split | None = getattr(self, name)
            if split is not None:
                columns["id"] += split.ids.tolist()
                columns["split"] += [name] * len(split)
                columns["row"] += split.indices.tolist()
        return columns

    @property
    def n_classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)

    def split(self, name: str) -> Split:
        """`train`, `valid` or `test` by name."""
        found: Split | None = getattr(self, name)
        if found is None:
            raise LookupError(f"this run has no {name} split")
        return found

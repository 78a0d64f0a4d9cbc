"""One pass of K-Means over a slice of rows: by native/kmeans.cpp, or in whole-slice torch products.

Both give what the pass changes in the sums of the clusters. The compiled one moreover keeps bounds
of each row's distances, by which a later pass tells the cluster of most rows without reading them,
where rows form clusters.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch

from kexue_cli.native import build
from kexue_cli.native.build import INT, POINTER
from kexue_cli.tasks.em.rows import Rows

SOURCE = Path(__file__).parent / "native" / "kmeans.cpp"
GROUP = 4  # centres of a register tile
POINTERS = (
    *("rows", "shift", "near_shift", "centres", "packed", "half", "weights", "safe", "travelled"),
    *("labels", "upper", "lower", "sums", "count"),
)


class Known(NamedTuple):
    """What is known of rows from earlier passes; a pass writes it anew.

    Fields:
        labels: (n,) int32.
        upper: (n,) float32 bounds of the distance to the own centre, less what that has travelled.
        lower: (n,) float32 bounds of the distance to any other centre, plus the drift of all.
    """

    labels: np.ndarray
    upper: np.ndarray
    lower: np.ndarray

    def part(self, start: int, stop: int) -> Known:
        """Rows start .. stop-1, in the same memory."""
        return Known(*(values[start:stop] for values in self))


@dataclass
class Change:
    """What a pass found over some rows.

    Attributes:
        moved, compared: rows that changed their cluster; that were compared with all centres.
        square: weighted sum of squared distances from the shift, of an `afresh` pass.
        sums, count: (K, d), (K,) weighted sums of the rows of each cluster if `afresh`, else what
            the rows that moved add to earlier ones.
    """

    moved: float
    compared: float
    square: float
    sums: np.ndarray
    count: np.ndarray

    @classmethod
    def none(cls, shape: tuple[int, ...]) -> Change:
        """Of no rows, with centres of this shape."""
        return cls(0, 0, 0.0, np.zeros(shape), np.zeros(shape[0]))

    def __add__(self, other: Change) -> Change:
        return Change(*(a + b for a, b in zip(self.parts(), other.parts(), strict=True)))

    def parts(self) -> list[Any]:
        """The attributes in their order."""
        return [self.moved, self.compared, self.square, self.sums, self.count]


Step = Callable[[Rows, Known], Change]


class Pass(ctypes.Structure):
    """Arguments and results of the kernel, as kmeans.cpp has them; keeps the arrays it is given."""

    _fields_: ClassVar = [
        *((name, POINTER) for name in POINTERS),
        ("row_count", ctypes.c_int64),
        *((name, INT) for name in ("columns", "clusters", "afresh", "prune")),
        *((name, ctypes.c_float) for name in ("drift", "rounding")),
        *((name, ctypes.c_int64) for name in ("moved", "compared")),
        ("square", ctypes.c_double),
    ]

    def give(self, **arrays: np.ndarray) -> None:
        """Set pointers by name."""
        self.given = arrays
        for name, array in arrays.items():
            setattr(self, name, array.ctypes.data)


@functools.cache
def library() -> ctypes.CDLL:
    """The compiled kernel; NotAvailable says why it cannot be had."""
    names = ("kmeans_assign_float32", "kmeans_assign_float64")
    signatures: build.Signatures = {name: ((POINTER,), None) for name in names}
    return build.load(SOURCE, signatures, "-ffp-contract=fast", "-fno-math-errno")


@functools.cache
def obstacle() -> str | None:
    """Why the kernel cannot be had here, or None."""
    return build.obstacle(library)


def native_step(
    rows: Rows,
    centres: np.ndarray,
    afresh: bool,
    prune: bool,
    travelled: np.ndarray,
    drift: float,
) -> Step:
    """The compiled pass.

    Args:
        centres: (K, d) relative to the shift, compared in the rows' own type.
        afresh: sums over all rows, not changes.
        prune: use what is known from earlier passes.
        travelled: (K,) how far each centre has moved in all; drift: sum of the largest steps.
    """
    number = np.dtype(np.float32 if rows.values.dtype == np.float32 else np.float64)
    function = getattr(library(), f"kmeans_assign_{number.name}")
    shift: np.ndarray = np.ascontiguousarray(rows.shift, np.float64)
    near_shift: np.ndarray = shift.astype(number)
    compared = (centres + (shift - near_shift)).astype(number)
    packed, half = _packed(compared)
    common = Pass(columns=len(shift), clusters=len(centres), afresh=afresh, prune=prune)
    common.drift, common.rounding = drift, 5e-7 * max(8.0, np.sqrt(len(shift)))
    with np.errstate(over="ignore"):  # infinite bounds exclude nothing
        common.give(
            shift=shift,
            near_shift=near_shift,
            centres=compared,
            packed=packed,
            half=half,
            safe=_half_distance_to_next(centres).astype(np.float32),
            travelled=travelled.astype(np.float32),
        )

    def step(part: Rows, known: Known) -> Change:
        found, made = Change.none(centres.shape), Pass.from_buffer_copy(common)
        made.row_count = len(part)
        own = {"rows": np.ascontiguousarray(part.values, number), **known._asdict()}
        if part.weights is not None:
            own["weights"] = np.ascontiguousarray(part.weights, np.float64)
        made.give(**own, sums=found.sums, count=found.count)
        function(ctypes.byref(made))
        return Change(made.moved, made.compared, made.square, found.sums, found.count)

    return step


def _packed(centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Groups of centres column by column, (groups, d, GROUP), and |centre|^2 / 2; padded at the end
    by centres that no row chooses.
    """
    columns, extra = centres.shape[1], -len(centres) % GROUP
    padded = np.concatenate([centres, np.zeros((extra, columns), centres.dtype)])
    half = 0.5 * np.sum(padded.astype(np.float64) ** 2, axis=1)
    half[len(centres) :] = np.inf
    grouped = padded.reshape(-1, GROUP, columns).transpose(0, 2, 1)
    return np.ascontiguousarray(grouped), half.astype(centres.dtype)


def _half_distance_to_next(centres: np.ndarray) -> np.ndarray:
    """Half the distance of each centre to the nearest other one, (K,)."""
    squares = np.sum(centres**2, axis=1)
    distances = squares[:, None] + squares - 2 * centres @ centres.T
    np.fill_diagonal(distances, np.inf)
    nearest = np.minimum(distances.min(axis=1), 1e30)
    half: np.ndarray = 0.5 * np.sqrt(np.maximum(nearest - 1e-6 * squares.max(), 0.0))
    return half


def torch_step(rows: Rows, centres: np.ndarray, afresh: bool, device: str) -> Step:
    """The same pass on any device; it compares every row with every centre."""
    number = torch.float32 if rows.values.dtype == np.float32 else torch.float64
    c = torch.as_tensor(centres, dtype=number, device=device)
    half = 0.5 * (c * c).sum(1)

    def step(part: Rows, known: Known) -> Change:
        """A slice of the rows: `known.labels` are set anew, and what that changes is told."""
        y = torch.as_tensor(part.centred(), device=device)
        label = torch.addmm(-half, y.to(number), c.T).argmax(1)
        old = torch.as_tensor(known.labels, dtype=torch.int64, device=device)
        weight = torch.ones(len(y), dtype=torch.float64, device=device)
        if part.weights is not None:
            weight = torch.as_tensor(part.weights, dtype=torch.float64, device=device)
        moves = label != old
        total = torch.zeros((len(c), 1 + c.shape[1]), dtype=torch.float64, device=device)
        rows_and_one = torch.cat([y, torch.ones_like(y[:, :1])], 1) * weight[:, None]
        if afresh:
            total.index_add_(0, label, rows_and_one)
        else:
            total.index_add_(0, label[moves], rows_and_one[moves])
            total.index_add_(0, old[moves], rows_and_one[moves], alpha=-1)
        square = float((y * y).sum(1) @ weight) if afresh else 0.0
        known.labels[:] = label.cpu().numpy()
        sums = total.cpu().numpy()
        return Change(int(moves.sum()), len(y), square, sums[:, :-1], sums[:, -1])

    return step

"""Looks at a table before it is fitted or scored; every error names row and column."""

from __future__ import annotations

from typing import Any

import numpy as np

from kexue_cli.errors import UserError
from kexue_cli.tasks.em.data import Table, blocks_of

LARGEST = 1e140  # of a value: sums of squares of larger ones overflow
SMALLEST = 1e-150  # difference whose square is above 0
CONSTANT = 1e-24  # variance over squared mean up to which rounding explains that a column varies
DEPENDENT = 1e-12  # smallest eigenvalue of the correlations below which columns are dependent


def check_values(table: Table, gaps_allowed: bool, empty_allowed: bool = False) -> int:
    """Look at every value once; the number of gaps.

    Args:
        empty_allowed: take rows of nothing but gaps, too: a mixture can tell their components,
            though not learn from them.

    Raises:
        UserError: an infinite value, a gap where none is allowed, or a row of nothing but gaps.
    """
    if not isinstance(table.values, np.ndarray):
        return 0  # counts were looked at when they were read
    gaps = 0
    for start, block in blocks_of(table):
        if block.dtype.kind != "f" or max(-float(block.min()), float(block.max())) <= LARGEST:
            continue  # both are NaN where a value is
        infinite = np.argwhere(np.isinf(block))
        if len(infinite):
            row, column = infinite[0]
            raise UserError(
                f"{table.name}: infinite value in row {start + row + 1}, column "
                f"{table.columns[column]!r} ({len(infinite)} up to row {start + len(block)}); "
                "remove or correct it"
            )
        huge = np.argwhere(np.abs(block, dtype=np.float64) > LARGEST)
        if len(huge):
            row, column = huge[0]
            raise UserError(
                f"{table.name}: {block[row, column]:g} in row {start + row + 1}, column "
                f"{table.columns[column]!r}: the squares of such values overflow. Correct it, or "
                "choose another unit by data.divide_by"
            )
        missing = np.isnan(block)
        gaps += int(missing.sum())
        row, column = np.argwhere(missing)[0] if missing.any() else (0, 0)
        if missing.any() and not gaps_allowed:
            raise UserError(
                f"{table.name}: missing value in row {start + row + 1}, column "
                f"{table.columns[column]!r}; only model=gmm takes rows with gaps"
            )
        empty = np.flatnonzero(missing.all(axis=1))
        if len(empty) and not empty_allowed:
            raise UserError(
                f"{table.name}: row {start + empty[0] + 1} has no value at all; remove such rows"
            )
    return gaps


def check_counts(table: Table) -> None:
    """See that a table of numbers counts something.

    Raises:
        UserError: a value that is missing, infinite, negative or not whole, or a row of zeros.
    """
    if not isinstance(table.values, np.ndarray):
        return
    check_values(table, gaps_allowed=False)
    for start, block in blocks_of(table):
        wrong = np.argwhere((block < 0) | (block != np.round(block)))
        if len(wrong):
            row, column = wrong[0]
            raise UserError(
                f"{table.name}: counts must be whole and not negative; row {start + row + 1}, "
                f"column {table.columns[column]!r} has {block[row, column]}"
            )
        empty = np.flatnonzero(block.sum(axis=1) == 0)
        if len(empty):
            raise UserError(f"{table.name}: row {start + empty[0] + 1} counts nothing; remove it")


def check_distinct(table: Table, components: int) -> None:
    """See that there are at least `components` distinct rows of some weight.

    Raises:
        UserError: there are fewer.
    """
    found = distinct_rows(table.values, components, table.weights)
    if found < components:
        weight = "" if table.weights is None else " with weight above 0"
        raise UserError(
            f"model.n_components={components}, but {table.name} has {found} distinct rows{weight}; "
            "ask for fewer components"
        )


def distinct_rows(values: Any, enough: int, weights: np.ndarray | None = None) -> int:
    """Number of distinct rows of some weight, dense or scipy CSR, counted up to `enough`."""
    for rows in (20 * enough, values.shape[0]):
        part = values[:rows]
        if weights is not None:
            part = part[weights[:rows] > 0]
        found = (
            len(np.unique(part, axis=0)) if isinstance(part, np.ndarray) else _distinct_csr(part)
        )
        if found >= enough:
            break
    return found


def _distinct_csr(counts: Any) -> int:
    """Rows by the bytes of their words and counts, which are sorted and hold no zeros."""
    ends = zip(counts.indptr[:-1], counts.indptr[1:], strict=True)
    return len({counts.indices[a:b].tobytes() + counts.data[a:b].tobytes() for a, b in ends})


def check_columns_differ(table: Table, scatter: np.ndarray) -> None:
    """See that no column is a copy, or a sum, of others.

    Args:
        scatter: (d, d), sum over rows of weight times y y^T; NaN where rows have gaps. Then only
            copies are found, by the rows that two columns share.

    Raises:
        UserError: a covariance over these columns would be singular.
    """
    if np.isnan(scatter).any():
        _refuse_copies(table)
        return
    scale = np.sqrt(np.diag(scatter))
    eigenvalues, axes = np.linalg.eigh(scatter / np.multiply.outer(scale, scale))
    if eigenvalues[0] > DEPENDENT:
        return
    counted = len(table) if table.weights is None else int((table.weights > 0).sum())
    if counted <= len(table.columns):
        raise UserError(
            f"{table.name}: {counted} rows do not determine a covariance over {len(table.columns)} "
            "columns; give more rows, or use model.covariance=diag"
        )
    involved = np.argsort(-np.abs(axes[:, 0]))[:5]
    _refuse(table, [j for j in involved if abs(axes[j, 0]) > 0.05])


def _refuse_copies(table: Table) -> None:
    """Of two columns, by the rows in which both have a value; at least three of them."""
    values = np.asarray(table.values, dtype=np.float64)
    for i in range(values.shape[1]):
        for j in range(i):
            both = np.isfinite(values[:, [i, j]]).all(axis=1)
            y = values[both][:, [i, j]]
            y = y - y.mean(axis=0) if len(y) > 2 else np.eye(2)
            product, squares = float(y[:, 0] @ y[:, 1]), np.sum(y**2, axis=0)
            if squares.min() > 0 and 1 - product**2 / squares.prod() < DEPENDENT:
                _refuse(table, [j, i])


def _refuse(table: Table, columns: list[int]) -> None:
    names = ", ".join(repr(table.columns[j]) for j in columns)
    raise UserError(
        f"{table.name}: columns {names} determine each other (a copy, or a sum of others), so a "
        "covariance over them is singular. Leave one out by data.columns=[…], or use "
        "model.covariance=diag"
    )


def check_moments(table: Table, means: np.ndarray, variances: np.ndarray) -> None:
    """See that every column varies; means and variances (d,).

    Raises:
        UserError: a Gaussian would have no density in a constant or empty column.
    """
    constant = np.flatnonzero(~((variances > 0) & (variances > CONSTANT * means**2)))
    if len(constant) == 0:
        return
    check_not_tiny(table, variances)
    names = ", ".join(repr(table.columns[j]) for j in constant[:5])
    raise UserError(
        f"{table.name}: {len(constant)} columns are constant or empty ({names}): a Gaussian"
        " has no density there. Leave them out by data.columns=[…]"
    )


def check_not_tiny(table: Table, variances: np.ndarray) -> None:
    """See that no column varies by so little that its variance (d,) is 0.

    Raises:
        UserError: naming such a column.
    """
    if variances.all():
        return
    spreads = table.spreads()
    lost = np.flatnonzero((variances == 0) & (spreads > 0) & (spreads < SMALLEST))
    if len(lost):
        raise UserError(
            f"{table.name}: column {table.columns[lost[0]]!r} varies by {spreads[lost[0]]:.1e} "
            "only: the squares of that vanish. Choose another unit, for example "
            f"data.divide_by={spreads[lost[0]]:.0e}"
        )

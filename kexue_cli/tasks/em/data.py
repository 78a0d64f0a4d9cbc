"""Data sets of task em as one `Table`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kexue_cli.errors import UserError
from kexue_cli.extras import require
from kexue_cli.tasks.common.images import ImageSet, load_images, unit_interval
from kexue_cli.tasks.em.config_data import IMAGE_SETS
from kexue_cli.tasks.em.rows import release_pages
from kexue_cli.tasks.em.table_files import chosen_columns, read_table
from kexue_cli.tasks.em.word_counts import read_counts, read_vocabulary

CHECK_ROWS = 50_000  # rows looked at in one go when values are checked


@dataclass
class Table:
    """Rows to cluster.

    Attributes:
        values: (n, d) numbers, possibly memory-mapped or scipy sparse; NaN is a missing value.
        columns: d names.
        ids: (n,); weights: (n,) or None.
        labels: (n,) int64, -1 unknown, or None; classes: their names.
        shape: (height, width) of images, or None.
    """

    name: str
    values: Any
    columns: list[str]
    ids: np.ndarray
    weights: np.ndarray | None = None
    labels: np.ndarray | None = None
    classes: list[str] = field(default_factory=list)
    shape: tuple[int, int] | None = None

    def __len__(self) -> int:
        return int(self.values.shape[0])

    @property
    def total_weight(self) -> float:
        """Sum of the row weights."""
        return float(len(self) if self.weights is None else self.weights.sum())

    def limited(self, rows: int | None) -> Table:
        """At most so many rows, spread evenly, so that sorted files keep all their classes."""
        if rows is None or rows >= len(self):
            return self
        keep = np.linspace(0, len(self) - 1, rows).round().astype(np.int64)
        return replace(
            self,
            values=self.values[keep],
            ids=self.ids[keep],
            weights=None if self.weights is None else self.weights[keep],
            labels=None if self.labels is None else self.labels[keep],
        )

    def with_columns(self, names: list[str]) -> Table:
        """The columns that a fit has, in its order; by number where one of both has no names.

        Raises:
            UserError: there are not those.
        """
        width = self.values.shape[1]
        if not isinstance(self.values, np.ndarray) and width < len(names):
            counts = self.values.copy()
            counts.resize(len(self), len(names))
            return replace(self, values=counts, columns=names)
        by_number = all(name.isdigit() for name in names) or all(c.isdigit() for c in self.columns)
        if names == self.columns or (width == len(names) and by_number):
            return self
        if not set(names) <= set(self.columns):
            raise UserError(
                f"{self.name} has {width} columns ({', '.join(self.columns[:10])}), the fit has "
                f"{len(names)} ({', '.join(names[:10])}); give the same ones by data.columns=[…]"
            )
        place = {column: j for j, column in enumerate(self.columns)}
        values = chosen_columns(self.values, [place[name] for name in names])
        return replace(self, values=values, columns=names, shape=None)  # no image any more

    def spreads(self) -> np.ndarray:
        """Highest minus lowest value of every column, (d,); NaN where it has none."""
        low, high = np.full((2, len(self.columns)), np.nan)
        for _, block in blocks_of(self):
            low = np.fmin(low, np.fmin.reduce(block, axis=0))
            high = np.fmax(high, np.fmax.reduce(block, axis=0))
        spreads: np.ndarray = high - low
        return spreads

    def varying(self) -> list[str]:
        """The columns that take more than one value, NaN not counted."""
        return [c for c, spread in zip(self.columns, self.spreads(), strict=True) if spread > 0]


def load(data: Any, fitted: bool = False, whole: bool = False) -> dict[str, Table]:
    """The splits of the configuration node `data`: always train, sometimes valid and test.

    Args:
        fitted: the rows are for an earlier fit; they need no label and no weight.
        whole: a user's pictures are not split where their files name no splits.

    Raises:
        UserError: naming the file, and row and column where a value is at fault.
    """
    match data.name:
        case "iris":
            return {"train": iris()}
        case name if name in IMAGE_SETS:
            return image_tables(load_images(data, whole))
        case "coin_tosses":
            return {"train": coin_tosses(list(data.heads), data.tosses)}
    if "vocabulary" in data:
        return _splits(data, _count_table)
    return _splits(data, partial(_number_table, fitted=fitted))


def _splits(data: Any, read: Any) -> dict[str, Table]:
    tables = {"train": read(data, Path(data.path))}
    if data.test_path is not None:
        tables["test"] = read(data, Path(data.test_path))
        longest = max((table.columns for table in tables.values()), key=len)
        if not isinstance(tables["test"].values, np.ndarray):  # words that one of them lacks
            tables = {name: table.with_columns(longest) for name, table in tables.items()}
        else:
            tables["test"] = tables["test"].with_columns(tables["train"].columns)
    return tables


def iris() -> Table:
    """Fisher's iris of scikit-learn's package: lengths and widths in cm, three species."""
    bunch = require("sklearn.datasets", extra="em").load_iris()
    names = [name.removesuffix(" (cm)").replace(" ", "_") for name in bunch.feature_names]
    return Table(
        "iris",
        bunch.data,
        names,
        np.arange(len(bunch.data)),
        labels=bunch.target.astype(np.int64),
        classes=[str(name) for name in bunch.target_names],
    )


def image_tables(images: ImageSet) -> dict[str, Table]:
    """Pixels in [0, 1], float32 (or uint8 bits), one row per image."""
    height, width = images.shape
    tables = {}
    for split in ("train", "valid", "test"):
        part = images.split(split)
        if split != "train" and part is images.train:
            continue  # not split
        pixels = part.pixels if images.levels == 2 else unit_interval(part.pixels, images.levels)
        tables[split] = Table(
            images.name,
            np.ascontiguousarray(pixels.reshape(len(part), -1)),
            [f"pixel_{row}_{column}" for row in range(height) for column in range(width)],
            part.ids,
            labels=part.labels,
            classes=[str(number) for number in range(images.classes)],
            shape=(height, width),
        )
    return tables


def coin_tosses(heads: list[int], tosses: int) -> Table:
    """One row per set: heads and tails."""
    wrong = [number for number in heads if not 0 <= number <= tosses]
    if wrong or not heads:
        raise UserError(f"data.heads: expected numbers from 0 to {tosses}, found {wrong or heads}")
    values = np.array([[number, tosses - number] for number in heads], dtype=np.float64)
    return Table("coin_tosses", values, ["heads", "tails"], np.arange(len(values)))


def _count_table(data: Any, path: Path) -> Table:
    counts = read_counts(path)
    words = read_vocabulary(data.vocabulary, counts.shape[1])
    sizes = np.asarray(counts.sum(axis=1)).ravel()
    empty = np.flatnonzero(sizes == 0)
    if len(empty):
        raise UserError(
            f"{path}: {len(empty)} empty documents (the first is number {empty[0]}, from 0); a "
            "document without words has no topic: remove them"
        )
    return Table(path.name, counts, words, np.arange(counts.shape[0]))


def _number_table(data: Any, path: Path, fitted: bool) -> Table:
    read = read_table(data, path, fitted)
    values = read.values
    if data.divide_by != 1.0:
        values = np.asarray(values, dtype=np.float64) / data.divide_by
    table = Table(path.name, values, read.columns, read.ids)
    if read.weights is not None:
        table.weights = checked_weights(read.weights, f"{path}, column {data.weight!r}")
    if read.labels is not None:
        table.labels, table.classes = coded_labels(read.labels)
    return table


def checked_weights(weights: np.ndarray, source: str) -> np.ndarray:
    """Weights as float64; raises UserError for NaN, infinity, a negative one, or a zero sum."""
    weights = np.asarray(weights, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(weights) | (weights < 0))
    if len(bad):
        raise UserError(
            f"{source}: weights must be finite and not negative; {len(bad)} are not, the first "
            f"is {weights[bad[0]]} in row {bad[0] + 1}"
        )
    if weights.sum() <= 0:
        raise UserError(f"{source}: all weights are 0; give at least one row some weight")
    return weights


def coded_labels(labels: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Labels as numbers of the sorted classes, -1 for NaN or empty; and the classes' names."""
    missing = np.array([value is None or value != value or value == "" for value in labels])
    texts = np.array(
        ["" if gone else str(value) for value, gone in zip(labels, missing, strict=True)]
    )
    classes, codes = np.unique(texts[~missing], return_inverse=True)
    coded = np.full(len(labels), -1, dtype=np.int64)
    coded[~missing] = codes.reshape(-1)
    return coded, [str(name) for name in classes]


def column_moments(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """Weighted means and variances of the columns, (d,) each, gaps left out; in two passes."""
    count = np.zeros(len(table.columns))
    total, squares = np.zeros_like(count), np.zeros_like(count)
    for weight, block in _weighted_blocks(table):
        known = ~np.isnan(block)
        count += weight @ known
        total += weight @ np.where(known, block, 0.0)
    means = total / np.maximum(count, 1e-300)
    for weight, block in _weighted_blocks(table):
        squares += weight @ np.nan_to_num(block - means, nan=0.0) ** 2
    return means, squares / np.maximum(count, 1e-300)


def blocks_of(table: Table) -> Iterator[tuple[int, np.ndarray]]:
    """(number of the first row, rows) of parts of the table; a memory map is never held whole."""
    for start in range(0, len(table), CHECK_ROWS):
        yield start, np.asarray(table.values[start : start + CHECK_ROWS])
        release_pages(table.values)


def _weighted_blocks(table: Table) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start, block in blocks_of(table):
        known = table.weights
        weights = np.ones(len(block)) if known is None else known[start : start + len(block)]
        yield weights, block.astype(np.float64)

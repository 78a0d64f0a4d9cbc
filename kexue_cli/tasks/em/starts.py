"""Where EM begins: centres or responsibilities, one random stream per restart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kexue_cli.errors import UserError
from kexue_cli.tasks.em.csv_files import is_number
from kexue_cli.tasks.em.engine import Engine
from kexue_cli.tasks.em.family import Family
from kexue_cli.tasks.em.natural import Natural, Parameters, Statistics
from kexue_cli.tasks.em.rows import Rows, release_pages
from kexue_cli.tasks.em.table_files import FAILURES, load_array

Start = Literal["k-means++", "k-means", "random", "points", "given"]
SAMPLE_VALUES = 4_000_000  # numbers that starts look at, at most
FEW = 500  # rows of a memory map that are fetched before their pages are given back


def sampled(rows: Rows, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
    """Centred rows (m, d), dense, and their weights (m,), all above 0, or None: all rows, or a
    random part with at most SAMPLE_VALUES numbers.
    """
    size = max(1000, SAMPLE_VALUES // rows.values.shape[1])
    counted = None if rows.weights is None else np.flatnonzero(rows.weights > 0)
    number = len(rows) if counted is None else len(counted)
    chosen = counted
    if number > size:
        drawn = np.sort(generator.choice(number, size=size, replace=False))
        chosen = drawn if counted is None else counted[drawn]
    part = rows.values[:] if chosen is None else _rows_at(rows.values, chosen)
    dense = part if isinstance(part, np.ndarray) else part.toarray()
    centred = np.asarray(dense, dtype=np.float64) - rows.shift
    if rows.gaps != "none":
        centred = np.nan_to_num(centred, nan=0.0)
    return centred, None if rows.weights is None else rows.weights[chosen]


def _rows_at(values: Any, chosen: np.ndarray) -> Any:
    """Rows by number; of a memory map few at a time, as each brings its neighbours into memory."""
    if not isinstance(values, np.memmap):
        return values[chosen]
    parts = []
    for few in np.array_split(chosen, -(-len(chosen) // FEW)):
        parts.append(np.array(values[few]))
        release_pages(values)
    return np.concatenate(parts)


def plus_plus(
    values: np.ndarray,
    components: int,
    generator: np.random.Generator,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Centres (K, d) by greedy k-means++ (Arthur and Vassilvitskii 2007): rows of `values`.

    Each further centre is the best of 2 + log K candidates drawn with probability proportional to
    weight times squared distance from the centres so far.
    """
    trials = 2 + int(np.log(components))
    squares = np.einsum("nd,nd->n", values, values)
    weight = np.ones(len(values)) if weights is None else weights
    centres = np.empty((components, values.shape[1]))
    if weights is None:
        centres[0] = values[generator.integers(len(values))]
    else:
        centres[0] = values[_drawn(weights, generator, 1)[0]]
    nearest = _squared_distances(values, squares, centres[:1])[:, 0]
    for k in range(1, components):
        if (nearest * weight).sum() <= 0:
            raise UserError(f"{k} distinct rows, but {components} components: lower n_components")
        candidates = values[_drawn(nearest * weight, generator, trials)]
        closer = np.minimum(nearest[:, None], _squared_distances(values, squares, candidates))
        best = int(np.argmin((closer * weight[:, None]).sum(axis=0)))
        centres[k], nearest = candidates[best], closer[:, best]
    return centres


def _drawn(masses: np.ndarray, generator: np.random.Generator, size: int) -> np.ndarray:
    """Numbers drawn with probability proportional to `masses`."""
    running = np.cumsum(masses)
    drawn = np.searchsorted(running, generator.random(size) * running[-1], side="right")
    # rounding may carry a draw past the last mass above 0
    return np.minimum(drawn, np.flatnonzero(masses)[-1])


def _squared_distances(values: np.ndarray, squares: np.ndarray, centres: np.ndarray) -> np.ndarray:
    distances = squares[:, None] - 2 * values @ centres.T + np.einsum("kd,kd->k", centres, centres)
    # rounding leaves a centre a hair away from itself; it must not be drawn twice
    distances[distances < 1e-13 * (squares.max() + 1e-300)] = 0.0
    return distances


def centres_of(
    start: Start, rows: Rows, scale: np.ndarray, components: int, seeds: list[int]
) -> np.ndarray:
    """Start centres (R, K, d) relative to the shift, one restart per seed.

    Distances are measured after division by `scale` (d,), the columns' standard deviations, so
    that units do not matter.
    """
    from kexue_cli.tasks.em.kmeans import lloyd

    found = []
    for seed in seeds:
        generator = np.random.default_rng(seed)
        values, weights = sampled(rows, generator)
        values /= scale
        if start == "points":
            distinct = np.unique(values, axis=0)
            if len(distinct) < components:
                raise UserError(f"fewer distinct rows than n_components={components}")
            centres = distinct[generator.choice(len(distinct), size=components, replace=False)]
        else:
            centres = plus_plus(values, components, generator, weights)
        if start == "k-means":
            weighted = Rows(values, np.zeros(values.shape[1]), weights)
            centres = lloyd(weighted, centres, max_iter=50).centres
        found.append(centres * scale)
    return np.stack(found)


def nearest_centre(
    centres: np.ndarray, scale: np.ndarray, second: tuple[int, ...] | None
) -> Natural:
    """Natural parameters whose hard E-step gives each row to its nearest centre."""
    weighted = centres / scale**2
    constant = -0.5 * np.sum(weighted * centres, axis=2)
    shape = constant.shape
    quadratic = None if second is None else np.zeros((*shape, *second))
    return Natural(constant, weighted, quadratic, np.zeros(len(centres)))


def start_parameters(
    start: Start,
    family: Family,
    rows: Rows,
    engine: Engine,
    seeds: list[int],
    given: np.ndarray | None = None,
    scale: np.ndarray | None = None,
) -> Parameters:
    """Parameters of R restarts after one M-step from the start's responsibilities.

    Args:
        given: (K, d) start means in the units of the data, for start="given".
    """
    if rows.gaps == "hidden":
        rows = replace(rows, gaps="filled")
    scale = np.ones(family.columns) if scale is None else scale
    if start == "random":
        sums = _random_partition(family, rows, engine, seeds)
        return family.maximise(sums)
    if start == "given":
        if given is None or given.shape != (family.n_components, family.columns):
            found = "none" if given is None else f"shape {given.shape}"
            raise UserError(
                f"start=given needs means of shape ({family.n_components}, {family.columns}), "
                f"found {found}: set model.start_means to a .csv or .npy file"
            )
        centres = (given - rows.shift)[None]
    else:
        centres = centres_of(start, rows, scale, family.n_components, seeds)
    if rows.labels is not None:
        _anchor(centres, rows)
    parameters = family.from_centres(centres, None if start == "given" else lambda: _mean_row(rows))
    if parameters is not None:
        return parameters
    natural = nearest_centre(centres, scale, family.second_shape())
    return family.maximise(engine.expectation(rows, natural, "hard"))


def _mean_row(rows: Rows) -> np.ndarray:
    """Mean of the centred rows, (d,)."""
    if rows.weights is None:
        mean = rows.values.mean(axis=0)
    else:
        mean = rows.values.T @ rows.weights / rows.total_weight
    centred: np.ndarray = np.asarray(mean, dtype=np.float64).ravel() - rows.shift
    return centred


def _anchor(centres: np.ndarray, rows: Rows) -> None:
    """Put the centres of components with labelled rows on the means of those, in place."""
    assert rows.labels is not None
    for k in np.unique(rows.labels[rows.labels >= 0]):
        chosen = rows.labels == k
        y = np.asarray(rows.values[chosen], dtype=np.float64) - rows.shift
        weight = np.ones(len(y)) if rows.weights is None else rows.weights[chosen]
        counted = weight @ ~np.isnan(y)
        if counted.max() > 0:
            centres[:, k] = weight @ np.nan_to_num(y, nan=0.0) / np.maximum(counted, 1e-300)


def _random_partition(family: Family, rows: Rows, engine: Engine, seeds: list[int]) -> Statistics:
    shape = (len(seeds), family.n_components)
    second = family.second_shape()
    quadratic = None if second is None else np.zeros((*shape, *second))
    natural = Natural(
        np.zeros(shape), np.zeros((*shape, family.columns)), quadratic, np.zeros(len(seeds))
    )
    return engine.expectation(rows, natural, "stochastic", noise_seed=tuple(seeds))


def start_means(path: str | None) -> np.ndarray | None:
    """Start means (K, d) of a .csv (with or without header) or .npy file."""
    if path is None:
        return None
    file = Path(path)
    if not file.is_file():
        raise UserError(f"model.start_means={path}: no such file")
    try:
        if file.suffix == ".npy":
            return np.asarray(load_array(file), dtype=np.float64)
        first = file.read_text(encoding="utf-8-sig").splitlines()[0]
        header = any(not is_number(cell) for cell in first.split(","))
        return np.loadtxt(file, delimiter=",", skiprows=int(header), ndmin=2, encoding="utf-8-sig")
    except (*FAILURES, IndexError) as error:
        raise UserError(f"model.start_means={path}: expected rows of numbers ({error})") from error

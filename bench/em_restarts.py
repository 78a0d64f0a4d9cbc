"""Ten restarts of a Gaussian mixture against one.

python bench/em_restarts.py                  whole fits, as a user runs them
python bench/em_restarts.py --batch          an iteration of all ten, none dropped
python bench/em_restarts.py --sizes 5000x16x8 --kinds full,diag --alone 5 --threads 2
                                             rows x columns x components; fits of one restart
                                             whose mean is the cost of one
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from em_speed import (  # type: ignore[import-not-found]
    MODELS,
    clusters,
    drop_blas_settings,
    family_of,
    machine,
    ours,
    per_iteration,
)

Size = tuple[int, int, int]  # rows, columns, components


def restarts(sizes: list[Size], kinds: list[str], alone: int, threads: int) -> None:
    """Ten restarts against one: whole fits as a user runs them."""
    print(f"Ten restarts against one (goal below 6x), whole fits, {threads} thread(s)")
    for size in sizes:
        for kind in kinds:
            print(whole_fits(size, kind, alone, threads), flush=True)


def batch(sizes: list[Size], kinds: list[str], threads: int) -> None:
    """An iteration of ten restarts as one batch, none dropped, against an iteration of one."""
    print(f"An iteration of all ten against one, {threads} thread(s)")
    for rows, columns, components in sizes:
        values = clusters(rows, columns, components)
        draw = np.random.default_rng(2)
        means = np.stack([values[draw.choice(rows, components, replace=False)] for _ in range(10)])
        for kind in kinds:
            long = 5 if rows > 10_000 else 60
            one, ten = (
                per_iteration(ours(values, MODELS[kind], m, threads), 1, long, threads)
                for m in (means[:1], means)
            )
            print(
                f"{rows} x {columns}, K={components} {kind:9s} one {one:.5f} s, ten {ten:.5f} s, "
                f"{ten / one:.1f}x",
                flush=True,
            )


def whole_fits(size: Size, kind: str, alone: int, threads: int) -> str:
    """Processor time of n_init=10 over that of n_init=1 until an iteration gains less than 1e-4
    nats, on clusters that overlap; one is the mean of the first `alone` seeds.
    """
    from kexue_cli.tasks.em.engine import Engine
    from kexue_cli.tasks.em.fitting import Settings, fit_mixture
    from kexue_cli.tasks.em.mixture_models import races
    from kexue_cli.tasks.em.rows import Rows

    rows, columns, components = size
    values = clusters(rows, columns, components, apart=1.0)
    family = family_of(values, MODELS[kind], components)
    data = Rows(values, values.mean(axis=0))
    race = races(data, components)
    settings = Settings(race=race, scale=values.std(axis=0), tol=1e-4)

    def timed(seeds: list[int]) -> tuple[float, float]:
        start = time.process_time()
        outcome = fit_mixture(family, data, Engine(threads=threads), settings, seeds)
        return time.process_time() - start, outcome.log_likelihood

    timed([0])
    singles = [timed([seed]) for seed in range(alone)]
    ten, reached = timed(list(range(10)))
    one = float(np.mean([seconds for seconds, _ in singles]))
    short = max(likelihood for _, likelihood in singles) - reached
    return (
        f"{rows} x {columns}, K={components} {kind:9s} one {one:.3f} s, ten {ten:.3f} s, "
        f"{ten / one:.1f}x, {'raced' if race else 'all to their end'}, {short:.2g} nats below the "
        f"best of {alone} alone"
    )


def parsed_size(text: str) -> Size:
    rows, columns, components = (int(number) for number in text.split("x"))
    return rows, columns, components


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", action="store_true")
    parser.add_argument("--sizes", default="100000x32x16,10000x4x4,5000x16x8,150x4x3")
    parser.add_argument("--kinds", default=",".join(MODELS))
    parser.add_argument("--alone", type=int, default=10)
    arguments = parser.parse_args()
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    warnings.simplefilter("ignore")
    print(machine())
    sizes = [parsed_size(text) for text in arguments.sizes.split(",")]
    kinds = arguments.kinds.split(",")
    with threadpool_limits(arguments.threads):
        if arguments.batch:
            batch(sizes, kinds, arguments.threads)
        else:
            restarts(sizes, kinds, arguments.alone, arguments.threads)


if __name__ == "__main__":
    drop_blas_settings()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    os.environ["PYTHONPATH"] = sys.path[0]
    main()

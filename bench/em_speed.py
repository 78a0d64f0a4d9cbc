"""Our EM against scikit-learn's, side by side: same data, start, iterations and threads.

    python bench/em_speed.py                     all tables, one thread
    python bench/em_speed.py --threads 2
    python bench/em_speed.py --only full,kmeans  some of: full, tied, diag, spherical, kmeans,
                                                 memory, growth (em_growth.png)

scikit-learn's time per iteration is the difference between two fits of different length, so that
its start and last E-step do not count; so is ours. Both compute in float64 (K-Means in float32). On
one thread the clock is the process's own, which other work on the machine disturbs least.
Every pair of likelihoods is compared, too: a fast wrong answer would show.
OPENBLAS_CORETYPE and the like are dropped, so that scikit-learn gets the best kernels for this CPU.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROWS, COLUMNS, COMPONENTS = 100_000, 32, 16
MODELS = {"full": "VVV", "tied": "EEE", "diag": "VVI", "spherical": "VII"}
GOALS = {"full": 5.0, "tied": 8.0, "diag": 2.5, "spherical": 2.5, "kmeans": 1.3}


def clusters(
    rows: int, columns: int, components: int, seed: int = 0, apart: float = 2.0
) -> np.ndarray:
    """Unit Gaussians whose centres have standard deviation `apart` in every direction."""
    generator = np.random.default_rng(seed)
    centres = apart * generator.normal(size=(components, columns))
    return centres[generator.integers(components, size=rows)] + generator.normal(
        size=(rows, columns)
    )


def per_iteration(
    run: Callable[[int], object], short: int, long: int, threads: int, repeats: int = 3
) -> float:
    """Median over repeats of (time of `long` iterations - time of `short`) / difference, s."""
    run(1)
    found = []
    clock = time.process_time if threads == 1 else time.perf_counter
    for _ in range(repeats):
        times = []
        for iterations in (short, long):
            start = clock()
            run(iterations)
            times.append(clock() - start)
        found.append((times[1] - times[0]) / (long - short))
    return float(np.median(found))


def family_of(values: np.ndarray, model: str, components: int, prior: float = 1e-6) -> Any:
    """Our Gaussian family for these rows."""
    from kexue_cli.tasks.em.covariance import AXIS_PARALLEL
    from kexue_cli.tasks.em.gaussian import GaussianMixture
    from kexue_cli.tasks.em.models import total_scatter
    from kexue_cli.tasks.em.rows import Rows

    scatter = total_scatter(Rows(values, values.mean(axis=0)))
    variances = np.diag(scatter) / len(values)
    scatter = np.diag(scatter) if model in AXIS_PARALLEL else scatter
    return GaussianMixture(model, components, scatter, variances, prior=prior)


def ours(values: np.ndarray, model: str, means: np.ndarray, threads: int) -> Callable[[int], float]:
    """A function from iterations to the log-likelihood per row, from these means (R, K, d)."""
    from kexue_cli.tasks.em.covariance import AXIS_PARALLEL
    from kexue_cli.tasks.em.engine import Engine
    from kexue_cli.tasks.em.fitting import expectation_of
    from kexue_cli.tasks.em.iterate import Iteration, iterate
    from kexue_cli.tasks.em.rows import Rows

    rows = Rows(values, values.mean(axis=0))
    family = family_of(values, model, means.shape[1], prior=0.0)
    shape = means.shape[:2]
    deviations = np.ones((*shape, means.shape[2]))
    covariances = (
        deviations if model in AXIS_PARALLEL else deviations[..., None] * np.eye(means.shape[2])
    )
    start = {
        "weights": np.full(shape, 1.0 / shape[1]),
        "means": means - rows.shift,
        "covariances": covariances,
    }
    engine = Engine(threads=threads)

    def run(iterations: int) -> float:
        how = Iteration(max_iter=iterations, tol=0.0)
        fit = iterate(family, expectation_of(rows, engine), start, how)
        return float(fit.log_likelihood[0]) / len(values)

    return run


def theirs(values: np.ndarray, kind: str, means: np.ndarray) -> Callable[[int], float]:
    from sklearn.mixture import GaussianMixture

    components, columns = means.shape
    unit = {
        "full": np.tile(np.eye(columns), (components, 1, 1)),
        "tied": np.eye(columns),
        "diag": np.ones((components, columns)),
        "spherical": np.ones(components),
    }[kind]

    def run(iterations: int) -> float:
        mixture = GaussianMixture(
            components,
            covariance_type=kind,
            tol=0.0,
            reg_covar=0.0,
            max_iter=iterations,
            weights_init=np.full(components, 1.0 / components),
            means_init=means,
            precisions_init=unit,
        )
        return (
            float(mixture.fit(values).score(values)) if iterations == 5 else _fit(mixture, values)
        )

    return run


def _fit(mixture: object, values: np.ndarray) -> float:
    mixture.fit(values)  # type: ignore[attr-defined]
    return 0.0


def mixtures(kinds: list[str], threads: int) -> None:
    values = clusters(ROWS, COLUMNS, COMPONENTS)
    means = values[:COMPONENTS]
    print(f"Gaussian mixtures, {ROWS} x {COLUMNS}, K={COMPONENTS}, float64, {threads} thread(s)")
    print("kind       sklearn s/it  ours s/it   ratio   goal   difference of log-lik. per row")
    for kind in kinds:
        us, them = ours(values, MODELS[kind], means[None], threads), theirs(values, kind, means)
        difference = us(5) - them(5)
        slow = per_iteration(them, 2, 6, threads)
        fast = per_iteration(us, 2, 10 if kind == "full" else 22, threads)
        print(
            f"{kind:10s} {slow:11.4f} {fast:11.4f} {slow / fast:7.1f}x {GOALS[kind]:5.1f}x"
            f"   {difference:.1e}"
        )
        if kind == "full":
            features = 1 + COLUMNS + COLUMNS * (COLUMNS + 1) // 2
            flop = 4.0 * ROWS * features * COMPONENTS
            peak = peak_flops()
            print(
                f"           {flop / 1e9:.2f} GFLOP per iteration with symmetric features: "
                f"{flop / fast / 1e9:.1f} GFLOP/s of {peak / 1e9:.1f} in a large product"
            )


def peak_flops() -> float:
    """What one thread reaches in a large float64 product."""
    a = np.random.default_rng(0).normal(size=(1500, 1500))
    a @ a
    times = []
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return 2 * 1500.0**3 / min(times)


def kmeans(threads: int) -> None:
    rows, columns, components = 200_000, 64, 64
    shape = f"{rows} x {columns}, K={components}"
    print(f"K-Means, {shape}, float32, {threads} thread(s), iterations 2 to 9")
    values = clusters(rows, columns, components).astype(np.float32)
    _kmeans_pair("clustered", values, components, threads)
    values = np.random.default_rng(0).standard_normal((rows, columns), dtype=np.float32)
    _kmeans_pair("structureless", values, components, threads)


def _kmeans_pair(name: str, values: np.ndarray, components: int, threads: int) -> None:
    from sklearn.cluster import KMeans

    from kexue_cli.tasks.em.engine import Engine
    from kexue_cli.tasks.em.kmeans import lloyd
    from kexue_cli.tasks.em.rows import Rows

    start = np.random.default_rng(1).permutation(values)[:components]
    shift = values.mean(axis=0, dtype=np.float64)
    engine = Engine(threads=threads)

    def us(iterations: int) -> float:
        return lloyd(Rows(values, shift), start - shift, iterations, engine=engine).inertia

    def them(iterations: int) -> float:
        fit = KMeans(components, init=start, n_init=1, max_iter=iterations, tol=0.0)
        return float(fit.fit(values).inertia_)

    difference = us(9) / them(9) - 1
    slow, fast = (per_iteration(run, 1, 9, threads, repeats=7) for run in (them, us))
    print(
        f"{name:14s} sklearn {slow:.4f} s/it, ours {fast:.4f}, ratio {slow / fast:.2f}x (goal "
        f"{GOALS['kmeans']}x), relative difference of inertia {difference:.1e}"
    )


def memory() -> None:
    """Peak memory above the data, each in a process of its own."""
    print(f"Peak memory beside the data, {ROWS * 4} x {COLUMNS}, K={COMPONENTS}")
    for kind in MODELS:
        found = [_peak(kind, who) for who in ("sklearn", "ours")]
        print(
            f"{kind:10s} sklearn {found[0] / 1e6:7.1f} MB, ours {found[1] / 1e6:6.1f} MB, "
            f"{found[1] / found[0]:.2f} of it (goal 0.25)"
        )


def _peak(kind: str, who: str) -> float:
    command = [sys.executable, __file__, "--peak", kind, who]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def measure_peak(kind: str, who: str) -> None:
    """Print bytes of resident memory that two iterations add to those before, at their peak."""
    values = clusters(ROWS * 4, COLUMNS, COMPONENTS)
    means = values[:COMPONENTS]

    def two_iterations(part: np.ndarray) -> None:
        if who == "sklearn":
            theirs(part, kind, means)(2)
        else:
            ours(part, MODELS[kind], means[None], 1)(2)

    two_iterations(values[:20_000].copy())  # loads libraries and compiled code, which do not count
    _reset_peak()
    before = _status("VmRSS")
    two_iterations(values)
    print(_status("VmHWM") - before)


def _reset_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _status(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return float(line.split()[1]) * 1024
    return 0.0


def growth(threads: int) -> None:
    """Time per iteration over n, d and K, with a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    base = {"n": 40_000, "d": 16, "K": 8}
    sweeps = {"n": [10_000, 40_000, 160_000], "d": [4, 8, 16, 32, 64], "K": [2, 4, 8, 16, 32, 64]}
    figure = Figure(figsize=(12, 4), layout="constrained")
    for axis, (name, sizes) in zip(figure.subplots(1, 3), sweeps.items(), strict=True):
        for kind, model in MODELS.items():
            times = []
            for size in sizes:
                n, d, k = (base | {name: size}).values()
                values = clusters(n, d, k)
                run = ours(values, model, values[None, :k], threads)
                times.append(per_iteration(run, 1, 9, threads))
            print(
                f"{kind} over {name}: "
                + ", ".join(f"{s}: {t * 1e3:.1f} ms" for s, t in zip(sizes, times, strict=True))
            )
            axis.plot(sizes, times, marker="o", label=kind)
        axis.set(xscale="log", yscale="log", xlabel=name, ylabel="s per iteration")
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.minorticks_off()
    axis.legend()
    figure.suptitle(f"n={base['n']}, d={base['d']}, K={base['K']}, one of them varied")
    figure.savefig("em_growth.png", dpi=120)
    print("em_growth.png")


def machine() -> str:
    """The CPU, and what OpenBLAS takes it for."""
    from threadpoolctl import threadpool_info  # type: ignore[import-untyped]

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")
    blas = {info["architecture"] for info in threadpool_info() if "architecture" in info}
    return f"{cpu}, {os.cpu_count()} cores; BLAS kernels for {', '.join(sorted(blas))}"


def drop_blas_settings() -> None:
    """Start again without the variables that choose slower kernels for the peer."""
    names = [name for name in os.environ if name.startswith(("OPENBLAS_CORE", "OPENBLAS_L2"))]
    if names:
        rest = {name: value for name, value in os.environ.items() if name not in names}
        os.execve(sys.executable, [sys.executable, *sys.argv], rest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    everything = "full,tied,diag,spherical,kmeans,memory,growth"
    parser.add_argument("--only", default=everything)
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        measure_peak(*arguments.peak)
        return
    from threadpoolctl import threadpool_limits

    warnings.simplefilter("ignore")
    print(machine())
    chosen = arguments.only.split(",")
    with threadpool_limits(arguments.threads):
        kinds = [kind for kind in MODELS if kind in chosen]
        if kinds:
            mixtures(kinds, arguments.threads)
        if "kmeans" in chosen:
            kmeans(arguments.threads)
        if "memory" in chosen:
            memory()
        if "growth" in chosen:
            growth(arguments.threads)


if __name__ == "__main__":
    drop_blas_settings()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    os.environ["PYTHONPATH"] = sys.path[0]
    main()

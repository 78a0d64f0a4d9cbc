"""Reading the contest's text files: our one-time conversion against the usual ways, spectra/s.

    python bench/lamost_convert.py [--files 4000] [--repeats 3] [--threads 2]

Sides, all over the same files written here into a temporary folder:
  numpy     numpy.loadtxt of each file
  json      the kexue.fm post's way: each file of a batch read and parsed as JSON, in every epoch
  ours      `tianchi.convert_text` from a folder and from a zip into an empty cache
  map       batches gathered from the finished conversion, what an epoch costs afterwards
The slower sides read fewer files; sides take turns, and medians are printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kexue_cli.run.console import Console
from kexue_cli.tasks.lamost.normalise import Normalisation
from kexue_cli.tasks.lamost.synthetic_spectra import simulate
from kexue_cli.tasks.lamost.text_files import list_text_files
from kexue_cli.tasks.lamost.tianchi import convert_text

LENGTH = 2600
BATCH = 160
PEER_SHARE = 0.1  # of the files, for the slow sides


def write_files(folder: Path, n: int) -> None:
    """Simulated spectra with three decimals, one file each."""
    distinct, _ = simulate(np.array([180, 14, 4, 2]), LENGTH, np.random.default_rng(0))
    texts = [",".join(f"{value:.3f}" for value in row) for row in distinct]
    folder.mkdir()
    for number in range(n):
        (folder / f"{100_000 + number}.txt").write_text(texts[number % len(texts)])


def pack(folder: Path, path: Path) -> None:
    """The folder as a deflated zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)


def with_numpy(files: list[Path]) -> int:
    for file in files:
        np.loadtxt(file, delimiter=",", dtype=np.float32)
    return len(files)


def with_json(files: list[Path]) -> int:
    for start in range(0, len(files), BATCH):
        batch = files[start : start + BATCH]
        np.array([json.loads(f"[{file.read_text()}]") for file in batch]) / 100
    return len(files)


def with_us(place: Path, threads: int) -> int:
    with tempfile.TemporaryDirectory() as cache:
        listing = list_text_files((place,))
        convert_text(listing, LENGTH, Path(cache), Console(quiet=True), threads)
    return len(listing.ids)


def gather(flux: np.ndarray, order: np.ndarray) -> int:
    normalise = Normalisation()
    for start in range(0, len(order), BATCH):
        normalise(flux[order[start : start + BATCH]])
    return len(order)


def measure(sides: dict[str, Callable[[], int]], repeats: int) -> dict[str, float]:
    """Median spectra/s of each side, the sides taking turns."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            start = time.perf_counter()
            n = run()
            rates[name].append(n / (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, archive = Path(temporary, "spectra"), Path(temporary, "spectra.zip")
        write_files(folder, arguments.files)
        pack(folder, archive)
        files = sorted(folder.iterdir())
        few = files[: max(BATCH, int(PEER_SHARE * len(files)))]
        cache, quiet = Path(temporary, "cache"), Console(quiet=True)
        done = convert_text(list_text_files((folder,)), LENGTH, cache, quiet)  # compiles, warms
        order = np.random.default_rng(0).permutation(len(files))
        threads = arguments.threads
        rates = measure(
            {
                "numpy.loadtxt": lambda: with_numpy(few),
                "json per file": lambda: with_json(few),
                "ours, folder, 1 thread": lambda: with_us(folder, 1),
                f"ours, folder, {threads} threads": lambda: with_us(folder, threads),
                f"ours, zip, {threads} threads": lambda: with_us(archive, threads),
                "map, later epochs": lambda: gather(done.flux, order),
            },
            arguments.repeats,
        )
    faster_peer = max(rates["numpy.loadtxt"], rates["json per file"])
    for name, rate in rates.items():
        print(f"{name:26s} {rate:10,.0f} spectra/s   {rate / faster_peer:6.1f} x the faster peer")
    minutes = 483_851 / rates[f"ours, folder, {threads} threads"] / 60
    print(f"the contest's 483,851 files: {minutes:.1f} minutes")


if __name__ == "__main__":
    main()

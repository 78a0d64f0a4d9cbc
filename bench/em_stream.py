"""A table larger than memory has to be: the run's memory over the size of the file it streams.

    python bench/em_stream.py                          10 million x 32 in float64, 2.6 GB on disk
    python bench/em_stream.py --rows 1000000 --covariance full

Writes the rows to a temporary folder (which needs the room), runs `kexue-run task=em data=table` on
a tenth of them and on all of them, and prints the most memory that each run held. Anonymous memory
is what the program allocated; the rest is the file's pages and libraries.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

COLUMNS, COMPONENTS, BLOCK = 32, 16, 100_000


def write_rows(path: Path, rows: int) -> None:
    """Unit Gaussians around COMPONENTS centres, block by block."""
    generator = np.random.default_rng(0)
    centres = 2.0 * generator.standard_normal((COMPONENTS, COLUMNS))
    with path.open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (rows, COLUMNS)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, rows, BLOCK):
            size = min(BLOCK, rows - start)
            block = generator.standard_normal((size, COLUMNS))
            block += centres[generator.integers(COMPONENTS, size=size)]
            file.write(block.tobytes())


def peak_memory(words: list[str]) -> tuple[dict[str, float], float]:
    """Largest anonymous and whole resident memory of a run, bytes, sampled at 10 Hz; seconds."""
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    peak = {"RssAnon": 0.0, "VmRSS": 0.0}
    while process.poll() is None:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        for key in peak:
            found = [float(line.split()[1]) * 1024 for line in lines if line.startswith(key)]
            peak[key] = max([peak[key], *found])
        time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} failed")
    return peak, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--covariance", default="diag")
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--folder", default=None, help="where to put the file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        needed, free = arguments.rows * COLUMNS * 8 * 1.2, shutil.disk_usage(folder).free
        if free < needed:
            raise SystemExit(f"{folder}: {free / 1e9:.1f} GB free, {needed / 1e9:.1f} GB needed")
        for rows in (arguments.rows // 10, arguments.rows):
            path = Path(folder) / "rows.npy"
            write_rows(path, rows)
            peak, seconds = peak_memory(
                [
                    *(sys.executable, "-m", "kexue_cli", "task=em", "data=table"),
                    *(f"data.path={path}", f"run_dir={folder}/run_{rows}", "model.n_init=1"),
                    *(f"model.n_components={COMPONENTS}", "task.plots=false"),
                    "task.max_predictions=0",
                    f"model.covariance={arguments.covariance}",
                    f"model.max_iter={arguments.iterations}",
                ]
            )
            print(
                f"{rows} x {COLUMNS} ({path.stat().st_size / 1e6:.0f} MB), K={COMPONENTS} "
                f"{arguments.covariance}, {arguments.iterations} iterations: anonymous memory "
                f"{peak['RssAnon'] / 1e6:.0f} MB, resident {peak['VmRSS'] / 1e6:.0f} MB, "
                f"{seconds:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()

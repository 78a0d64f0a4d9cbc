"""The IWAE table's cells as one batched model against the same cells one after the other.

    python bench/vae_cells.py [--seeds 3] [--threads 2] [--k 1 5 50]

Each side is timed in turns in this process: a training step of batch 20 of Burda et al.'s network
with Adam. "Separate" is the same code with one cell per model, so the ratio is what batching alone
gives. The floor is the arithmetic of the matrix products at the rate of one large product here.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import torch

from kexue_cli.tasks.vae.builders import Images, iwae_mlp
from kexue_cli.tasks.vae.model import Vae
from kexue_cli.tasks.vae.objectives import vae_or_iwae

BATCH = 20
DECODER = 50 * 200 + 200 * 200 + 200 * 784
ENCODER = 784 * 200 + 200 * 200 + 2 * 200 * 50


def network(cells: int) -> Vae:
    """Burda et al.'s one-layer network, that many cells."""
    generators = [torch.Generator().manual_seed(cell) for cell in range(cells)]
    images = Images((28, 28), 256, 0, np.full(784, 0.13))
    return iwae_mlp(images, generators, 1, 50, [200, 200], 0, 0, False).use_native()


def stepper(cells: int, k: int) -> Callable[[], None]:
    """One training step of a model of that many cells, half VAE and half IWAE."""
    model = network(cells)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, eps=1e-4, fused=True)
    x = (torch.rand(1, BATCH, 784) > 0.8).float()
    iwae = (torch.arange(cells) % 2 == 1).unsqueeze(1)

    def step() -> None:
        loss = -vae_or_iwae(model(x, None, k), iwae).sum() / BATCH
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def seconds_of(call: Callable[[], None]) -> float:
    """Duration of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def flop_rate() -> float:
    """Multiplications and additions per second of one large product."""
    a = torch.rand(1500, 1500)
    best = min(seconds_of(lambda: _product(a)) for _ in range(5))
    return 2 * 1500**3 / best


def _product(a: torch.Tensor) -> None:
    torch.mm(a, a)


def main() -> None:
    """Time both sides for every k and print the ratio of medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--k", type=int, nargs="+", default=[1, 5, 50])
    parser.add_argument("--turns", type=int, default=15)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rate = flop_rate()
    for k in given.k:
        cells = 2 * given.seeds
        together, alone = stepper(cells, k), stepper(1, k)
        for step in (together, alone):
            step()
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(given.turns):
            times[0].append(seconds_of(together))
            times[1].append(seconds_of(alone))
        batched, single = (statistics.median(side) * 1e3 for side in times)
        floor = cells * 6 * BATCH * (k * DECODER + ENCODER) / rate * 1e3
        print(
            f"k={k}, {cells} cells, {given.threads} thread(s): one batched step {batched:.2f} ms, "
            f"{cells} separate {cells * single:.2f} ms, ratio {cells * single / batched:.2f}; "
            f"floor of the arithmetic {floor:.2f} ms",
            flush=True,
        )


if __name__ == "__main__":
    main()

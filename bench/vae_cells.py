"""The IWAE table's cells as one batched model against the same cells one after the other.

    python bench/vae_cells.py [--seeds 3] [--threads 2] [--k 1 5 50] [--precision bf16]

The sides take turns in this process, ten steps in a row each: a training step of batch 20 of Burda
et al.'s network with Adam. The batched model runs on the compiled kernels in the precision asked
for; "separate" is one cell per model, once by the same kernels (the ratio is what batching alone
gives) and once by plain torch in float32 (what separate runs cost without any of this). The floor
is the arithmetic of the matrix products at the rate of one large float32 product here.
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

from kexue_cli.native.memory import keep_freed_memory
from kexue_cli.tasks.vae.builders import Images, iwae_mlp
from kexue_cli.tasks.vae.model import Vae
from kexue_cli.tasks.vae.objectives import vae_or_iwae
from kexue_cli.train.native_adam import NativeAdam

BATCH = 20
WARMING = 3  # steps
DECODER = 50 * 200 + 200 * 200 + 200 * 784
ENCODER = 784 * 200 + 200 * 200 + 2 * 200 * 50


def network(cells: int, native: bool = True) -> Vae:
    """Burda et al.'s one-layer network, that many cells."""
    generators = [torch.Generator().manual_seed(cell) for cell in range(cells)]
    images = Images((28, 28), 256, 0, np.full(784, 0.13))
    return iwae_mlp(images, generators, 1, 50, [200, 200], 0, 0, False).use_native(native)


def stepper(cells: int, k: int, native: bool, bfloat16: bool) -> Callable[[], None]:
    """One training step of a model of that many cells, half VAE and half IWAE."""
    model = network(cells, native)
    adam = NativeAdam if native else torch.optim.Adam
    optimizer = adam(model.parameters(), 1e-3, eps=1e-4, fused=True)
    x = (torch.rand(1, BATCH, 784) > 0.8).float()
    iwae = (torch.arange(cells) % 2 == 1).unsqueeze(1)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
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


def turn_of(step: Callable[[], None], steps: int) -> list[float]:
    """Milliseconds of each of that many steps in a row.

    The first ones are left out: they fetch what the other sides have driven out of the cache,
    which a run by itself does once.
    """
    times = [seconds_of(step) * 1e3 for _ in range(steps + WARMING)]
    return times[WARMING:]


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
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--steps", type=int, default=10, help="of each side in a turn")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    torch.set_flush_denormal(True)
    rate = flop_rate()
    cells, bfloat16 = 2 * given.seeds, given.precision == "bf16"
    for k in given.k:
        sides = {
            "batched": stepper(cells, k, True, bfloat16),
            "separate": stepper(1, k, True, bfloat16),
            "separate, plain torch": stepper(1, k, False, False),
        }
        times: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(given.turns):
            for name, step in sides.items():
                times[name] += turn_of(step, given.steps)
        median = {
            name: statistics.median(values) * (1 if name == "batched" else cells)
            for name, values in times.items()
        }
        floor = cells * 6 * BATCH * (k * DECODER + ENCODER) / rate * 1e3
        against = ", ".join(
            f"{name} {value:.2f} ms (ratio {value / median['batched']:.2f})"
            for name, value in median.items()
            if name != "batched"
        )
        print(
            f"k={k}, {cells} cells, {given.threads} thread(s), {given.precision}: batched "
            f"{median['batched']:.2f} ms, {against}; float32 floor {floor:.2f} ms",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""Spectra per second of model=conv1d_res against the Keras original, both in one run.

    python bench/lamost_speed.py --keras peer/bin/python --threads 1 2

`peer` is an environment with tensorflow-cpu 2.15 (see lamost_keras_peer.py); without --keras only
our own engines are compared. Each figure is a median; one batch of 160 spectra of 2600 points is
trained (forward, backward, Adam) or predicted at a time. Both sides get the same weights and the
same flux, and the probabilities they give are compared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from kexue_cli.tasks.lamost.conv1d_res import Conv1dRes
from kexue_cli.tasks.lamost.keras_weights import save_keras_weights
from kexue_cli.train.keras_adam import KerasAdam

LENGTH, N_CLASSES = 2600, 4
GFLOP_FORWARD = 0.126  # multiplications and additions of one spectrum


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keras", type=Path, help="python of an environment with tensorflow")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--batch", type=int, default=160)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each figure")
    parser.add_argument("--engines", nargs="+", default=["native", "plain"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.npz"
        torch.manual_seed(0)
        save_keras_weights(Conv1dRes(LENGTH, N_CLASSES), weights)
        for threads in options.threads:
            compare(options, threads, weights)


def compare(options: argparse.Namespace, threads: int, weights: Path) -> None:
    """One table of both sides with this number of threads."""
    print(f"\n{threads} thread(s), batch {options.batch}, spectra/s (times the Keras figure)")
    print(f"{'':28}{'train':>16}{'predict':>16}{'GFLOP/s':>10}")
    keras = keras_rates(options, threads, weights) if options.keras else None
    if keras is not None:
        show(f"Keras, TensorFlow {keras['version']}", keras, None)
    for engine in options.engines:
        for precision in ("float32", "bfloat16"):
            ours = our_rates(options, threads, weights, engine, precision)
            show(f"{engine} {precision}", ours, keras)


def keras_rates(options: argparse.Namespace, threads: int, weights: Path) -> dict[str, Any]:
    """What lamost_keras_peer.py prints."""
    peer = Path(__file__).with_name("lamost_keras_peer.py")
    numbers = [str(n) for n in (threads, options.batch, options.seconds)]
    command = [str(options.keras), str(peer), str(weights), *numbers]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"the Keras side failed:\n{result.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(result.stdout.strip().splitlines()[-1])
    return found


def our_rates(
    options: argparse.Namespace, threads: int, weights: Path, engine: str, precision: str
) -> dict[str, Any]:
    """The same measurements on our side."""
    from kexue_cli.tasks.lamost.keras_weights import load_keras_weights

    torch.set_num_threads(threads)
    model = Conv1dRes(LENGTH, N_CLASSES, engine=engine)
    load_keras_weights(model, weights)
    rng = np.random.default_rng(0)
    flux = torch.from_numpy(rng.normal(size=(options.batch, LENGTH)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(N_CLASSES, size=options.batch))
    optimizer = KerasAdam(model.parameters(), lr=1e-3, eps=1e-7, fused=True)

    def autocast() -> torch.autocast:
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16")

    def predict() -> torch.Tensor:
        model.eval()
        with torch.inference_mode(), autocast():
            return model(flux).float().softmax(dim=1)

    def train() -> None:
        model.train()
        with autocast():
            logits = model(flux)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    probabilities = predict()[:4].numpy()
    return {
        "predict": rate(predict, options.batch, options.seconds),
        "train": rate(train, options.batch, options.seconds),
        "probabilities": probabilities,
    }


def rate(work: Callable[[], object], items: int, seconds: float) -> float:
    """Items per second: the median of repetitions that fill `seconds`, after two to warm up."""
    for _ in range(2):
        work()
    times: list[float] = []
    while sum(times) < seconds or len(times) < 3:
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return items / float(np.median(times))


def show(name: str, found: dict[str, Any], keras: dict[str, Any] | None) -> None:
    """One row; GFLOP/s are those of the training step, three times the forward pass."""
    cells = []
    for kind in ("train", "predict"):
        ratio = "" if keras is None else f" ({found[kind] / keras[kind]:.2f}x)"
        cells.append(f"{found[kind]:.0f}{ratio}")
    flops = 3 * GFLOP_FORWARD * found["train"]
    off = ""
    if keras is not None:
        difference = np.abs(np.array(keras["probabilities"]) - found["probabilities"]).max()
        off = f"   probabilities off by {difference:.1e}"
    print(f"{name:28}{cells[0]:>16}{cells[1]:>16}{flops:>10.0f}{off}", flush=True)


if __name__ == "__main__":
    main()

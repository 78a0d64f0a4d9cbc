"""Passages per second of model=dgcnn_2019 against the Keras original, both in one run.

    python bench/dgcnn_speed.py --keras peer/bin/python --threads 1 2

`peer` is an environment with tensorflow-cpu 2.15 (see dgcnn_keras_peer.py); without --keras only
our side is measured. Each figure is a median; a batch of 128 questions of 20 characters with
passages of 256 is trained (forward, backward, RAdam, weight average) or predicted at a time. Both
sides get the same weights and inputs, and the scores they give are compared. Below that:
model=dgcnn, and the share of a training's time that goes into reading, cropping and padding.
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

from kexue_cli.config import OptimConfig
from kexue_cli.run.ranks import Ranks
from kexue_cli.tasks.dgcnn.batches import Batch, Batches
from kexue_cli.tasks.dgcnn.config_data import Elements
from kexue_cli.tasks.dgcnn.crops import Crop
from kexue_cli.tasks.dgcnn.dgcnn_2019 import Dgcnn2019
from kexue_cli.tasks.dgcnn.examples import Level
from kexue_cli.tasks.dgcnn.keras_weights import load_keras_weights, save_keras_weights
from kexue_cli.tasks.dgcnn.network import Network, rarity_of
from kexue_cli.tasks.dgcnn.questions import load
from kexue_cli.tasks.dgcnn.reader import Reader
from kexue_cli.tasks.dgcnn.training import reader_loss
from kexue_cli.train.ema import WeightAverage
from kexue_cli.train.optim import make_optimizers

N_CHARACTERS, QUESTION_LENGTH, WORD_WIDTH = 6002, 20, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keras", type=Path, help="python of an environment with tensorflow")
    parser.add_argument("--threads", type=int, nargs="+", default=[2])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each figure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights.npz"
        made = Dgcnn2019(N_CHARACTERS, WORD_WIDTH, generator=torch.Generator().manual_seed(0))
        save_keras_weights(made, weights)
        for threads in options.threads:
            compare(options, threads, weights)
        show_share_of_reading(Path(folder))


def compare(options: argparse.Namespace, threads: int, weights: Path) -> None:
    """One table of both sides with this number of threads."""
    print(
        f"\n{threads} thread(s), batch {options.batch}, passages of {options.length} characters/s"
    )
    print(f"{'':30}{'train':>18}{'predict':>18}")
    keras = keras_rates(options, threads, weights) if options.keras else None
    if keras is not None:
        show(f"Keras, TensorFlow {keras['version']}", keras, None)
    torch.set_num_threads(threads)
    for name in ("dgcnn_2019", "dgcnn"):
        for precision in (torch.float32, torch.bfloat16):
            ours = our_rates(options, weights, name, precision)
            show(f"{name} {str(precision).removeprefix('torch.')}", ours, keras)
            if keras is not None and name == "dgcnn_2019":
                apart = np.abs(np.array(keras["scores"]) - ours["scores"]).max()
                print(f"{'':30}scores differ by {apart:.1e}")


def keras_rates(options: argparse.Namespace, threads: int, weights: Path) -> dict[str, Any]:
    """What dgcnn_keras_peer.py prints."""
    peer = Path(__file__).with_name("dgcnn_keras_peer.py")
    numbers = [str(n) for n in (threads, options.batch, options.length, options.seconds)]
    command = [str(options.keras), str(peer), str(weights), *numbers]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"the Keras side failed:\n{result.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(result.stdout.strip().splitlines()[-1])
    return found


def same_inputs(batch: int, length: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Ids and word vectors as dgcnn_keras_peer.py draws them, and targets."""
    rng = np.random.default_rng(0)
    given = [
        rng.integers(1, N_CHARACTERS, size=(batch, QUESTION_LENGTH)),
        rng.normal(size=(batch, QUESTION_LENGTH, WORD_WIDTH)).astype(np.float32),
        rng.integers(1, N_CHARACTERS, size=(batch, length)),
        rng.normal(size=(batch, length, WORD_WIDTH)).astype(np.float32),
    ]
    targets = rng.random((batch, length, 2)) < 0.01
    return [torch.from_numpy(part) for part in given], torch.from_numpy(targets)


class GivenVectors(torch.nn.Module):
    """A reader under word vectors that are given instead of looked up."""

    def __init__(self, reader: torch.nn.Module, vectors: list[torch.Tensor]) -> None:
        super().__init__()
        self.reader, self.vectors = reader, vectors

    def forward(self, batch: Batch) -> Any:
        """Logits."""
        return self.reader(batch, *self.vectors)


def our_rates(
    options: argparse.Namespace, weights: Path, name: str, precision: torch.dtype
) -> dict[str, Any]:
    """The same measurements on our side."""
    if name == "dgcnn_2019":
        reader: torch.nn.Module = Dgcnn2019(N_CHARACTERS, WORD_WIDTH)
        load_keras_weights(reader, weights)  # type: ignore[arg-type]
    else:
        reader = Reader(N_CHARACTERS, WORD_WIDTH, rarity_of(N_CHARACTERS))
    (q, q_words, p, p_words), targets = same_inputs(options.batch, options.length)
    spans = torch.nonzero(targets[..., 0])
    spans = torch.cat([spans, spans[:, 1:]], dim=1)
    batch = Batch(q, q, p, p, torch.zeros(*p.shape, 8), spans)
    network = GivenVectors(reader, [q_words, p_words])
    (optimizer,) = make_optimizers(network, OptimConfig(name="keras_radam", eps=1e-7))
    average = WeightAverage(network, 0.9999, debiased=True)

    def train() -> None:
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            loss = reader_loss(network, batch)
        (loss.sum / loss.count).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update()

    def predict() -> Any:
        with (
            torch.inference_mode(),
            torch.autocast("cpu", precision, enabled=precision != torch.float32),
        ):
            return network(batch)

    network.eval()
    scores = torch.zeros(0)
    if name == "dgcnn_2019":
        scores = torch.stack(predict().scores(), dim=2)[:4]
    found = {"scores": scores.numpy(), "predict": rate(predict, options.batch, options.seconds)}
    network.train()
    return {**found, "train": rate(train, options.batch, options.seconds)}


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


def show(name: str, ours: dict[str, Any], keras: dict[str, Any] | None) -> None:
    """One line of the table."""
    parts = []
    for kind in ("train", "predict"):
        times = f" ({ours[kind] / keras[kind]:.2f}x)" if keras else ""
        parts.append(f"{ours[kind]:.0f}{times}")
    print(f"{name:30}{parts[0]:>18}{parts[1]:>18}", flush=True)


def show_share_of_reading(cache: Path) -> None:
    """Time in `Batches` against the time of whole training steps, on the embedded questions."""
    from omegaconf import OmegaConf

    from kexue_cli.run.console import Console

    cfg = OmegaConf.structured(Elements(n_questions=600, n_valid=50))
    began = time.perf_counter()
    sets = load(cfg, cache_dir=cache, console=Console(quiet=True))
    made = time.perf_counter() - began
    assert sets.train is not None
    n_characters = len(sets.vocabulary)
    reader = Reader(n_characters, WORD_WIDTH, rarity_of(n_characters))
    network = Network(reader, 1 + len(sets.words), WORD_WIDTH, None)
    (optimizer,) = make_optimizers(network, OptimConfig(name="adamw"))
    batches = Batches(
        sets.train,
        32,
        256,
        Crop.answer,
        Level.characters,
        0.0,
        0.0,
        0,
        Ranks(),
        torch.device("cpu"),
    )
    began = time.perf_counter()
    for _, batch in zip(range(48), batches(0), strict=False):
        with torch.autocast("cpu", torch.bfloat16):
            loss = reader_loss(network, batch)
        (loss.sum / loss.count).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    whole = time.perf_counter() - began
    n_passages = int(sets.train.n_passages().sum())
    print(
        f"\nwords, features, encoding: {n_passages / made:.0f} passages/s, once; of a training "
        f"{100 * batches.seconds / whole:.1f} % is reading, cropping and padding"
    )


if __name__ == "__main__":
    main()

"""Questions per second of model=dgcnn_2019 against the Keras original, both in one run.

    python bench/dgcnn_speed.py --keras peer/bin/python --threads 1 2 [--questions SogouQA.json]

`peer` is an environment with tensorflow-cpu 2.15 (see dgcnn_keras_peer.py); without --keras only
our side is measured. Each figure is a median over passes through some batches of 128 questions with
one passage each, trained (forward, backward, RAdam, weight average) or predicted. All passages are
256 characters long; or, with --questions, as long as those of that file, cut as kexue.fm 6906 does.
There the original pads batches in random order to the longest, we those of like lengths. Both sides
get the same weights, and with equal lengths the same inputs, whose scores are compared.
--engine plain leaves the native kernels out.
At the end: the share of a training's time that goes into reading, cropping and padding.
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
from kexue_cli.tasks.dgcnn.crops import Crop, post_piece
from kexue_cli.tasks.dgcnn.dgcnn_2019 import Dgcnn2019
from kexue_cli.tasks.dgcnn.engine import use_native
from kexue_cli.tasks.dgcnn.examples import Level
from kexue_cli.tasks.dgcnn.keras_weights import load_keras_weights, save_keras_weights
from kexue_cli.tasks.dgcnn.network import Network, rarity_of
from kexue_cli.tasks.dgcnn.normalise import Normaliser
from kexue_cli.tasks.dgcnn.problems import Problems, Rules
from kexue_cli.tasks.dgcnn.question_files import read_questions
from kexue_cli.tasks.dgcnn.questions import load
from kexue_cli.tasks.dgcnn.reader import Reader
from kexue_cli.tasks.dgcnn.tags import N_TAGS
from kexue_cli.tasks.dgcnn.training import reader_loss
from kexue_cli.train.ema import WeightAverage
from kexue_cli.train.optim import make_optimizers

MODELS = ["dgcnn_2019", "dgcnn"]
N_CHARACTERS, WORD_WIDTH, LIMIT = 6002, 128, 256
Lengths = dict[str, Any]  # question and passage, each (batches, questions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keras", type=Path, help="python of an environment with tensorflow")
    parser.add_argument("--threads", type=int, nargs="+", default=[2])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--engine", choices=["native", "plain"], default="native")
    parser.add_argument("--questions", type=Path, help="file whose lengths are used")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--batches", type=int, default=8, help="of lengths drawn from --questions")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each figure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = Dgcnn2019(N_CHARACTERS, WORD_WIDTH, generator=torch.Generator().manual_seed(0))
        save_keras_weights(made, folder / "weights.npz")
        if options.questions:
            title, lengths = f"lengths of {options.questions.name}", drawn_lengths(options)
        else:
            title, lengths = f"passages of {LIMIT} characters", equal_lengths(options.batch)
        for threads in options.threads:
            compare(options, threads, folder, title, lengths)
        show_share_of_reading(folder)


def equal_lengths(batch: int) -> Lengths:
    """One batch."""
    return {"question": np.full((1, batch), 20), "passage": np.full((1, batch), LIMIT)}


def drawn_lengths(options: argparse.Namespace) -> Lengths:
    """Random questions of a file, each with a random passage, cut as the post does."""
    rng = np.random.default_rng(0)
    rules = Rules("keep", "drop", Normaliser())
    records = [q for q in read_questions(options.questions, rules, Problems()) if q.passages]
    shape = (options.batches, options.batch)
    lengths = np.zeros((2, *shape), np.int64)
    for place in np.ndindex(*shape):
        record = records[rng.integers(len(records))]
        passage = record.passages[rng.integers(len(record.passages))].text
        begin, end = post_piece(len(passage), LIMIT, rng)
        lengths[0][place], lengths[1][place] = len(record.text), end - begin
    return {"question": lengths[0], "passage": lengths[1]}


def compare(
    options: argparse.Namespace, threads: int, folder: Path, title: str, lengths: Lengths
) -> None:
    """One table of both sides with this number of threads."""
    print(f"\n{title}, {threads} thread(s), batches of {options.batch}: questions/s")
    print(f"{'':30}{'train':>18}{'predict':>18}")
    weights = folder / "weights.npz"
    np.savez(folder / "lengths.npz", **lengths)
    keras = None
    if options.keras:
        keras = keras_rates(options, threads, weights, folder / "lengths.npz")
        show(f"Keras, TensorFlow {keras['version']}", keras, None)
    torch.set_num_threads(threads)
    flat = {name: values.reshape(-1) for name, values in lengths.items()}
    order = np.argsort(flat["passage"], kind="stable")
    ours_by_length = {n: v[order].reshape(lengths[n].shape) for n, v in flat.items()}
    for name in options.models:
        for precision in (torch.float32, torch.bfloat16):
            ours = our_rates(options, weights, name, precision, ours_by_length)
            show(f"{name} {str(precision).removeprefix('torch.')}", ours, keras)
            if keras is not None and name == "dgcnn_2019" and len(lengths["question"]) == 1:
                apart = np.abs(np.array(keras["scores"]) - ours["scores"]).max()
                print(f"{'':30}scores differ by {apart:.1e}")


def keras_rates(
    options: argparse.Namespace, threads: int, weights: Path, lengths: Path
) -> dict[str, Any]:
    """What dgcnn_keras_peer.py prints."""
    peer = Path(__file__).with_name("dgcnn_keras_peer.py")
    words = [str(word) for word in (weights, lengths, threads, options.seconds)]
    command = [str(options.keras), str(peer), *words]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(f"the Keras side failed:\n{result.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(result.stdout.strip().splitlines()[-1])
    return found


def batch_of(question: Any, passage: Any) -> tuple[Batch, list[torch.Tensor]]:
    """Ids and word vectors as dgcnn_keras_peer.py draws them, and spans."""
    rng = np.random.default_rng(0)
    given: list[Any] = []
    for lengths in (question, passage):
        shape = (len(lengths), int(lengths.max()))
        ids = rng.integers(1, N_CHARACTERS, size=shape)
        ids[np.arange(shape[1]) >= lengths[:, None]] = 0
        given += [ids, rng.normal(size=(*shape, WORD_WIDTH)).astype(np.float32)]
    targets = rng.random((*given[2].shape, 2)) < 0.01
    spans = torch.nonzero(torch.from_numpy(targets[..., 0]))
    spans = torch.cat([spans, spans[:, 1:]], dim=1)
    q, q_words, p, p_words = (torch.from_numpy(part) for part in given)
    tags = [text % N_TAGS for text in (q, p)]
    batch = Batch(
        q, q, tags[0], p, p, tags[1], torch.zeros(*p.shape, 8), spans, torch.arange(len(q))
    )
    return batch, [q_words, p_words]


class GivenVectors(torch.nn.Module):
    """A reader under word vectors that are given instead of looked up."""

    def __init__(self, reader: torch.nn.Module) -> None:
        super().__init__()
        self.reader = reader
        self.vectors: list[torch.Tensor] = []

    def forward(self, batch: Batch) -> Any:
        """Logits."""
        return self.reader(batch, *self.vectors)


def our_rates(
    options: argparse.Namespace, weights: Path, name: str, precision: torch.dtype, lengths: Lengths
) -> dict[str, Any]:
    """The same measurements on our side."""
    if name == "dgcnn_2019":
        reader: torch.nn.Module = Dgcnn2019(N_CHARACTERS, WORD_WIDTH)
        load_keras_weights(reader, weights)  # type: ignore[arg-type]
    else:
        reader = Reader(N_CHARACTERS, WORD_WIDTH, rarity_of(N_CHARACTERS))
    if options.engine == "native":
        use_native(reader)
    network = GivenVectors(reader)
    (optimizer,) = make_optimizers(network, OptimConfig(name="keras_radam", eps=1e-7))
    average = WeightAverage(network, 0.9999, debiased=True)
    batches = [
        batch_of(*pair) for pair in zip(lengths["question"], lengths["passage"], strict=True)
    ]

    def loss_of(batch: Batch, vectors: list[torch.Tensor]) -> torch.Tensor:
        network.vectors = vectors
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            loss = reader_loss(network, batch)
        return loss.sum / loss.count

    def train() -> None:
        for batch, vectors in batches:
            loss_of(batch, vectors).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            average.update()

    def predict() -> Any:
        with (
            torch.inference_mode(),
            torch.autocast("cpu", precision, enabled=precision != torch.float32),
        ):
            for batch, vectors in batches:
                network.vectors = vectors
                logits = network(batch)
        return logits

    network.eval()
    scores = torch.zeros(0)
    if name == "dgcnn_2019":
        scores = torch.stack(predict().scores(), dim=2)[:4]
    n_questions = lengths["question"].size
    found = {"scores": scores.numpy(), "predict": rate(predict, n_questions, options.seconds)}
    network.train()
    return {**found, "train": rate(train, n_questions, options.seconds)}


def rate(work: Callable[[], object], items: int, seconds: float) -> float:
    """Items per second: the median of repetitions that fill `seconds`, after one to warm up."""
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
    use_native(reader)
    network = Network(reader, 1 + len(sets.words), WORD_WIDTH)
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

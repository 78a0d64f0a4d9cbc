"""Training speed: one step of ours and of nanoGPT in turn, on the same shapes.

    git clone https://github.com/karpathy/nanoGPT
    python bench/gpt2_train.py nanoGPT [--shape cpu|124m] [--threads 2] [--plain] [--compile]

`cpu` is nanoGPT's CPU configuration (4 layers, 4 heads, 128, context 64, batch 12), `124m` GPT-2
small with 2 windows of 256. A step is forward, backward, clipping, AdamW (or Muon). Prints the
median milliseconds of a step, the ratio of tokens per second to nanoGPT, whose command for a CPU
compiles nothing, and the share of the floor: the time that the operations of a step
(6 N + 12 L H Q T per token) take at the speed of a large matrix product. --plain adds our step by
torch alone, --compile compiled versions of both.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Step = Callable[[], None]


@dataclass(frozen=True)
class Shape:
    vocab_size: int
    context: int
    layers: int
    heads: int
    width: int
    rows: int
    time: int


NANOGPT_PARTS: dict[str, Any] = {"activation": "gelu", "bias": False}  # the parts of its network
SHAPES = {
    "cpu": Shape(65, 64, 4, 4, 128, 12, 64),
    "124m": Shape(50304, 1024, 12, 12, 768, 2, 256),
}


def main() -> None:
    options = arguments()
    os.environ.setdefault("OMP_NUM_THREADS", str(options.threads))
    import torch

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    shape = SHAPES[options.shape]
    inputs = torch.randint(shape.vocab_size, (shape.rows, shape.time))
    targets = torch.randint(shape.vocab_size, (shape.rows, shape.time))
    steps = contestants(options, shape, inputs, targets)
    floor = floor_seconds(shape)
    medians = measured(steps, options.repeats)
    base = medians["nanoGPT"]
    tokens = inputs.numel()
    print(f"{options.threads} threads, {tokens} tokens a step, floor {1e3 * floor:.1f} ms")
    for name, seconds in medians.items():
        print(
            f"{name:42s} {1e3 * seconds:8.1f} ms  {tokens / seconds:8.0f} tokens/s  "
            f"{base / seconds:5.2f} x nanoGPT  {floor / seconds:4.0%} of the floor"
        )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nanogpt", help="folder of the nanoGPT repository")
    parser.add_argument("--shape", choices=SHAPES, default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


def contestants(
    options: argparse.Namespace, shape: Shape, inputs: Any, targets: Any
) -> dict[str, Step]:
    """Name → one training step."""

    def ours(parts: dict[str, Any], **settings: Any) -> Step:
        return our_step(shape, parts, inputs, targets, **settings)

    same = NANOGPT_PARTS
    steps = {
        "nanoGPT": nanogpt_step(options, shape, inputs, targets, False),
        "ours, nanoGPT's network": ours(same),
    }
    if options.shape == "cpu":
        steps["ours, char_gpt"] = ours(char_gpt_parts())
        steps["ours, char_gpt, Muon"] = ours(char_gpt_parts(), optim="muon")
    if options.plain:
        steps["ours, nanoGPT's network, torch's kernels"] = ours(same, native=False)
    if options.compile:
        steps["nanoGPT, compiled"] = nanogpt_step(options, shape, inputs, targets, True)
        steps["ours, nanoGPT's network, compiled"] = ours(same, native=False, compiled=True)
    return steps


def char_gpt_parts() -> dict[str, Any]:
    from kexue_cli.tasks.gpt2.config import CharGpt

    keys = ("activation", "norm", "positions", "qk_norm", "bias", "tied")
    return {key: getattr(CharGpt(), key) for key in keys} | {"zero_init": True}


def nanogpt_step(
    options: argparse.Namespace, shape: Shape, inputs: Any, targets: Any, compiled: bool
) -> Step:
    import torch

    sys.path.insert(0, options.nanogpt)
    from model import GPT, GPTConfig  # type: ignore[import-not-found]

    config = GPTConfig(
        block_size=shape.context, vocab_size=shape.vocab_size, n_layer=shape.layers,
        n_head=shape.heads, n_embd=shape.width, dropout=0.0, bias=False,
    )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        model = GPT(config)
        optimizer = model.configure_optimizers(0.1, 1e-3, (0.9, 0.99), "cpu")
    forward = torch.compile(model) if compiled else model

    def step() -> None:
        _, loss = forward(inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def our_step(
    shape: Shape,
    parts: dict[str, Any],
    inputs: Any,
    targets: Any,
    optim: str = "adamw",
    native: bool = True,
    compiled: bool = False,
) -> Step:
    import torch

    from kexue_cli.config import OptimConfig
    from kexue_cli.tasks.gpt2.model import Gpt, initialise
    from kexue_cli.tasks.gpt2.native_trunk import NativeTrunk
    from kexue_cli.tasks.gpt2.packed import Batch
    from kexue_cli.tasks.gpt2.training import batch_loss, language_model_optimizers

    model = Gpt(architecture(shape, parts))
    initialise(model, torch.Generator().manual_seed(0))
    model.native = NativeTrunk(model.arch) if native else None
    optimizers = language_model_optimizers(model, OptimConfig(name=optim, lr=1e-3))
    forward: Any = torch.compile(model) if compiled else model
    batch = Batch(inputs, targets, None)

    def step() -> None:
        loss = batch_loss(forward, batch)
        (loss.sum / loss.count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return step


def architecture(shape: Shape, parts: dict[str, Any]) -> Any:
    from kexue_cli.tasks.gpt2.architecture import Architecture

    return Architecture(
        shape.vocab_size, shape.context, shape.width, shape.layers, shape.heads, 4 * shape.width,
        **parts,
    )  # fmt: skip


def floor_seconds(shape: Shape) -> float:
    """Operations of one step of nanoGPT's network at the speed of a large float32 product."""
    import torch

    from kexue_cli.tasks.gpt2.weights import empty_model

    side = 2048
    a, b = torch.randn(side, side), torch.randn(side, side)
    packed = torch.ops.mkldnn._reorder_linear_weight(b, side)
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        torch.ops.mkldnn._linear_pointwise(a, packed, None, "none", [], "")
        seconds.append(time.perf_counter() - begin)
    rate = 2 * side**3 / min(seconds)
    per_token = empty_model(architecture(shape, NANOGPT_PARTS)).flops_per_token(shape.time)
    return per_token * shape.rows * shape.time / rate


def measured(steps: dict[str, Step], repeats: int) -> dict[str, float]:
    """Median seconds; the contestants take turns."""
    for step in steps.values():
        step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
    main()

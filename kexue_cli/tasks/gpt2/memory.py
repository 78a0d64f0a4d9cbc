"""What fits into memory, asked before it is used up."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from kexue_cli.errors import UserError
from kexue_cli.tasks.gpt2.architecture import Architecture
from kexue_cli.tasks.gpt2.weights import empty_model

ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}
GIB = 2**30
# weights, gradients and optimiser state, in bytes per weight
TRAINING_BYTES = {"adafactor": 8, "sgd": 12, "muon": 12}
ADAM_BYTES = 16


def available_bytes(device: torch.device) -> int:
    """Free memory of a GPU, or of the machine (what the kernel says is available)."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    info = Path("/proc/meminfo")
    if info.exists():
        lines = dict(line.split(":") for line in info.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def generation_bytes(arch: Architecture, weights: str, rows: int, tokens: int) -> int:
    """Weights in their format, and keys and values of `rows` texts of `tokens` in float32."""
    cached = 2 * arch.layers * arch.width * min(tokens, arch.context) * rows * 4
    return empty_model(arch).parameter_count() * ITEM_BYTES[weights] + cached


def check_generation(
    arch: Architecture, weights: str, rows: int, tokens: int, available: int
) -> None:
    """Raise UserError where generating would not fit; it says what would."""
    needed = generation_bytes(arch, weights, rows, tokens)
    if needed <= available:
        return
    smaller = [
        (f"task.generation.weights={name}", generation_bytes(arch, name, rows, tokens))
        for name in ("bfloat16", "int8")
        if ITEM_BYTES[name] < ITEM_BYTES[weights]
    ]
    smaller.append(
        ("one text at a time (task.batch=1)", generation_bytes(arch, weights, 1, tokens))
    )
    smaller.append(
        (
            "one text of int8 weights and 128 tokens (task.generation.max_new_tokens)",
            generation_bytes(arch, "int8", 1, 128),
        )
    )
    raise UserError(_refusal("generating", needed, available, smaller))


def training_bytes(
    arch: Architecture, optimizer: str, rows: int, time: int, checkpointing: bool
) -> int:
    """Rough need of training: weights, gradients, optimiser, and the activations of one batch.

    Activations per token and layer: about 34 numbers of the width (Korthikanti et al. 2022, without
    the attention matrix), only the layer's input with checkpointing; logits twice.
    """
    weights = empty_model(arch).parameter_count() * TRAINING_BYTES.get(optimizer, ADAM_BYTES)
    per_layer = 1 if checkpointing else 17
    kept = arch.layers * per_layer * arch.width + (17 * arch.width if checkpointing else 0)
    return weights + rows * time * 4 * (kept + 2 * arch.vocab_size)


def check_training(
    arch: Architecture, optimizer: str, rows: int, time: int, checkpointing: bool, available: int
) -> None:
    """Raise UserError where training would not fit; it says what would."""
    needed = training_bytes(arch, optimizer, rows, time, checkpointing)
    if needed <= available:
        return
    choices = [
        ("task.checkpointing=true", training_bytes(arch, optimizer, rows, time, True)),
        ("task.batch=1", training_bytes(arch, optimizer, 1, time, checkpointing)),
        (
            "optim=adafactor task.batch=1 task.checkpointing=true",
            training_bytes(arch, "adafactor", 1, time, True),
        ),
        (
            "the same with task.context=128",
            training_bytes(arch, "adafactor", 1, min(time, 128), True),
        ),
    ]
    raise UserError(_refusal("training", needed, available, choices))


def _refusal(what: str, needed: int, available: int, choices: list[tuple[str, int]]) -> str:
    fitting = [f"{name} ({size / GIB:.2f} GiB)" for name, size in choices if size <= available]
    advice = "These would fit: " + "; ".join(fitting) if fitting else "No setting would fit"
    return (
        f"{what} needs about {needed / GIB:.2f} GiB, {available / GIB:.2f} GiB are free. {advice}"
    )

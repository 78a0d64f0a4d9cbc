"""Where a model begins: fresh, from a run of ours, or from weights that other people made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from kexue_cli.config import build
from kexue_cli.errors import UserError
from kexue_cli.run import checkpoint
from kexue_cli.tasks.gpt2 import tokenizers
from kexue_cli.tasks.gpt2.architecture import Architecture
from kexue_cli.tasks.gpt2.model import Gpt, initialise
from kexue_cli.tasks.gpt2.pretrained import Weights, architecture_of, open_weights
from kexue_cli.tasks.gpt2.tokenizers import Tokenizer
from kexue_cli.tasks.gpt2.weights import empty_model, fill, own_plan

LAYOUT_OF_MODEL = {"gpt2_ml": "gpt2_ml", "gpt2": "gpt2", "char_gpt": "gpt2"}


@dataclass(frozen=True)
class Start:
    """A model that can be made: its shape, its tokenizer, and how its weights are loaded."""

    arch: Architecture
    tokenizer: Tokenizer
    load: Callable[[torch.dtype], Gpt]
    origin: str


def from_state(state: dict[str, Any], origin: str) -> Start:
    """From the task's state in a checkpoint of ours."""
    arch = architecture_of(state["architecture"], origin)
    weights: dict[str, torch.Tensor] = state["model"]

    def load(dtype: torch.dtype) -> Gpt:
        model = empty_model(arch)
        return fill(model, own_plan(model), weights.__getitem__, weights, origin, dtype)

    return Start(arch, tokenizers.from_state(state["tokenizer"]), load, origin)


def from_place(cfg: DictConfig) -> Start:
    """From `checkpoint=`: a run, a .pt file, a folder of weights, a TensorFlow checkpoint.

    Raises:
        UserError: nothing readable, of another model, or without a tokenizer.
    """
    path = Path(str(cfg.checkpoint))
    if path.suffix == ".pt" or (path / "run.json").exists():
        found = checkpoint.find(path)
        state = checkpoint.load(found, cfg.task.name, cfg.model.name)
        return from_state(state["task"], str(found))
    weights = open_weights(path, cfg.task.weights_config, bool(cfg.task.verify))
    if weights.arch.layout != LAYOUT_OF_MODEL[cfg.model.name]:
        right = "gpt2_ml" if weights.arch.layout == "gpt2_ml" else "gpt2"
        raise UserError(f"{path} holds a model={right}, not a model={cfg.model.name}")
    return Start(weights.arch, _tokenizer_of(weights, cfg), weights.load, str(path))


def fresh(cfg: DictConfig, tokenizer: Tokenizer, generator: torch.Generator) -> Start:
    """A new model of the configured shape with random weights."""
    arch = build(cfg.model, "model", vocab_size=tokenizer.vocab_size)

    def load(dtype: torch.dtype) -> Gpt:
        model = Gpt(arch)
        initialise(model, generator)
        return model.to(dtype)

    return Start(arch, tokenizer, load, "random weights")


def _tokenizer_of(weights: Weights, cfg: DictConfig) -> Tokenizer:
    if cfg.task.vocabulary is not None:
        tokenizer: Tokenizer | None = tokenizers.wordpiece(cfg.task.vocabulary)
    else:
        tokenizer = tokenizers.from_folder(weights.folder)
    if tokenizer is None:
        raise UserError(
            f"{weights.folder} has no tokenizer (vocab.txt, tokenizer.json, or vocab.json and "
            "merges.txt). Put it there, or name a vocab.txt with task.vocabulary=…"
        )
    check_vocabulary(tokenizer, weights.arch, str(weights.folder))
    return tokenizer


def check_vocabulary(tokenizer: Tokenizer, arch: Architecture, origin: str) -> None:
    """Raise UserError where the vocabulary is not the model's; a few spare rows are usual."""
    spare = arch.vocab_size - tokenizer.vocab_size
    if not 0 <= spare <= 256:
        raise UserError(
            f"{origin}: the vocabulary has {tokenizer.vocab_size:,} entries, the model "
            f"{arch.vocab_size:,}. It is the vocabulary of another model"
        )

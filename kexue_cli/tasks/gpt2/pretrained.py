"""Opening weights as people have them: GPT2_ML checkpoints, Hugging Face folders, our own."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kexue_cli.errors import UserError
from kexue_cli.extras import require
from kexue_cli.tasks.gpt2.architecture import Architecture
from kexue_cli.tasks.gpt2.model import Gpt
from kexue_cli.tasks.gpt2.tf_checkpoint import TfCheckpoint
from kexue_cli.tasks.gpt2.weights import (
    Plan,
    empty_model,
    fill,
    gpt2_ml_plan,
    hugging_face_plan,
    own_plan,
    unused,
)

OWN_MODEL_TYPE = "kexue_gpt"
HF_ACTIVATIONS = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "relu2": "relu2",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}
# Keys under which the same number stands in the various config.json of GPT2_ML
GPT2_ML_KEYS = {
    "vocab_size": ("vocab_size",),
    "width": ("hidden_size", "n_embd"),
    "layers": ("num_hidden_layers", "n_layer"),
    "heads": ("num_attention_heads", "n_head"),
    "context": ("max_position_embeddings", "n_positions"),
}


@dataclass(frozen=True)
class Weights:
    """Weights on disk: their architecture, where each tensor lies, and how to read one."""

    origin: Path
    arch: Architecture
    plan: Plan
    names: frozenset[str]
    read: Callable[[str], Tensor]
    config: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Where vocabulary and tokenizer are looked for."""
        return self.origin if self.origin.is_dir() else self.origin.parent

    def load(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Gpt:
        """The model with these weights, in evaluation mode."""
        model = empty_model(self.arch)
        return fill(model, self.plan, self.read, self.names, str(self.origin), dtype, device)


def open_weights(
    place: str | Path, config: str | Path | None = None, verify: bool = True
) -> Weights:
    """Find out what lies at `place` and read its configuration.

    Args:
        place: a folder, or the prefix (or `.index`) of a TensorFlow checkpoint.
        config: the configuration file, where it is not config.json beside the weights.
        verify: check the checksum of every TensorFlow tensor while it is read.

    Raises:
        UserError: nothing readable is there, or the configuration does not fit.
    """
    path = Path(place)
    prefix = _tensorflow_prefix(path)
    if prefix is not None:
        return _open_tensorflow(prefix, _config(config or prefix.parent / "config.json"), verify)
    if not path.is_dir():
        raise UserError(
            f"{path} holds no weights that can be read: expected a folder with config.json and "
            "model.safetensors, or the prefix of a TensorFlow checkpoint (model.ckpt-100000)"
        )
    settings = _config(config or path / "config.json")
    if settings.get("model_type") == OWN_MODEL_TYPE:
        return _open_own(path, settings)
    return _open_hugging_face(path, settings)


def gpt2_ml_config(config: dict[str, Any], origin: str) -> Architecture:
    """Architecture of a GPT2_ML config.json."""
    numbers: dict[str, Any] = {}
    for field, keys in GPT2_ML_KEYS.items():
        found = [config[key] for key in keys if key in config]
        if not found:
            raise UserError(f"{origin} has no {' or '.join(keys)}: it is no GPT2_ML configuration")
        numbers[field] = int(found[0])
    activation = config.get("hidden_act", config.get("activation_function", "gelu"))
    return Architecture(
        **numbers,
        inner=int(config.get("intermediate_size") or 4 * numbers["width"]),
        layout="gpt2_ml",
        activation=_activation(str(activation), origin),
        residual_dropout=float(config.get("hidden_dropout_prob", config.get("embd_pdrop", 0.1))),
        epsilon=1e-5,  # a constant of the original code, whatever the file says
        initializer_range=float(config.get("initializer_range", 0.02)),
        scale_residual_init=False,
    )


def hugging_face_config(config: dict[str, Any], origin: str) -> Architecture:
    """Architecture of a Hugging Face GPT-2 config.json; its defaults are transformers' own."""
    if config.get("model_type", "gpt2") != "gpt2":
        raise UserError(f"{origin} is of model_type {config['model_type']!r}; expected 'gpt2'")
    if config.get("add_cross_attention"):
        raise UserError(f"{origin} asks for cross attention, which a language model does not have")
    width = int(config.get("n_embd", 768))
    return Architecture(
        vocab_size=int(config.get("vocab_size", 50257)),
        context=int(config.get("n_positions", config.get("n_ctx", 1024))),
        width=width,
        layers=int(config.get("n_layer", 12)),
        heads=int(config.get("n_head", 12)),
        inner=int(config.get("n_inner") or 4 * width),
        activation=_activation(str(config.get("activation_function", "gelu_new")), origin),
        epsilon=float(config.get("layer_norm_epsilon", 1e-5)),
        tied=bool(config.get("tie_word_embeddings", True)),
        scale_attention=bool(config.get("scale_attn_weights", True)),
        scale_by_layer=bool(config.get("scale_attn_by_inverse_layer_idx", False)),
        embedding_dropout=float(config.get("embd_pdrop", 0.1)),
        attention_dropout=float(config.get("attn_pdrop", 0.1)),
        residual_dropout=float(config.get("resid_pdrop", 0.1)),
        initializer_range=float(config.get("initializer_range", 0.02)),
    )


def own_config(arch: Architecture) -> dict[str, Any]:
    """config.json of our own folders."""
    return {"model_type": OWN_MODEL_TYPE, **asdict(arch)}


def architecture_of(settings: dict[str, Any], origin: str) -> Architecture:
    """The architecture that `own_config`, or a checkpoint of ours, holds."""
    known = {key: value for key, value in settings.items() if key != "model_type"}
    try:
        return Architecture(**known)
    except TypeError as error:
        raise UserError(f"{origin} does not describe a model of this version: {error}") from error


def _open_tensorflow(prefix: Path, config: dict[str, Any], verify: bool) -> Weights:
    checkpoint = TfCheckpoint(prefix)
    checkpoint.check_shards()
    arch = gpt2_ml_config(config, str(prefix.parent / "config.json"))
    names = frozenset(checkpoint.names())
    if "newslm/embeddings/word_embed" not in names:
        raise UserError(f"{prefix}.index has no newslm/embeddings/word_embed: not a GPT2_ML model")

    def read(name: str) -> Tensor:
        # a copy for alignment and writability: one tensor at a time
        return torch.from_numpy(np.array(checkpoint.read(name, verify)))

    return Weights(prefix, arch, gpt2_ml_plan(arch), names, read, config)


def _open_hugging_face(folder: Path, config: dict[str, Any]) -> Weights:
    arch = hugging_face_config(config, str(folder / "config.json"))
    names, read = _tensor_files(folder)
    prefix = "transformer." if "transformer.wte.weight" in names else ""
    plan = hugging_face_plan(arch, prefix)
    extra = [name for name in unused(plan, names) if not _is_no_weight(name)]
    if extra:
        raise UserError(f"{folder} has tensors that GPT-2 lacks, the first is {extra[0]!r}")
    return Weights(folder, arch, plan, names, read, config)


def _open_own(folder: Path, config: dict[str, Any]) -> Weights:
    arch = architecture_of(config, str(folder / "config.json"))
    names, read = _tensor_files(folder)
    return Weights(folder, arch, own_plan(empty_model(arch)), names, read, config)


def _is_no_weight(name: str) -> bool:
    """Causal mask buffers of old files, and the head that repeats the tied embedding."""
    return name.endswith((".attn.bias", ".attn.masked_bias")) or name == "lm_head.weight"


def _tensor_files(folder: Path) -> tuple[frozenset[str], Callable[[str], Tensor]]:
    """Names of all tensors of a folder and a function that reads one."""
    sharded = folder / "model.safetensors.index.json"
    if sharded.exists():
        file_of = _config(sharded)["weight_map"]
        readers = {name: _open_safetensors(folder / name)[1] for name in set(file_of.values())}
        return frozenset(file_of), lambda name: readers[file_of[name]](name)
    if (folder / "model.safetensors").exists():
        return _open_safetensors(folder / "model.safetensors")
    if (folder / "pytorch_model.bin").exists():
        tensors = _open_bin(folder / "pytorch_model.bin")
        return frozenset(tensors), tensors.__getitem__
    raise UserError(f"{folder} has neither model.safetensors nor pytorch_model.bin")


def _open_safetensors(path: Path) -> tuple[frozenset[str], Callable[[str], Tensor]]:
    safetensors = require("safetensors", extra="gpt2")
    if not path.exists():
        raise UserError(f"{path} is missing: model.safetensors.index.json names it")
    try:
        file = safetensors.safe_open(str(path), framework="pt")
    except (safetensors.SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged or cut short ({error}). Download it again") from error
    return frozenset(file.keys()), file.get_tensor


def _open_bin(path: Path) -> dict[str, Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds Python objects, not only tensors, and is refused: loading it could run "
            "code that somebody else put there. Ask for the model.safetensors of this model"
        ) from error
    except (RuntimeError, OSError, EOFError) as error:
        raise UserError(f"{path} is damaged or cut short ({error}). Download it again") from error
    return {str(name): tensor for name, tensor in loaded.items()}


def _tensorflow_prefix(path: Path) -> Path | None:
    """Prefix of the TensorFlow checkpoint meant by a prefix, an index, a V1 file or a folder."""
    if path.is_dir():
        found = sorted(path.glob("*.index"))
        if len(found) > 1:
            listed = ", ".join(index.stem for index in found)
            raise UserError(f"{path} holds several checkpoints, name one of: {listed}")
        return found[0].with_suffix("") if found else None
    if path.suffix == ".index" or ".ckpt" in path.name:
        return Path(str(path).removesuffix(".index"))
    return None


def _activation(name: str, origin: str) -> str:
    if name not in HF_ACTIVATIONS:
        raise UserError(f"{origin}: activation {name!r} is not one of {', '.join(HF_ACTIVATIONS)}")
    return HF_ACTIVATIONS[name]


def _config(path: str | Path) -> dict[str, Any]:
    try:
        loaded = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: the weights' configuration must lie there") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(loaded, dict):
        raise UserError(f"{path} must hold one JSON object")
    return loaded

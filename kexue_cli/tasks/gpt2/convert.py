"""Writing weights as folders: ours for every model, Hugging Face's for what its GPT-2 is."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kexue_cli.errors import UserError
from kexue_cli.extras import require
from kexue_cli.run import checkpoint
from kexue_cli.tasks.gpt2 import start, tokenizers
from kexue_cli.tasks.gpt2.architecture import Architecture
from kexue_cli.tasks.gpt2.model import Gpt
from kexue_cli.tasks.gpt2.pretrained import HF_ACTIVATIONS, open_weights, own_config
from kexue_cli.tasks.gpt2.tf_checkpoint import published_name
from kexue_cli.tasks.gpt2.tokenizers import OWN_FILE, CharTokenizer, SubwordTokenizer, Tokenizer
from kexue_cli.tasks.gpt2.weights import exported, hugging_face_plan, own_plan


def convert(
    source: str,
    destination: str,
    to: str = "kexue",
    dtype: str = "float32",
    config: str | None = None,
    vocabulary: str | None = None,
) -> None:
    """Read weights of any format and write a folder; see `kexue convert --help`.

    Raises:
        UserError: unreadable weights, a model that Hugging Face's GPT-2 cannot compute, or a
            destination that has something in it.
    """
    target = Path(destination)
    if target.exists() and any(target.iterdir()):
        raise UserError(f"{target} is not empty: name a new folder")
    model, tokenizer = _read(source, config, vocabulary, getattr(torch, dtype))
    if to == "hf":
        check_fits_hugging_face(model.arch)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        _write(model, tokenizer, temporary, to, getattr(torch, dtype))
        if target.exists():
            target.rmdir()
        temporary.chmod(0o755)
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    print(f"{target}: {model.parameter_count():,} weights in {dtype}")


def check_fits_hugging_face(arch: Architecture) -> None:
    """Raise UserError where transformers' GPT-2 would compute something else."""
    reasons = [
        (arch.layout != "gpt2", "its blocks are GPT2_ML's"),
        (arch.norm != "layer", "it has RMS norms"),
        (arch.positions != "learned", "it has rotary positions"),
        (arch.qk_norm, "it normalises queries and keys"),
        (arch.activation not in HF_ACTIVATIONS.values(), f"its activation is {arch.activation}"),
    ]
    found = [reason for holds, reason in reasons if holds]
    if found:
        raise UserError(
            f"transformers' GPT-2 cannot compute this model: {', '.join(found)}. "
            "Use --to kexue, which keeps every model"
        )


def hugging_face_settings(arch: Architecture, end: int | None) -> dict[str, Any]:
    """config.json of a GPT-2 for transformers."""
    activation = next(hf for hf, ours in HF_ACTIVATIONS.items() if ours == arch.activation)
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": arch.vocab_size,
        "n_positions": arch.context,
        "n_embd": arch.width,
        "n_layer": arch.layers,
        "n_head": arch.heads,
        "n_inner": arch.inner,
        "activation_function": activation,
        "layer_norm_epsilon": arch.epsilon,
        "tie_word_embeddings": arch.tied,
        "scale_attn_weights": arch.scale_attention,
        "scale_attn_by_inverse_layer_idx": arch.scale_by_layer,
        "embd_pdrop": arch.embedding_dropout,
        "attn_pdrop": arch.attention_dropout,
        "resid_pdrop": arch.residual_dropout,
        "initializer_range": arch.initializer_range,
        "bos_token_id": end,
        "eos_token_id": end,
    }


def _read(
    source: str, config: str | None, vocabulary: str | None, dtype: torch.dtype
) -> tuple[Gpt, Tokenizer | None]:
    path = Path(source)
    if path.suffix == ".pt" or (path / "run.json").exists():
        found = checkpoint.find(path)
        begin = start.from_state(checkpoint.load(found, "gpt2")["task"], str(found))
        return begin.load(dtype), begin.tokenizer
    weights = open_weights(path, config)
    if weights.arch.layout == "gpt2_ml" and not path.is_dir():
        for data_file in sorted(path.parent.glob(f"{path.name.removesuffix('.index')}.data-*")):
            name = published_name(data_file)
            print(f"{data_file.name}: {name or 'not one of the published GPT2_ML files'} (SHA-256)")
    tokenizer: Tokenizer | None
    if vocabulary is not None:
        tokenizer = tokenizers.wordpiece(vocabulary)
    else:
        tokenizer = tokenizers.from_folder(weights.folder)
    if tokenizer is None:
        print(f"note: {weights.folder} has no tokenizer, none is written (--vocabulary=vocab.txt)")
    else:
        start.check_vocabulary(tokenizer, weights.arch, str(weights.folder))
    return weights.load(dtype), tokenizer


def _write(
    model: Gpt, tokenizer: Tokenizer | None, folder: Path, to: str, dtype: torch.dtype
) -> None:
    safetensors = require("safetensors.torch", extra="gpt2")
    if to == "hf":
        end = tokenizer.end_id() if tokenizer is not None else None
        settings, tensors = hugging_face_settings(model.arch, end), _hugging_face_tensors(model)
    else:
        settings, tensors = own_config(model.arch), exported(model, own_plan(model))
    tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    safetensors.save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    _write_json(folder / "config.json", settings)
    if tokenizer is not None:
        _write_json(folder / OWN_FILE, tokenizer.state())
        if to == "hf":
            _write_hugging_face_tokenizer(tokenizer, folder)


def _hugging_face_tensors(model: Gpt) -> dict[str, Tensor]:
    """All tensors of transformers' GPT-2; biases that the model lacks are zero."""
    plan = hugging_face_plan(model.arch, "transformer.")
    parameters = dict(model.named_parameters())
    tensors = exported(model, {name: plan[name] for name in parameters})
    for ours, source in plan.items():
        if ours not in parameters:
            size = parameters[ours.removesuffix("bias") + "weight"].shape[0]
            tensors[source.names[0]] = torch.zeros(size)
    return tensors


def _write_hugging_face_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """tokenizer.json and the settings that make transformers open it."""
    if isinstance(tokenizer, CharTokenizer):
        inner = _characters_as_library_tokenizer(tokenizer)
    else:
        assert isinstance(tokenizer, SubwordTokenizer)
        inner = tokenizer.inner
    inner.save(str(folder / "tokenizer.json"))
    end = tokenizer.end_id()
    named = {} if end is None else {"eos_token": inner.id_to_token(end)}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **named}
    _write_json(folder / "tokenizer_config.json", settings)


def _characters_as_library_tokenizer(tokenizer: CharTokenizer) -> Any:
    library = require("tokenizers", extra="gpt2")
    ids = {character: i for i, character in enumerate(tokenizer.characters)}
    if tokenizer.has_end:
        ids[tokenizers.END_OF_TEXT] = len(ids)
    inner = library.Tokenizer(library.models.WordLevel(ids, unk_token=tokenizer.characters[0]))
    every_character = library.Regex(r"[\s\S]")
    inner.pre_tokenizer = library.pre_tokenizers.Split(every_character, "isolated")
    inner.decoder = library.decoders.Fuse()
    return inner


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

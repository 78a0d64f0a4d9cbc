"""Where each of our tensors lies in other people's files, and filling a model from them.

A model is made without memory, then every tensor is read, converted and put in place one by one:
loading needs the weights once, in the dtype asked for, and the largest tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kexue_cli.errors import UserError
from kexue_cli.tasks.gpt2.architecture import Architecture
from kexue_cli.tasks.gpt2.model import Gpt


@dataclass(frozen=True)
class Source:
    """One of our tensors is these one below another, transposed where they are (in, out)."""

    names: tuple[str, ...]
    transposed: bool = False


Plan = dict[str, Source]


def gpt2_ml_plan(arch: Architecture) -> Plan:
    """Names in the TensorFlow checkpoints of GPT2_ML."""
    embeddings, norm = "newslm/embeddings", "LayerNorm_embed_norm"
    plan = {
        "tokens.weight": Source((f"{embeddings}/word_embed",)),
        "positions.weight": Source((f"{embeddings}/pos_embed",)),
        "embedding_norm.weight": Source((f"{embeddings}/{norm}/gamma",)),
        "embedding_norm.bias": Source((f"{embeddings}/{norm}/beta",)),
    }
    layers = {
        "attention.qkv": ("query_layer", "key_layer", "value_layer"),
        "attention.project": ("context_projection_layer",),
        "mlp.expand": ("intermediate",),
        "mlp.project": ("output",),
    }
    norms = {"norm_1": "LayerNorm_mlp_ln0", "norm_2": "LayerNorm_mlp_ln1"}
    for layer in range(arch.layers):
        ours, theirs = f"blocks.{layer}", f"newslm/layer{layer:02d}"
        for name, parts in layers.items():
            kernels = tuple(f"{theirs}/{part}/kernel" for part in parts)
            plan[f"{ours}.{name}.weight"] = Source(kernels, transposed=True)
            plan[f"{ours}.{name}.bias"] = Source(tuple(f"{theirs}/{p}/bias" for p in parts))
        for name, part in norms.items():
            plan[f"{ours}.{name}.weight"] = Source((f"{theirs}/{part}/gamma",))
            plan[f"{ours}.{name}.bias"] = Source((f"{theirs}/{part}/beta",))
    return plan


def hugging_face_plan(arch: Architecture, prefix: str) -> Plan:
    """Names in the GPT-2 files of Hugging Face; `prefix` is "transformer." or nothing."""
    plan = {
        "tokens.weight": Source((f"{prefix}wte.weight",)),
        "positions.weight": Source((f"{prefix}wpe.weight",)),
        "final_norm.weight": Source((f"{prefix}ln_f.weight",)),
        "final_norm.bias": Source((f"{prefix}ln_f.bias",)),
    }
    parts = {
        "attention.qkv": "attn.c_attn",
        "attention.project": "attn.c_proj",
        "mlp.expand": "mlp.c_fc",
        "mlp.project": "mlp.c_proj",
        "norm_1": "ln_1",
        "norm_2": "ln_2",
    }
    for layer in range(arch.layers):
        for name, part in parts.items():
            ours, theirs = f"blocks.{layer}.{name}", f"{prefix}h.{layer}.{part}"
            is_linear = not name.startswith("norm")
            plan[f"{ours}.weight"] = Source((f"{theirs}.weight",), transposed=is_linear)
            plan[f"{ours}.bias"] = Source((f"{theirs}.bias",))
    if not arch.tied:
        plan["head.weight"] = Source(("lm_head.weight",))
    return plan


def own_plan(model: Gpt) -> Plan:
    """Our own names."""
    return {name: Source((name,)) for name, _ in model.named_parameters()}


def empty_model(arch: Architecture) -> Gpt:
    """A model whose tensors have shapes but no memory."""
    with torch.device("meta"):
        return Gpt(arch)


def fill(
    model: Gpt,
    plan: Plan,
    read: Callable[[str], Tensor],
    available: Iterable[str],
    origin: str,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Gpt:
    """Put the tensors that `read` gives by name into an `empty_model`; `origin` names the file.

    Raises:
        UserError: a tensor is missing, or has another shape than the configuration says.
    """
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    names = set(available)
    for ours in shapes:
        missing = [name for name in plan[ours].names if name not in names]
        if missing:
            raise UserError(
                f"{origin} has no tensor {missing[0]!r}, which the configuration needs "
                f"({model.arch.layers} layers of width {model.arch.width})"
            )
    for ours, shape in shapes.items():
        value = _assembled(plan[ours], read)
        if tuple(value.shape) != shape:
            raise UserError(
                f"{origin}: {' + '.join(plan[ours].names)} has shape {_shown(value, plan[ours])}, "
                f"the configuration expects {_expected(shape, plan[ours])}"
            )
        # on a CPU only the matrices are stored short: products read them, sums stay in float32
        kept = torch.float32 if len(shape) < 2 and str(device) == "cpu" else dtype
        _assign(model, ours, torch.empty(shape, dtype=kept, device=device).copy_(value))
    if model.arch.tied:
        model.head.weight = model.tokens.weight
    return model.eval()


def exported(model: Gpt, plan: Plan) -> dict[str, Tensor]:
    """The model's tensors under the names of `plan`, the inverse of `fill`."""
    tensors: dict[str, Tensor] = {}
    for ours, parameter in model.named_parameters():
        source = plan[ours]
        for name, part in zip(
            source.names, parameter.detach().chunk(len(source.names)), strict=True
        ):
            tensors[name] = (part.t() if source.transposed else part).contiguous()
    return tensors


def unused(plan: Plan, available: Mapping[str, object] | Iterable[str]) -> list[str]:
    """Names in a file that no tensor of the model is read from."""
    read = {name for source in plan.values() for name in source.names}
    return sorted(set(available) - read)


def _assembled(source: Source, read: Callable[[str], Tensor]) -> Tensor:
    parts = [read(name) for name in source.names]
    if source.transposed:
        parts = [part.t() for part in parts]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _shown(value: Tensor, source: Source) -> tuple[int, ...]:
    shape = tuple(value.shape)
    return shape[::-1] if source.transposed and len(source.names) == 1 else shape


def _expected(shape: tuple[int, ...], source: Source) -> tuple[int, ...]:
    return shape[::-1] if source.transposed and len(source.names) == 1 else shape


def _assign(model: Gpt, name: str, value: Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    setattr(module, leaf, torch.nn.Parameter(value, requires_grad=value.is_floating_point()))

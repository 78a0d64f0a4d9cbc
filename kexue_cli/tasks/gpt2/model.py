"""One transformer with two block layouts, OpenAI's GPT-2 and GPT2_ML (Grover)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from kexue_cli.errors import UserError
from kexue_cli.tasks.gpt2.architecture import Architecture
from kexue_cli.tasks.gpt2.cache import KeyValueCache
from kexue_cli.tasks.gpt2.native_trunk import NativeTrunk

ROTARY_BASE = 10_000.0


class _SquaredRelu(torch.autograd.Function):
    """relu(x)², which keeps only relu(x) for its gradient 2 relu(x)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = x.clamp_min(0)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        return (positive * gradient).mul_(2)


def squared_relu(x: Tensor) -> Tensor:
    """relu(x)² (So et al. 2021, Primer)."""
    if x.requires_grad and not torch.compiler.is_compiling():
        squared: Tensor = _SquaredRelu.apply(x)
        return squared
    return F.relu(x).square()


def quick_gelu(x: Tensor) -> Tensor:
    """x·sigmoid(1.702 x)."""
    return x * torch.sigmoid(1.702 * x)


def tanh_gelu(x: Tensor) -> Tensor:
    """GELU by its tanh approximation, as OpenAI's GPT-2 has it."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,  # exact, by erf: GPT2_ML's
    "gelu_tanh": tanh_gelu,
    "quick_gelu": quick_gelu,
    "relu": F.relu,
    "relu2": squared_relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


class Attention(nn.Module):
    """Causal multi-head self-attention with one fused query-key-value projection."""

    def __init__(self, arch: Architecture, layer: int) -> None:
        super().__init__()
        self.arch = arch
        self.layer = layer
        self.qkv = nn.Linear(arch.width, 3 * arch.width, bias=arch.bias)
        self.project = nn.Linear(arch.width, arch.width, bias=arch.bias)
        self.scale = arch.head_width**-0.5 if arch.scale_attention else 1.0
        if arch.scale_by_layer:
            self.scale /= layer + 1

    def forward(
        self, x: Tensor, rotation: Tensor | None, mask: Tensor | None, cache: KeyValueCache | None
    ) -> Tensor:
        """(batch, time, width) to the same; `mask` is True where a query may look, or None."""
        query, key, value = self.heads(x, rotation)
        causal = mask is None and x.shape[1] > 1
        if cache is not None:
            key, value = cache.extend(self.layer, key, value)
            causal = causal and key.shape[2] == query.shape[2]
        if query.shape[2] == 1 and mask is None and query.device.type == "cpu":
            # one query: two small products take a third of the fused kernel's time
            mixed = (query * self.scale @ key.mT).softmax(-1) @ value
        else:
            dropout = self.arch.attention_dropout if self.training else 0.0
            mixed = F.scaled_dot_product_attention(
                query, key, value, mask, dropout, is_causal=causal, scale=self.scale
            )
        mixed = mixed.transpose(1, 2).flatten(2)  # (batch, time, width)
        projected: Tensor = self.project(mixed)
        return projected

    def heads(self, x: Tensor, rotation: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (batch, head, time, head width)."""
        batch, time, _ = x.shape
        qkv = self.qkv(x).view(batch, time, 3, self.arch.heads, self.arch.head_width)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if self.arch.qk_norm:
            query = F.layer_norm(query, (self.arch.head_width,), eps=self.arch.epsilon)
            key = F.layer_norm(key, (self.arch.head_width,), eps=self.arch.epsilon)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        return query, key, value

    def weights(self, x: Tensor, rotation: Tensor | None) -> Tensor:
        """Attention probabilities (batch, head, query, key), for pictures."""
        query, key, _ = self.heads(x, rotation)
        scores = query @ key.transpose(-1, -2) * self.scale
        future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
        return scores.masked_fill(future, -torch.inf).softmax(-1)


class FeedForward(nn.Module):
    """The MLP of a block."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.expand = nn.Linear(arch.width, arch.inner, bias=arch.bias)
        self.project = nn.Linear(arch.inner, arch.width, bias=arch.bias)
        self.activation = activation(arch.activation)

    def forward(self, x: Tensor) -> Tensor:
        """(…, width) to (…, width)."""
        projected: Tensor = self.project(self.activation(self.expand(x)))
        return projected


class Block(nn.Module):
    """Attention and MLP with their residual sums; the layouts differ in where the norms stand."""

    def __init__(self, arch: Architecture, layer: int) -> None:
        super().__init__()
        self.is_gpt2 = arch.layout == "gpt2"
        self.attention = Attention(arch, layer)
        self.mlp = FeedForward(arch)
        self.norm_1 = make_norm(arch)  # gpt2: before attention.  gpt2_ml: before the MLP
        self.norm_2 = make_norm(arch)  # gpt2: before the MLP.    gpt2_ml: after the MLP's sum
        self.dropout = nn.Dropout(arch.residual_dropout)

    def forward(
        self, x: Tensor, rotation: Tensor | None, mask: Tensor | None, cache: KeyValueCache | None
    ) -> Tensor:
        """(batch, time, width) to the same."""
        attended = self.attention(self.attention_input(x), rotation, mask, cache)
        x = x + self.dropout(attended)
        if self.is_gpt2:
            x = x + self.dropout(self.mlp(self.norm_2(x)))
        else:
            x = self.norm_2(x + self.dropout(self.mlp(self.norm_1(x))))
        return x

    def attention_input(self, x: Tensor) -> Tensor:
        """What attention reads."""
        normed: Tensor = self.norm_1(x) if self.is_gpt2 else x
        return normed


class Gpt(nn.Module):
    """Token ids (batch, time) to logits (batch, time, vocabulary)."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.arch = arch
        self.tokens = nn.Embedding(arch.vocab_size, arch.width)
        if arch.positions == "learned":
            self.positions = nn.Embedding(arch.context, arch.width)
        self.embedding_norm = make_norm(arch) if arch.layout == "gpt2_ml" else nn.Identity()
        self.embedding_dropout = nn.Dropout(arch.embedding_dropout)
        self.blocks = nn.ModuleList(Block(arch, layer) for layer in range(arch.layers))
        self.final_norm = make_norm(arch) if arch.layout == "gpt2" else nn.Identity()
        self.head = nn.Linear(arch.width, arch.vocab_size, bias=False)
        if arch.tied:
            self.head.weight = self.tokens.weight
        self.checkpointing = False
        self.native: NativeTrunk | None = None  # computes the blocks where it can

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        cache: KeyValueCache | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Logits (batch, time, vocabulary), or of the last position alone, (batch, 1, vocabulary).

        See `hidden` for the other arguments.
        """
        hidden = self.hidden(tokens, positions, mask, cache)
        logits: Tensor = self.head(hidden[:, -1:] if last_only else hidden)
        return logits

    def hidden(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> Tensor:
        """States after the last norm, (batch, time, width).

        `positions` (batch or 1, time) default to those after the cache; `mask` (batch, 1, time,
        keys) is True where a query may look, default: every earlier key.

        Raises:
            UserError: more tokens than the context holds.
        """
        start = 0 if cache is None else cache.length
        end = start + tokens.shape[1]
        if end > self.arch.context:
            raise UserError(f"{end} tokens do not fit the model's context of {self.arch.context}")
        is_plain = positions is None and mask is None and cache is None and not self.checkpointing
        if positions is None:
            positions = torch.arange(start, end, device=tokens.device)[None]
        if mask is None and cache is not None and start > 0 and tokens.shape[1] > 1:
            mask = causal_mask(tokens.shape[1], end, tokens.device)
        x, rotation = self.embed(tokens, positions)
        if self.native is not None and is_plain and self.native.takes(x):
            x = self.native(x, rotation, self.blocks)
        else:
            x = self._blocks(x, rotation, mask, cache)
        if cache is not None:
            cache.length = end
        final: Tensor = self.final_norm(x)
        return final

    def _blocks(
        self, x: Tensor, rotation: Tensor | None, mask: Tensor | None, cache: KeyValueCache | None
    ) -> Tensor:
        for block in self.blocks:
            if self.checkpointing and self.training:
                x = checkpoint(block, x, rotation, mask, cache, use_reentrant=False)
            else:
                x = block(x, rotation, mask, cache)
        return x

    def embed(self, tokens: Tensor, positions: Tensor) -> tuple[Tensor, Tensor | None]:
        """Input of the first block, and the rotation of queries and keys if there is one."""
        x = self.tokens(tokens)
        rotation = None
        if self.arch.positions == "learned":
            x = x + self.positions(positions)
        else:
            rotation = rotation_of(positions, self.arch.head_width)
        return self.embedding_dropout(self.embedding_norm(x)), rotation

    def attention_maps(self, tokens: Tensor) -> Tensor:
        """Attention probabilities of every layer, (layer, batch, head, query, key)."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        x, rotation = self.embed(tokens, positions)
        maps = []
        for block in self.blocks:
            assert isinstance(block, Block)
            maps.append(block.attention.weights(block.attention_input(x), rotation))
            x = block(x, rotation, None, None)
        return torch.stack(maps)

    def parameter_count(self) -> int:
        """Number of weights; a tied head is not counted twice."""
        return sum(parameter.numel() for parameter in self.parameters())

    def flops_per_token(self, time: int) -> float:
        """Operations of training on one token: 6 N + 12 L H Q T (PaLM, appendix B)."""
        without_positions = self.parameter_count()
        if self.arch.positions == "learned":
            without_positions -= self.positions.weight.numel()
        return 6.0 * without_positions + 12.0 * self.arch.layers * self.arch.width * time


def initialise(model: Gpt, generator: torch.Generator) -> None:
    """Random weights: normal, smaller (or zero) where they feed a residual sum, biases zero.

    GPT2_ML draws from the normal distribution cut at two deviations.
    """
    arch = model.arch
    for name, parameter in model.named_parameters():
        if "norm" in name or name.endswith("bias"):
            nn.init.constant_(parameter, 1.0 if name.endswith("weight") else 0.0)
            continue
        if arch.zero_init and name.endswith(("project.weight", "head.weight")):
            nn.init.zeros_(parameter)
            continue
        std = arch.initializer_range
        if arch.scale_residual_init and name.endswith("project.weight"):
            std /= math.sqrt(2 * arch.layers)
        if arch.layout == "gpt2_ml":
            nn.init.trunc_normal_(parameter, 0, std, -2 * std, 2 * std, generator=generator)
        else:
            nn.init.normal_(parameter, 0, std, generator=generator)


def make_norm(arch: Architecture) -> nn.Module:
    """A norm over the width."""
    if arch.norm == "rms":
        return nn.RMSNorm(arch.width, eps=arch.epsilon)
    return nn.LayerNorm(arch.width, eps=arch.epsilon, bias=arch.bias)


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The activation function of this name; UserError lists those there are."""
    if name not in ACTIVATIONS:
        raise UserError(f"activation {name!r} is not known; there are: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def causal_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    """(1, 1, queries, keys): True where the last `queries` of `keys` positions may look."""
    allowed = torch.ones(queries, keys, dtype=torch.bool, device=device)
    return allowed.tril(keys - queries)[None, None]


def document_mask(documents: Tensor) -> Tensor:
    """(batch, 1, time, time): True at earlier positions of the same document, ids (batch, time)."""
    same = documents[:, :, None] == documents[:, None, :]
    return same.tril()[:, None]


def rotation_of(positions: Tensor, head_width: int) -> Tensor:
    """Rotary positions (Su et al. 2021) as unit complex numbers (batch, 1, time, half a head)."""
    half = torch.arange(head_width // 2, device=positions.device)
    frequencies = ROTARY_BASE ** (-half / (head_width // 2))
    angles = positions[..., None] * frequencies  # (batch, time, half a head)
    return torch.polar(torch.ones_like(angles), angles)[:, None]


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn neighbouring pairs of (batch, head, time, head width) by the angles."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotation).flatten(-2).to(x.dtype)

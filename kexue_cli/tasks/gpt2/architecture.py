"""The shape of one transformer: everything that decides its mathematics, nothing of its weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kexue_cli.errors import ConfigError

LAYOUTS = ("gpt2", "gpt2_ml")
NORMS = ("layer", "rms")
POSITIONS = ("learned", "rotary")

# hidden size, layers, heads
GPT2_SIZES = {
    "nano": (48, 3, 3),
    "small": (768, 12, 12),
    "medium": (1024, 24, 16),
    "large": (1280, 36, 20),
    "xl": (1600, 48, 25),
}
# hidden size, layers, heads, standard deviation of the initial weights
GPT2_ML_SIZES = {
    "base": (768, 12, 12, 0.02),
    "large": (1024, 24, 16, 0.02),
    "mega": (1536, 48, 24, 0.02 / 2**0.5),
}


@dataclass(frozen=True)
class Architecture:
    """A decoder-only transformer in one of two block layouts.

    `gpt2` (Radford et al. 2019) normalises before attention and before the MLP and once at the end.
    `gpt2_ml` is Grover's (Zellers et al. 2019): the embeddings are normalised, attention reads its
    input as it is, one norm stands before the MLP and one after the MLP's residual sum.

    `width` is the hidden size, `inner` the MLP's; `epsilon` stands under the norms' square root.
    `scale_by_layer` divides attention scores of layer i also by i + 1. With `zero_init` residual
    branches and an untied head begin at zero, else (`scale_residual_init`) only smaller.
    """

    vocab_size: int
    context: int
    width: int
    layers: int
    heads: int
    inner: int
    layout: str = "gpt2"
    activation: str = "gelu_tanh"
    norm: str = "layer"
    epsilon: float = 1e-5
    positions: str = "learned"
    bias: bool = True
    qk_norm: bool = False
    tied: bool = True
    scale_attention: bool = True
    scale_by_layer: bool = False
    embedding_dropout: float = 0.0
    attention_dropout: float = 0.0
    residual_dropout: float = 0.0
    initializer_range: float = 0.02
    scale_residual_init: bool = True
    zero_init: bool = False

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ConfigError("model.heads", f"{self.heads} heads do not divide width {self.width}")
        if self.positions == "rotary" and self.head_width % 2:
            raise ConfigError(
                "model.heads", f"rotary positions need an even head size, found {self.head_width}"
            )
        for key, value, known in (
            ("layout", self.layout, LAYOUTS),
            ("norm", self.norm, NORMS),
            ("positions", self.positions, POSITIONS),
        ):
            if value not in known:
                raise ConfigError(f"model.{key}", f"expected one of {known}, found {value!r}")

    @property
    def head_width(self) -> int:
        """Size of one attention head."""
        return self.width // self.heads

    def with_vocabulary(self, vocab_size: int) -> Architecture:
        """The same transformer over another vocabulary."""
        return replace(self, vocab_size=vocab_size)


def gpt2_architecture(
    vocab_size: int,
    size: str,
    context: int,
    width: int | None,
    layers: int | None,
    heads: int | None,
    dropout: float,
    bias: bool,
) -> Architecture:
    """OpenAI's GPT-2 of a named size; `width`, `layers`, `heads` override it."""
    _check_size(size, GPT2_SIZES)
    default_width, default_layers, default_heads = GPT2_SIZES[size]
    width = width or default_width
    return Architecture(
        vocab_size=vocab_size,
        context=context,
        width=width,
        layers=layers or default_layers,
        heads=heads or default_heads,
        inner=4 * width,
        bias=bias,
        embedding_dropout=dropout,
        attention_dropout=dropout,
        residual_dropout=dropout,
    )


def gpt2_ml_architecture(
    vocab_size: int,
    size: str,
    context: int,
    width: int | None,
    layers: int | None,
    heads: int | None,
    inner: int | None,
    dropout: float,
) -> Architecture:
    """GPT2_ML of a named size; dropout follows the attention projection and the MLP only."""
    _check_size(size, GPT2_ML_SIZES)
    default_width, default_layers, default_heads, deviation = GPT2_ML_SIZES[size]
    width = width or default_width
    return Architecture(
        vocab_size=vocab_size,
        context=context,
        width=width,
        layers=layers or default_layers,
        heads=heads or default_heads,
        inner=inner or 4 * width,
        layout="gpt2_ml",
        activation="gelu",
        residual_dropout=dropout,
        initializer_range=deviation,
        scale_residual_init=False,
    )


def char_gpt_architecture(
    vocab_size: int,
    context: int,
    width: int,
    layers: int,
    heads: int,
    inner: int | None,
    dropout: float,
    activation: str,
    norm: str,
    positions: str,
    qk_norm: bool,
    bias: bool,
    tied: bool,
) -> Architecture:
    """A small model of the gpt2 layout with parts found since (as in modded-nanogpt)."""
    return Architecture(
        vocab_size=vocab_size,
        context=context,
        width=width,
        layers=layers,
        heads=heads,
        inner=inner or 4 * width,
        activation=activation,
        norm=norm,
        positions=positions,
        qk_norm=qk_norm,
        bias=bias,
        tied=tied,
        embedding_dropout=dropout,
        residual_dropout=dropout,
        zero_init=True,
    )


def _check_size(
    size: str, sizes: dict[str, tuple[int, int, int]] | dict[str, tuple[int, int, int, float]]
) -> None:
    if size not in sizes:
        raise ConfigError("model.size", f"expected one of {', '.join(sizes)}, found {size!r}")

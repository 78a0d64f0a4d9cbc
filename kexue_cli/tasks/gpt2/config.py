"""Options of the gpt2 task. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import DictConfig

from kexue_cli.config import (
    ABOVE_0,
    BELOW_1,
    FINITE,
    DataConfig,
    Mode,
    ModelConfig,
    Range,
    TaskConfig,
    check_ranges,
)
from kexue_cli.errors import ConfigError

DATA_ROOT = "${oc.env:KEXUE_DATA_DIR,data}"
MODELS = "kexue_cli.tasks.gpt2.architecture."
WEIGHT_FORMATS = ("auto", "float32", "bfloat16", "int8")
TOP_P_RULES = ("inclusive", "exclusive")
TOKENIZERS = ("char", "bpe", "wordpiece")
ENGINES = ("auto", "native", "plain")
RANGES: tuple[Range, ...] = (
    ("task.steps", 1, FINITE),
    ("task.batch", 1, 10**6),
    ("task.context", 1, FINITE),
    ("task.evaluate_every", 1, FINITE),
    ("task.patience", 1, FINITE),
    ("task.valid_windows", 1, FINITE),
    ("task.stride", 1, FINITE),
    ("task.ngram_orders", 0, 100),
    ("task.ngram_tokens", 1, FINITE),
    ("task.sample_tokens", 0, 10**6),
    ("task.generation.samples", 1, 10**6),
    ("task.generation.max_new_tokens", 1, 10**7),
    ("task.generation.min_new_tokens", 0, 10**7),
    ("task.generation.temperature", 1e-6, 10**6),  # beyond, logits over it are no numbers any more
    ("task.generation.top_k", 1, FINITE),
    ("task.generation.top_p", ABOVE_0, 1),
    ("task.generation.min_p", ABOVE_0, 1),
    ("task.generation.repetition_penalty", 1e-6, 10**6),
    ("task.generation.no_repeat_ngram", 0, FINITE),
    ("task.generation.beams", 0, 10**4),
    ("task.generation.length_penalty", -100, 100),
    ("model.context", 1, 10**7),
    ("model.width", 1, 10**6),
    ("model.layers", 1, 1000),
    ("model.heads", 1, 10**6),
    ("model.inner", 1, 10**7),
    ("model.dropout", 0, BELOW_1),
    ("data.vocab_size", 1, 10**7),
    ("data.valid_fraction", ABOVE_0, BELOW_1),
)


@dataclass
class Generation:
    """How texts are continued; see kexue_cli/tasks/gpt2/generation.py and beam.py."""

    samples: int = 1  # completions per prompt
    max_new_tokens: int = 128
    min_new_tokens: int = 0
    greedy: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    top_p_rule: str = "inclusive"  # exclusive: GPT2_ML's own, without the token that crosses p
    min_p: float | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    beams: int = 0  # above 0: beam search
    length_penalty: float | None = None  # of beam search; null: bert4keras' rule, without one
    end: str | None = None  # token that ends a text, as the vocabulary has it: 。
    prefix: str | None = None  # token before every prompt: [CLS] of gpt2-chinese models
    forbids_early_end: bool = False  # no end token before min_new_tokens, instead of going on
    forbidden: list[str] = field(default_factory=list)  # tokens that never come: [PAD]
    stop: list[str] = field(default_factory=list)  # the text is cut before these; \n: new line
    slides: bool = True  # beyond the context go on with its newer half; false: stop there
    weights: str = "auto"  # auto: as precision says | float32 | bfloat16 | int8
    stream: bool = True  # show the text while it is written


@dataclass
class Gpt2Task(TaskConfig):
    """Train, fine-tune, evaluate, or generate with GPT-2, GPT2_ML or a small character model."""

    name: str = "gpt2"
    _target_: str = "kexue_cli.tasks.gpt2.task.Gpt2Task"
    steps: int = 500  # optimiser steps
    batch: int = 16  # windows per micro-batch and process
    context: int | None = None  # tokens per window; null: the model's context
    evaluate_every: int = 100
    patience: int | None = None
    valid_windows: int | None = 64  # evaluated during training; at the end all are
    stride: int | None = None  # also evaluate by windows that overlap, this many tokens apart
    engine: str = "auto"  # of the blocks on a CPU: native (own kernels, float32) | plain (torch)
    checkpointing: bool = False  # keep less of the forward pass, compute it twice
    shard: bool = False  # FSDP2: divide weights and optimiser among the processes of torchrun
    ngram_orders: int = 6  # baselines by counting; 0: none
    ngram_tokens: int = 5_000_000  # counted at most
    sample_tokens: int = 200  # written at every evaluation
    generation: Generation = field(default_factory=Generation)
    vocabulary: str | None = None  # vocab.txt of weights that have none beside them
    weights_config: str | None = None  # config.json of weights that have none beside them
    verify: bool = True  # checksum of every tensor of a TensorFlow checkpoint


@dataclass
class Gpt2(ModelConfig):
    """OpenAI's GPT-2: sizes nano, small (124M), medium, large, xl."""

    name: str = "gpt2"
    task: str = "gpt2"
    _target_: str = MODELS + "gpt2_architecture"
    size: str = "small"
    context: int = 1024
    width: int | None = None
    layers: int | None = None
    heads: int | None = None
    dropout: float = 0.0
    bias: bool = True


@dataclass
class Gpt2Ml(ModelConfig):
    """GPT2_ML, Grover's blocks: sizes base, large, mega (1.39B with BERT's vocabulary)."""

    name: str = "gpt2_ml"
    task: str = "gpt2"
    _target_: str = MODELS + "gpt2_ml_architecture"
    size: str = "base"
    context: int = 1024
    width: int | None = None
    layers: int | None = None
    heads: int | None = None
    inner: int | None = None
    dropout: float = 0.1


@dataclass
class CharGpt(ModelConfig):
    """A small transformer with today's parts: rotary positions, QK norm, squared ReLU."""

    name: str = "char_gpt"
    task: str = "gpt2"
    _target_: str = MODELS + "char_gpt_architecture"
    context: int = 64
    width: int = 128
    layers: int = 4
    heads: int = 4
    inner: int | None = None  # null: 4 x width
    dropout: float = 0.0
    activation: str = "relu2"
    norm: str = "layer"  # layer | rms, which on a CPU is slower
    positions: str = "rotary"
    qk_norm: bool = True
    bias: bool = False
    tied: bool = False


@dataclass
class PythonDocs(DataConfig):
    """The documentation text that every Python brings with it (pydoc_data.topics), English."""

    name: str = "python_docs"
    task: str = "gpt2"
    tokenizer: str = "char"
    vocab_size: int = 4096
    valid_fraction: float = 0.1


@dataclass
class TextFiles(DataConfig):
    """Text files, .jsonl files, or folders of them."""

    name: str = "corpus"
    task: str = "gpt2"
    path: str = DATA_ROOT + "/corpus"
    pattern: str = "*.txt"  # of the files in a folder
    text_key: str = "text"  # of a .jsonl line
    tokenizer: str = "bpe"  # char | bpe | wordpiece, learnt from the text; weights bring their own
    vocab_size: int = 4096  # of a tokenizer that is learnt
    valid_fraction: float = 0.1


SCHEMAS = {
    "task/gpt2": Gpt2Task,
    "model/gpt2": Gpt2,
    "model/gpt2_ml": Gpt2Ml,
    "model/char_gpt": CharGpt,
    "data/python_docs": PythonDocs,
    "data/corpus": TextFiles,
}


def check(cfg: DictConfig) -> None:
    """Values that only make sense together.

    Raises:
        ConfigError: names the key.
    """
    rules = cfg.task.generation
    _one_of("task.generation.weights", rules.weights, WEIGHT_FORMATS)
    _one_of("task.generation.top_p_rule", rules.top_p_rule, TOP_P_RULES)
    _one_of("task.engine", cfg.task.engine, ENGINES)
    _one_of("data.tokenizer", cfg.data.tokenizer, TOKENIZERS)
    check_ranges(cfg, RANGES)
    if rules.min_new_tokens > rules.max_new_tokens:
        raise ConfigError(
            "task.generation.min_new_tokens",
            f"{rules.min_new_tokens} is more than max_new_tokens={rules.max_new_tokens}",
        )
    _check_beams(rules)
    optimiser = cfg.optim.get("name")
    if optimiser is None and cfg.mode == Mode.train:
        raise ConfigError("optim", "task=gpt2 needs an optimiser: muon, adamw, adafactor")
    if cfg.task.shard and optimiser == "adafactor":
        raise ConfigError("task.shard", "Adafactor needs whole matrices: use optim=adamw or muon")
    if cfg.mode == Mode.generate and cfg.prompt is None:
        raise ConfigError("prompt", 'mode=generate needs prompt="…", prompt=@file or prompt=-')


def _check_beams(rules: DictConfig) -> None:
    if rules.length_penalty is not None and rules.beams < 1:
        raise ConfigError("task.generation.length_penalty", "belongs to beam search: set beams")
    if rules.beams < 1 or rules.samples == 1:
        return
    if rules.length_penalty is None:
        raise ConfigError(
            "task.generation.samples",
            f"this beam search finds one text, found {rules.samples}. Set length_penalty, by "
            "which it finds several, or samples=1",
        )
    if rules.samples > rules.beams:
        raise ConfigError(
            "task.generation.samples",
            f"{rules.samples} texts are more than beams={rules.beams} can find",
        )


def _one_of(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(key, f"expected one of {', '.join(known)}, found {value!r}")

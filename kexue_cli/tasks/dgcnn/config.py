"""Options of task=dgcnn: the training schedule, the choice of answers, the readers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from kexue_cli.config import ModelConfig, TaskConfig
from kexue_cli.errors import ConfigError
from kexue_cli.tasks.dgcnn.config_data import DATA_SCHEMAS, check_data


class Scorer(Enum):
    """Whose rules decide whether an answer is right."""

    sogouqa = "sogouqa"  # accuracy and f1 of the contest of kexue.fm 5409, as shares
    cmrc = "cmrc"  # em and f1 of CMRC 2018, in per cent
    squad = "squad"  # em and f1 of SQuAD, in per cent


class Engine(Enum):
    """Who computes embeddings, gated blocks and self-attention on a CPU."""

    auto = "auto"  # native if it can be had here
    native = "native"  # own AVX-512 kernels, float32 or bfloat16
    plain = "plain"  # torch


class CropRule(Enum):
    """Which part of a passage longer than task.max_length is trained on."""

    post = "post"  # kexue.fm 6906: half the time a random piece, else the beginning
    answer = "answer"  # mostly a piece that holds an answer


@dataclass
class StageConfig:
    """One stage of the training."""

    steps: int = 0  # optimiser steps; 0 leaves the stage out
    lr: float | None = None  # null: optim.lr
    patience: int | None = None  # evaluations without gain after which the stage ends


@dataclass
class DgcnnTask(TaskConfig):
    """Reading comprehension over several passages, judged by (accuracy + F1) / 2 of the vote."""

    name: str = "dgcnn"
    _target_: str = "kexue_cli.tasks.dgcnn.task.DgcnnTask"
    scorer: Scorer = Scorer.sogouqa
    batch_size: int = 32  # questions, each with task.together passages
    max_length: int = 256  # tokens of a training passage
    crop: CropRule = CropRule.answer
    positive: float = 0.0  # share of draws that take a passage with an answer; the rest takes any
    joined: float = 0.0  # share of draws with another passage of the question beside theirs
    together: int = 1  # passages of a question under one softmax; more need model=dgcnn
    word_dropout: float = 0.0  # share of words unknown while training
    first: StageConfig = field(default_factory=lambda: StageConfig(steps=600))
    second: StageConfig = field(default_factory=StageConfig)
    evaluate_every: int = 200  # optimiser steps
    valid_questions: int | None = None  # of them, while training; null: all
    threshold: float = 0.1  # of start and of end; model=dgcnn: of a span's probability
    max_answer_length: int = 12  # characters
    repeat_question: bool = True  # whether what stands in the question may be its answer
    vote_power: float | None = None  # passages vote by the sum of score^power; null: as the post
    mention: float = 0.0  # weight in the vote of passages that hold an answer others propose
    engine: Engine = Engine.auto
    window: int = 1024  # tokens read at once when predicting; half of them overlap
    ensemble: list[str] = field(default_factory=list)  # further runs whose mean is taken


@dataclass
class Dgcnn2019(ModelConfig):
    """The open Keras version of kexue.fm 6906: 1,002,883 parameters without embeddings."""

    name: str = "dgcnn_2019"
    task: str = "dgcnn"
    _target_: str = "kexue_cli.tasks.dgcnn.dgcnn_2019.Dgcnn2019"
    n_channels: int = 128
    dropout: float = 0.1
    gate_dropout: float = 0.1
    question_dilations: list[int] = field(default_factory=lambda: [1, 2, 1])
    passage_dilations: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 16, 1])
    word_width: int = 128  # of a word's vector; 0: characters only
    word_vectors: str | None = None  # a file, or "train"; null: learned with the rest
    weights: str | None = None  # npz in Keras' layout to start from


@dataclass
class Dgcnn2018(ModelConfig):
    """The version of kexue.fm 5409: words, positions, gate noise, eight hand features."""

    name: str = "dgcnn_2018"
    task: str = "dgcnn"
    _target_: str = "kexue_cli.tasks.dgcnn.dgcnn_2018.Dgcnn2018"
    n_channels: int = 128
    gate_noise: float = 0.1
    question_dilations: list[int] = field(default_factory=lambda: [1, 2, 1])
    passage_dilations: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 16, 1])
    features: bool = True
    positions: bool = True
    word_width: int = 128  # of a word's vector
    word_vectors: str | None = None  # a file, or "train"; null: learned with the rest


@dataclass
class Reader(ModelConfig):
    """Gated dilated convolutions with bi-attention, matching features and one softmax of spans."""

    name: str = "dgcnn"
    task: str = "dgcnn"
    _target_: str = "kexue_cli.tasks.dgcnn.reader.Reader"
    n_channels: int = 128
    encoder_dilations: list[int] = field(default_factory=lambda: [1, 2])
    mixing_dilations: list[int] = field(default_factory=lambda: [1, 2, 4, 8])
    final_dilations: list[int] = field(default_factory=lambda: [1])
    n_heads: int = 2  # of the self-attention; 0 leaves it out
    bi_attention: bool = True
    match: bool = True  # matching features
    tags: bool = True  # parts of speech
    max_answer_length: int = 64  # of the spans in the softmax
    dropout: float = 0.2
    gate_dropout: float = 0.1
    token_dropout: float = 0.05  # share of positions without embedding while training
    pair_width: int = 64
    word_width: int = 128  # of a word's vector; 0: characters only
    word_vectors: str | None = None  # a file, or "train"; null: learned with the rest


SCHEMAS: dict[str, type] = {
    "task/dgcnn": DgcnnTask,
    "model/dgcnn": Reader,
    "model/dgcnn_2019": Dgcnn2019,
    "model/dgcnn_2018": Dgcnn2018,
    **DATA_SCHEMAS,
}


COUNTS = (
    "batch_size", "max_length", "evaluate_every", "valid_questions", "max_answer_length", "window",
    "together",
)  # fmt: skip
SIZES = {
    "n_channels": 1, "pair_width": 1, "max_answer_length": 1, "n_heads": 0, "word_width": 0,
    "gate_noise": 0,
}  # fmt: skip


def check(cfg: Any) -> None:
    """Rules across fields.

    Raises:
        ConfigError: naming the key, what was expected and what was found.
    """
    check_data(cfg.data, cfg.mode.name == "train")
    task, model = cfg.task, cfg.model
    for key in COUNTS:
        if task[key] is not None and task[key] < 1:
            raise ConfigError(f"task.{key}", f"1 or more, found {task[key]}")
    for key in ("positive", "joined", "word_dropout", "threshold", "mention"):
        if not 0 <= task[key] <= 1:
            raise ConfigError(f"task.{key}", f"from 0 to 1, found {task[key]}")
    if task.vote_power is not None and task.vote_power <= 0:
        raise ConfigError("task.vote_power", f"above 0, or null, found {task.vote_power}")
    if task.together > 1 and model.name != "dgcnn":
        raise ConfigError("task.together", f"1 with model={model.name}: it has no softmax of spans")
    if task.first.steps < 0 or task.second.steps < 0 or not task.first.steps + task.second.steps:
        raise ConfigError("task.first.steps", "nothing to train: both stages have no steps")
    for name in ("first", "second"):
        check_stage(name, task[name])
    if task.ensemble and cfg.mode.name == "train":
        raise ConfigError(
            "task.ensemble",
            "one reader learns alone; the runs answer together in mode=evaluate or predict",
        )
    check_model(model)
    check_question(cfg)


def check_stage(name: str, stage: Any) -> None:
    """Numbers of one stage; raises ConfigError."""
    if stage.lr is not None and stage.lr <= 0:
        raise ConfigError(f"task.{name}.lr", f"above 0, or null, found {stage.lr}")
    if stage.patience is not None and stage.patience < 1:
        raise ConfigError(f"task.{name}.patience", f"1 or more, or null, found {stage.patience}")


def check_model(model: Any) -> None:
    """Sizes and shares of a reader; raises ConfigError."""
    for key, least in SIZES.items():
        if model.get(key, least) < least:
            raise ConfigError(f"model.{key}", f"{least} or more, found {model[key]}")
    for key in ("dropout", "gate_dropout", "token_dropout"):
        if not 0 <= model.get(key, 0) < 1:
            raise ConfigError(f"model.{key}", f"from 0 to below 1, found {model[key]}")
    for key in model:
        if key.endswith("_dilations") and any(dilation < 1 for dilation in model[key]):
            raise ConfigError(f"model.{key}", f"each 1 or more, found {list(model[key])}")
    heads = model.get("n_heads", 0)
    if heads and model.n_channels % heads:
        raise ConfigError(
            "model.n_heads", f"a divisor of {model.n_channels} channels, found {heads}"
        )
    if model.name == "dgcnn_2018" and model.word_width < 1:
        raise ConfigError("model.word_width", "1 or more: dgcnn_2018 reads nothing but words")
    if not model.word_width and model.word_vectors is not None:
        raise ConfigError(
            "model.word_width", "0 reads characters only: give model.word_vectors=null, too"
        )


def check_question(cfg: Any) -> None:
    """`question=` and what goes with it.

    Raises:
        ConfigError: see `check`.
    """
    if bool(cfg.question) != bool(cfg.passages):
        raise ConfigError("question", "question= and passages= go together")
    if cfg.question is not None and not cfg.question.strip():
        raise ConfigError("question", "expected a question, found nothing but blanks")
    if cfg.question and cfg.mode.name != "predict":
        raise ConfigError("question", f"is answered with mode=predict, found {cfg.mode.name}")

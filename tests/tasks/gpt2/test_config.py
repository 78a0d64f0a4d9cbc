"""Values that make no sense are refused before any work, by their key."""

from __future__ import annotations

import math
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from kexue_cli.config import Mode, NoOptim, OptimConfig, RunConfig
from kexue_cli.errors import ConfigError
from kexue_cli.tasks.gpt2.config import CharGpt, Gpt2Task, TextFiles, check


def configured(key: str = "seed", value: Any = 0) -> DictConfig:
    """What gpt2 composes, one value changed."""
    cfg = OmegaConf.structured(
        RunConfig(task=Gpt2Task(), model=CharGpt(), data=TextFiles(), optim=OptimConfig())
    )
    assert isinstance(cfg, DictConfig)
    OmegaConf.update(cfg, key, value)
    return cfg


def test_the_defaults_are_in_their_ranges():
    check(configured())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("task.steps", 0),
        ("task.batch", 0),
        ("task.batch", -1),
        ("task.context", -1),
        ("task.context", 0),
        ("task.evaluate_every", 0),
        ("task.valid_windows", -1),
        ("task.stride", -1),
        ("task.ngram_orders", -1),
        ("task.ngram_tokens", 0),
        ("task.sample_tokens", -1),
        ("task.generation.temperature", math.nan),
        ("task.generation.temperature", 0),
        ("task.generation.repetition_penalty", math.nan),
        ("task.generation.no_repeat_ngram", -1),
        ("task.generation.beams", -1),
        ("task.generation.max_new_tokens", 10**9),
        ("task.generation.samples", 10**8),
        ("task.generation.top_p", 1.5),
        ("model.heads", 0),
        ("model.width", 0),
        ("model.layers", -1),
        ("model.inner", 0),
        ("model.context", 0),
        ("model.dropout", 1.5),
        ("model.dropout", math.nan),
        ("data.vocab_size", -5),
        ("data.valid_fraction", math.nan),
    ],
)
def test_a_value_out_of_its_range_is_refused(key, value):
    with pytest.raises(ConfigError, match=rf"{key}: must be .*, found {value}"):
        check(configured(key, value))


def test_a_beam_search_is_asked_for_no_more_texts_than_it_finds():
    cfg = configured("task.generation", {"beams": 2, "samples": 2})
    with pytest.raises(ConfigError, match=r"generation\.samples: .*length_penalty"):
        check(cfg)
    cfg.task.generation.length_penalty = 1.0
    check(cfg)
    cfg.task.generation.samples = 3
    with pytest.raises(ConfigError, match=r"3 texts are more than beams=2"):
        check(cfg)


def test_training_without_an_optimiser_is_refused_in_words():
    cfg = configured()
    cfg.optim = OmegaConf.structured(NoOptim)
    with pytest.raises(ConfigError, match="optim: task=gpt2 needs an optimiser: muon"):
        check(cfg)
    cfg.mode = Mode.evaluate
    check(cfg)

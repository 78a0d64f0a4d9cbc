"""What tests of this room share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig, OmegaConf

from kexue_cli.config import build
from kexue_cli.tasks.minent import config, memory
from kexue_cli.tasks.minent.data import open_corpus

FRESH_PROCESS_MIB = 400
WORDS = ["the", "cat", "dog", "sat", "mat", "on", "a", "ran", "big", "red"]


@pytest.fixture(autouse=True)
def _fresh_process() -> Iterator[None]:
    """Memory limits count what the process holds; here that is what other rooms' tests left."""
    resident_mib = memory.resident_mib
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "resident_mib", lambda: min(resident_mib(), FRESH_PROCESS_MIB))
        yield


@pytest.fixture
def prose(tmp_path):
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(WORDS, rng.integers(2, 7))) for _ in range(300)]
    path = tmp_path / "prose.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def run_method(make_context, tmp_path):
    """Fit a method on a text; returns its cuts of that text."""
    contexts: list[Any] = []

    def fit(model, content, resume=None, **changes):
        path = tmp_path / "text.txt"
        path.write_text(content)
        corpus = open_corpus(config.TextData(path=str(path), alphabet="any", spaces="strip"))
        node = DictConfig(OmegaConf.structured(config.SCHEMAS[f"model/{model}"]))
        node.merge_with(changes)
        method = build(node, "model")
        ctx = make_context()
        ctx.resume = resume
        contexts.append(ctx)
        method.fit(ctx, corpus)
        cut = method.cut(*corpus.read().segmentable())
        assert len(cut) >= len(method.training_ends())
        return method.training_ends()

    return fit, contexts

"""n-gram baselines: against a direct count, and against independently measured values."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from kexue_cli.tasks.gpt2.ngram import ngram_losses
from kexue_cli.tasks.gpt2.tokenizers import CharTokenizer


def direct_loss(train: list[int], valid: list[int], vocab_size: int, order: int) -> float:
    after: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for i in range(len(train)):
        for n in range(1, order + 1):
            if i - n + 1 >= 0:
                after[tuple(train[i - n + 1 : i])][train[i]] += 1

    def probability(history: tuple[int, ...], token: int) -> float:
        lower = probability(history[1:], token) if history else 1 / vocab_size
        counts = after.get(history)
        if not counts:
            return lower
        return (counts[token] + len(counts) * lower) / (counts.total() + len(counts))

    text = train + valid
    losses = []
    for i in range(len(train), len(text)):
        history = tuple(text[i - order + 1 : i])
        losses.append(-math.log(probability(history, text[i])))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_losses_equal_a_direct_count(order):
    rng = np.random.default_rng(0)
    text = rng.choice(5, size=400, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    text[1::3] = text[::3][: len(text[1::3])]  # something to learn
    found = ngram_losses(text[:300], text[300:], 6, order)[-1]
    assert found == pytest.approx(
        direct_loss(text[:300].tolist(), text[300:].tolist(), 6, order), abs=1e-12
    )


def test_shakespeare_equals_the_values_measured_elsewhere(data_dir):
    text = (data_dir / "shakespeare" / "input.txt").read_text()
    tokenizer = CharTokenizer.of_texts([text])
    ids = tokenizer.encode(text)
    cut = int(0.9 * len(ids))
    losses = ngram_losses(ids[:cut], ids[cut:], tokenizer.vocab_size)
    np.testing.assert_allclose(losses, [3.347, 2.486, 2.049, 1.774, 1.669, 1.698], atol=0.0006)

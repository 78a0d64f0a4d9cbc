"""Parts of `model=dgcnn` against plain loops: matching features, spans, and what batches may do."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kexue_cli.tasks.dgcnn import match_features
from kexue_cli.tasks.dgcnn.batches import Batch
from kexue_cli.tasks.dgcnn.dgcnn_2018 import Dgcnn2018
from kexue_cli.tasks.dgcnn.layers import GatedBlock, sinusoidal_positions
from kexue_cli.tasks.dgcnn.network import Network, rarity_of
from kexue_cli.tasks.dgcnn.reader import Reader, SpanLogits
from kexue_cli.tasks.dgcnn.span_scores import (
    LOWEST,
    span_logits,
    span_loss,
    span_probabilities,
    start_and_end,
)
from kexue_cli.tasks.dgcnn.tags import N_TAGS


def batch_of(rows: list[tuple[list[int], list[int]]], spans: list[list[int]]) -> Batch:
    """Questions and passages of ids; words are the ids, too."""
    question, passage = (
        torch.nn.utils.rnn.pad_sequence([torch.tensor(r[i]) for r in rows], batch_first=True)
        for i in (0, 1)
    )
    features = torch.rand(*passage.shape, 8, generator=torch.Generator().manual_seed(0))
    found = torch.tensor(spans).reshape(-1, 3)
    q_tags, p_tags = question % N_TAGS, passage % N_TAGS
    group = torch.arange(len(rows))
    return Batch(question, question, q_tags, passage, passage, p_tags, features, found, group)


@pytest.fixture(scope="module")
def batch() -> Batch:
    rng = np.random.default_rng(0)
    rows = [
        (rng.integers(2, 9, size=m).tolist(), rng.integers(2, 9, size=n).tolist())
        for m, n in ((5, 30), (3, 21), (6, 2))
    ]
    return batch_of(rows, [[0, 3, 5], [0, 20, 20], [1, 0, 18]])


def test_matching_features_are_what_plain_loops_count(batch: Batch) -> None:
    rarity = rarity_of(9)
    found, of_question = match_features.match_features(
        batch.question, batch.passage, batch.question_words, batch.passage_words, rarity
    )
    q, p = batch.question[0].tolist(), batch.passage[0].tolist()
    q = q[:5]
    total = sum(rarity[c].item() for c in q)
    for i in range(len(p)):
        for column, run in enumerate(match_features.RUNS):
            grams = [tuple(q[j : j + run]) for j in range(len(q) - run + 1)]
            around = [tuple(p[k : k + run]) for k in range(i - run + 1, i + 1) if k >= 0]
            wanted = any(len(gram) == run and gram in grams for gram in around)
            assert found[0, i, column].item() == wanted, (i, run)
        for column, window in enumerate(match_features.WINDOWS):
            near = p[max(0, i - window) : i + window + 1]
            share = sum(rarity[c].item() for c in q if c in near) / total
            at = len(match_features.RUNS) + 2 + column
            assert found[0, i, at].item() == pytest.approx(share, rel=1e-5)
    assert of_question[0, :, 0].tolist() == [float(c in p) for c in q] + [0.0]


def test_every_span_has_the_sum_of_its_parts(batch: Batch) -> None:
    torch.manual_seed(0)
    mask = batch.passage > 0
    start, end = torch.randn(2, *mask.shape).unbind(0)
    pair = torch.randn(*mask.shape, mask.shape[1])
    logits = span_logits(start, end, pair, mask, 4)
    for b in range(3):
        n = int(mask[b].sum())
        for i in range(n):
            for k in range(4):
                wanted = LOWEST
                if i + k < n:
                    wanted = (start[b, i] + end[b, i + k] + pair[b, i, i + k]).item()
                assert logits[b, i, k].item() == pytest.approx(wanted, rel=1e-5)


def test_the_gradient_of_spans_is_that_of_numerical_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = ((2, 7), (2, 7), (2, 7, 7))
    parts = [torch.rand(*size, generator=generator, dtype=torch.float64) for size in sizes]
    mask = torch.arange(7) < torch.tensor([[7], [4]])
    inputs = tuple(part.requires_grad_() for part in parts)
    assert torch.autograd.gradcheck(lambda s, e, pair: span_logits(s, e, pair, mask, 3), inputs)


def test_parts_merged_one_by_one_are_merged_as_if_side_by_side() -> None:
    generator = torch.Generator().manual_seed(0)
    reader = Reader(9, 6, rarity_of(9), 16, generator=generator)
    features = torch.rand(2, 5, match_features.N_PASSAGE_FEATURES, generator=generator)
    mixed, asked = torch.rand(2, 5, 64, generator=generator), torch.rand(2, 16, generator=generator)
    side_by_side = torch.cat([mixed, asked[:, None].expand(-1, 5, -1), features], dim=2)
    found = reader._merge(mixed, asked, features)
    torch.testing.assert_close(found, reader.merge(side_by_side))


def test_loss_is_minus_log_of_the_right_spans_probability(batch: Batch) -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 30, 4).masked_fill((torch.arange(30) > 25)[None, :, None], LOWEST)
    none = torch.randn(3)
    loss = span_loss(logits, none, batch.spans, batch.group)
    spans, empty = span_probabilities(logits, none)
    right = spans[0, 3, 2] + spans[0, 20, 0]
    assert loss[0].item() == pytest.approx(-right.log().item(), rel=1e-5)
    assert loss[1].item() == 0  # its only span has 19 tokens
    assert loss[2].item() == pytest.approx(-empty[2].log().item(), rel=1e-5)
    start, end = start_and_end(spans)
    total = spans.sum(dim=(1, 2))
    torch.testing.assert_close(start.sum(dim=1), total)
    assert end[0, 7].item() == pytest.approx(
        sum(spans[0, 7 - k, k].item() for k in range(4)), rel=1e-5
    )


def test_passages_of_a_question_share_one_softmax(batch: Batch) -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 30, 4, dtype=torch.float64)
    none = torch.randn(3, dtype=torch.float64)
    group = torch.tensor([1, 0, 1])  # the first and the last passage belong together
    loss = span_loss(logits, none, batch.spans, group)
    total = logits[[0, 2]].exp().sum() + none[[0, 2]].exp().sum()
    right = (logits[0, 3, 2].exp() + logits[0, 20, 0].exp()) / total
    assert loss[1].item() == pytest.approx(-right.log().item())
    assert loss[0].item() == 0  # its only span has 19 tokens
    nowhere = span_loss(logits, none, batch.spans[:0], group)
    silent = none[[0, 2]].exp().sum() / total
    assert nowhere[1].item() == pytest.approx(-silent.log().item())


def reader_of(name: str) -> Network:
    generator = torch.Generator().manual_seed(0)
    if name == "dgcnn":
        reader: torch.nn.Module = Reader(9, 6, rarity_of(9), 16, generator=generator)
    else:
        reader = Dgcnn2018(9, 6, 16, generator=generator)
    return Network(reader, 9, 6, generator).eval()


@pytest.mark.parametrize("name", ["dgcnn", "dgcnn_2018"])
def test_a_passage_scores_the_same_whatever_it_is_batched_with(name: str, batch: Batch) -> None:
    network = reader_of(name)
    alone = batch_of([(batch.question[1, :3].tolist(), batch.passage[1, :21].tolist())], [])
    alone.features = batch.features[1:2, :21]
    with torch.no_grad():
        together, single = network(batch), network(alone)
    if isinstance(single, SpanLogits):
        probabilities = [span_probabilities(x.spans, x.none)[0] for x in (together, single)]
        torch.testing.assert_close(probabilities[0][1, :21], probabilities[1][0])
    else:
        torch.testing.assert_close(together.scores()[0][1, :21], single.scores()[0][0])


@pytest.mark.parametrize("options", [{"n_heads": 0}, {"bi_attention": False}, {"match": False}])
def test_parts_can_be_left_out(options: dict[str, int], batch: Batch) -> None:
    network = Network(Reader(9, 6, rarity_of(9), 16, **options), 9, 6)  # type: ignore[arg-type]
    logits = network(batch)
    span_loss(logits.spans, logits.none, batch.spans, batch.group).sum().backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


def test_gate_noise_is_only_there_while_training() -> None:
    torch.manual_seed(0)
    block = GatedBlock(8, 2, gate_noise=0.1)
    x, mask = torch.randn(2, 11, 8), torch.ones(2, 11, dtype=torch.bool)
    quiet = block.eval()(x, mask)
    assert torch.equal(quiet, block(x, mask))
    noisy = block.train()(x, mask)
    assert not torch.equal(quiet, noisy)
    torch.testing.assert_close(quiet, noisy, rtol=0, atol=0.5)


def test_positions_are_sines_and_cosines() -> None:
    found = sinusoidal_positions(7, 6, torch.device("cpu"))
    for position in range(7):
        angles = [position / 10_000 ** (2 * k / 6) for k in range(3)]
        wanted = [*np.sin(angles), *np.cos(angles)]
        np.testing.assert_allclose(found[position].numpy(), wanted, atol=1e-6)

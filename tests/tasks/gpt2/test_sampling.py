"""Filters keep exactly the tokens that the originals keep."""

import numpy as np
import pytest
import torch

from kexue_cli.tasks.gpt2.sampling import (
    draw,
    filtered,
    min_p_mask,
    repeated_ngram_mask,
    repetition_penalty,
    top_k_mask,
    top_p_mask,
)


@pytest.mark.parametrize("p", ["0.1", "0.5", "0.9", "0.95"])
def test_exclusive_top_p_keeps_what_the_original_gpt2_ml_sampler_keeps(data_dir, p):
    reference = np.load(data_dir / "gpt2_ml" / "v300_l12" / "reference.npz")
    logits = torch.from_numpy(reference["topp_logits"])[None].clone()
    logits[:, 0] = -torch.inf  # the original forbids id 0
    kept = top_p_mask(logits, float(p), "exclusive")[0]
    np.testing.assert_array_equal(kept.numpy(), reference[f"topp_keep_{p}"])


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("topk5", {"top_k": 5}),
        ("topp90", {"top_p": 0.9}),
        ("topp50", {"top_p": 0.5}),
        ("temp07", {"temperature": 0.7}),
    ],
)
def test_filters_equal_the_logits_processors_of_transformers(data_dir, name, arguments):
    reference = np.load(data_dir / "gpt2_hf" / "base_act_new" / "reference.npz")
    found = filtered(torch.from_numpy(reference["proc_in"]), **arguments)
    np.testing.assert_allclose(found, reference[f"proc_{name}"], rtol=1e-6)


def test_the_two_rules_differ_by_the_token_that_crosses_p():
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert top_p_mask(logits, 0.7, "inclusive").tolist() == [[True, True, False, False]]
    assert top_p_mask(logits, 0.7, "exclusive").tolist() == [[True, False, False, False]]
    assert top_p_mask(logits, 0.3, "exclusive").tolist() == [[True, False, False, False]]


def test_top_k_larger_than_the_vocabulary_keeps_all():
    assert top_k_mask(torch.randn(2, 5), 9).all()


def test_min_p_is_relative_to_the_likeliest_token():
    logits = torch.tensor([[0.6, 0.3, 0.07, 0.03]]).log()
    assert min_p_mask(logits, 0.1).tolist() == [[True, True, True, False]]


def test_top_p_is_taken_of_what_top_k_leaves():
    logits = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()
    # of the two kept by top-k, the first has 0.4 / 0.7 = 0.571
    kept = filtered(logits, top_k=2, top_p=0.56).isfinite()
    assert kept.tolist() == [[True, False, False, False]]


def test_repetition_penalty_follows_the_sign():
    logits, seen = torch.tensor([[2.0, -2.0, 2.0]]), torch.tensor([[True, True, False]])
    assert repetition_penalty(logits, seen, 2.0).tolist() == [[1.0, -4.0, 2.0]]


def test_no_ngram_comes_twice():
    banned = repeated_ngram_mask([1, 2, 3, 1, 2], 3, 5)
    assert banned.nonzero()[:, 0].tolist() == [3]
    assert not repeated_ngram_mask([1], 3, 5).any()
    assert repeated_ngram_mask([4, 2], 1, 5).nonzero()[:, 0].tolist() == [2, 4]


def test_draws_follow_the_probabilities():
    probabilities = torch.tensor([0.5, 0.3, 0.2])
    generator = torch.Generator().manual_seed(0)
    drawn = draw(probabilities.log().expand(20_000, 3), generator)
    share = torch.bincount(drawn, minlength=3) / len(drawn)
    assert (share - probabilities).abs().max() < 0.015

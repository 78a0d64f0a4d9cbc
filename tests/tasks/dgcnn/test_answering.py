"""Scores of several networks put together."""

import numpy as np
import pytest
import torch

from kexue_cli.tasks.dgcnn.answering import Found, mean_of_tables


def test_readers_of_answers_of_different_length_have_a_mean() -> None:
    short, long = torch.full((1, 2, 2), 0.2), torch.full((1, 2, 3), 0.1)
    mean = mean_of_tables([short, long])
    expected = np.broadcast_to([0.15, 0.15, 0.05], (1, 2, 3))
    np.testing.assert_allclose(mean.numpy(), expected, rtol=1e-6)


def test_what_is_compared_with_the_threshold_shrinks_with_the_scores() -> None:
    heat = np.array([0.5, 0.25], np.float32)
    half = Found({"铁": 0.5}, heat, heat, at=0, highest=0.5).times(0.5)
    assert half.candidates["铁"] == half.highest == pytest.approx(0.25)

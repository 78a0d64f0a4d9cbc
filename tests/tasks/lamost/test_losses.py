"""Both losses against formulas written out in NumPy, and the soft F1 over parts of a batch."""

import numpy as np
import pytest
import torch

from kexue_cli.run.ranks import Ranks
from kexue_cli.tasks.lamost.losses import cross_entropy_sum, soft_f1_loss, soft_f1_sums
from kexue_cli.tasks.lamost.training import Batch, CrossEntropy, SoftF1


def random_batch(n: int = 30, n_classes: int = 4, seed: int = 0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, n_classes)) * 2, rng.integers(n_classes, size=n)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("n_classes", [2, 3, 4, 7])
def test_soft_f1_is_the_posts_formula_with_the_factor_of_k_classes(n_classes: int) -> None:
    z, labels = random_batch(n_classes=n_classes)
    p, y, epsilon = softmax(z), np.eye(n_classes)[labels], 1e-7
    total = 0.0
    for k in range(n_classes):  # the masked arrays of the original keep all columns
        mask = np.arange(n_classes) == k
        total += (y * p * mask).sum() / (y * mask + p * mask + epsilon).sum()
    wanted = -np.log(2 / n_classes * total + epsilon)
    found = soft_f1_loss(torch.from_numpy(z), torch.from_numpy(labels))
    assert found.item() == pytest.approx(wanted, rel=1e-12)


def test_soft_f1_of_certain_right_answers_is_zero_and_of_wrong_ones_large() -> None:
    labels = torch.tensor([0, 1, 2, 3])
    sure = 100 * torch.eye(4, dtype=torch.float64)
    assert soft_f1_loss(sure, labels).item() == pytest.approx(0.0, abs=1e-5)
    assert soft_f1_loss(sure[[1, 2, 3, 0]], labels).item() > 15


def test_soft_f1_counts_a_rare_class_as_much_as_a_common_one() -> None:
    labels = torch.tensor([0] * 97 + [1])
    all_common = torch.tensor([[9.0, -9.0]]).repeat(98, 1).double()
    assert torch.exp(-soft_f1_loss(all_common, labels)).item() == pytest.approx(0.5, abs=0.01)


def test_soft_f1_gradient_is_that_of_finite_differences() -> None:
    z, labels = random_batch(6)
    logits = torch.from_numpy(z).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: soft_f1_loss(x, torch.from_numpy(labels)), logits)


def test_soft_f1_sums_of_parts_add_up_to_those_of_the_whole() -> None:
    z, labels = (torch.from_numpy(part) for part in random_batch())
    parts = soft_f1_sums(z[:11], labels[:11]) + soft_f1_sums(z[11:], labels[11:])
    torch.testing.assert_close(parts, soft_f1_sums(z, labels))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5, 3.0]])
def test_cross_entropy_with_smoothing_and_weights(smoothing: float, weights) -> None:
    z, labels = random_batch()
    w = np.ones(4) if weights is None else np.array(weights)
    target = (1 - smoothing) * np.eye(4)[labels] + smoothing / 4
    per_row = -(target * w * np.log(softmax(z))).sum(axis=1)
    given = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    total, count = cross_entropy_sum(
        torch.from_numpy(z), torch.from_numpy(labels), smoothing, given
    )
    assert total.item() == pytest.approx(per_row.sum(), rel=1e-10)
    assert count.item() == pytest.approx(w[labels].sum())


class Identity(torch.nn.Module):
    def forward(self, flux, kept):
        return flux


def test_stage_losses_divide_to_their_mean() -> None:
    z, labels = (torch.from_numpy(part) for part in random_batch())
    batch = Batch(z, labels, torch.ones(0))
    loss = SoftF1(Ranks())(Identity(), batch)
    assert (loss.sum / loss.count).item() == pytest.approx(soft_f1_loss(z.float(), labels).item())
    loss = CrossEntropy(0.0, None)(Identity(), batch)
    wanted = torch.nn.functional.cross_entropy(z, labels)
    assert (loss.sum / loss.count).item() == pytest.approx(wanted.item(), rel=1e-6)

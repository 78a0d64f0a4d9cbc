"""densenet1d and inception1d: shapes, parameters, gradients, repeatability."""

import pytest
import torch

from kexue_cli.tasks.lamost.densenet1d import DenseNet1d
from kexue_cli.tasks.lamost.inception1d import Inception1d


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("network", [DenseNet1d, Inception1d])
@pytest.mark.parametrize("length", [2600, 333])
def test_logits_for_any_length_and_a_gradient_for_every_weight(network, length: int) -> None:
    model = network(length, 3, generator=generator())
    logits = model(torch.randn(4, length))
    assert logits.shape == (4, 3)
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


@pytest.mark.parametrize("network", [DenseNet1d, Inception1d])
def test_the_same_generator_gives_the_same_weights(network) -> None:
    first, second = (network(300, 3, generator=generator()).state_dict() for _ in range(2))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize("network", [DenseNet1d, Inception1d])
def test_a_given_mask_makes_training_repeatable(network) -> None:
    model = network(300, 3, dropout=0.5, generator=generator()).train()
    x = torch.randn(6, 300)
    kept = model.draw_mask(6, generator())
    assert torch.equal(model(x, kept), model(x, kept))
    assert not torch.equal(model(x, kept), model(x, ~kept))


def test_inception_has_the_parameters_of_inceptiontime() -> None:
    """Counted by hand from the paper's Keras code, kernels one shorter since ours are odd."""
    model = Inception1d(2600, 4)
    first = 32 * (39 + 19 + 9) + 32  # one input channel: no bottleneck
    others = 5 * (128 * 32 + 32 * 32 * (39 + 19 + 9) + 128 * 32)
    norms = 6 * 2 * 128
    shortcuts = (128 + 2 * 128) + (128 * 128 + 2 * 128)
    head = 128 * 4 + 4
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    assert n_parameters == first + others + norms + shortcuts + head


def given_to_blocks(model: DenseNet1d) -> list[int]:
    return [model.get_parameter(f"blocks.{b}.0.layers.0.weight").numel() for b in range(3)]


def test_densenets_blocks_see_all_earlier_scales() -> None:
    model = DenseNet1d(2600, 4, stem=24, growth=12, layers=[3, 3, 3])
    # block 2 is given the stem (24) and transition 1 ((24 + 36) / 2 = 30), block 3 also
    # transition 2 ((54 + 36) / 2 = 45)
    assert given_to_blocks(model) == [24, 54, 99]
    plain = DenseNet1d(2600, 4, stem=24, growth=12, layers=[3, 3, 3], multi_scale=False)
    assert given_to_blocks(plain) == [24, 30, 33]

"""The native kernels compute what torch computes, forward and backward."""

from typing import Any

import pytest
import torch

from kexue_cli.tasks.gpt2.architecture import Architecture
from kexue_cli.tasks.gpt2.loss import IGNORED
from kexue_cli.tasks.gpt2.model import Gpt
from kexue_cli.tasks.gpt2.native_trunk import NativeTrunk, obstacle
from kexue_cli.tasks.gpt2.packed import Batch
from kexue_cli.tasks.gpt2.training import batch_loss

SHAPE: dict[str, Any] = {
    "vocab_size": 23,
    "context": 200,
    "width": 96,
    "layers": 2,
    "heads": 3,
    "inner": 80,
}
CHAR_GPT: dict[str, Any] = {
    "activation": "relu2",
    "positions": "rotary",
    "qk_norm": True,
    "bias": False,
}
missing = obstacle(Architecture(**SHAPE, layout="gpt2"))
needs_native = pytest.mark.skipif(missing is not None, reason=f"no native kernels: {missing}")


def random_model(**parts: Any) -> Gpt:
    model = Gpt(Architecture(**(SHAPE | parts)))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():  # gains and biases, too, are all different
        centre = 0.5 if parameter.ndim < 2 else 0.0
        torch.nn.init.normal_(parameter, centre, 0.1, generator=generator)
    return model


def states_and_gradients(model: Gpt, tokens: torch.Tensor) -> list[torch.Tensor]:
    states = model.hidden(tokens)
    direction = torch.randn(states.shape, generator=torch.Generator().manual_seed(1))
    parameters = [p for name, p in model.named_parameters() if name != "head.weight"]
    gradients = torch.autograd.grad((states * direction.to(states.dtype)).sum(), parameters)
    return [states.detach(), *gradients]


@needs_native
@pytest.mark.parametrize(
    "parts",
    [
        CHAR_GPT,
        {"activation": "gelu_tanh", "bias": True},
        {"activation": "gelu", "bias": False, "tied": False},
        {"activation": "relu2", "qk_norm": True, "scale_attention": False, "epsilon": 0.1},
        {"activation": "gelu", "width": 64, "heads": 4, "inner": 640, "positions": "rotary"},
    ],
)
@pytest.mark.parametrize(("rows", "time"), [(3, 170), (2, 64), (5, 1)])
def test_states_and_gradients_equal_torch_in_float64(parts, rows, time):
    tokens = torch.randint(23, (rows, time), generator=torch.Generator().manual_seed(2))
    model = random_model(**parts)
    model.native = NativeTrunk(model.arch)
    found = states_and_gradients(model, tokens)
    expected = states_and_gradients(random_model(**parts).double(), tokens)
    plain = states_and_gradients(random_model(**parts), tokens)
    for ours, exact, torchs in zip(found, expected, plain, strict=True):
        size = exact.abs().max().clamp_min(1e-30)
        ours_error, torchs_error = (float((x - exact).abs().max() / size) for x in (ours, torchs))
        assert ours_error < max(1e-5, 4 * torchs_error)


@needs_native
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_any_number_of_threads_gives_the_same_gradients(threads):
    tokens = torch.randint(23, (3, 20), generator=torch.Generator().manual_seed(2))
    expected = states_and_gradients(random_model(**CHAR_GPT), tokens)
    model = random_model(**CHAR_GPT)
    model.native = NativeTrunk(model.arch)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = states_and_gradients(model, tokens)
    finally:
        torch.set_num_threads(before)
    for ours, torchs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-4, atol=1e-4)


@needs_native
@pytest.mark.parametrize("vocab_size", [5, 23, 200])
def test_the_loss_and_its_gradients_equal_torchs(vocab_size):
    model = random_model(**CHAR_GPT | {"vocab_size": vocab_size})
    inputs = torch.randint(vocab_size, (3, 14), generator=torch.Generator().manual_seed(2))
    targets = inputs.roll(1, 1).index_fill(1, torch.tensor([4]), IGNORED)
    found = []
    for native in (None, NativeTrunk(model.arch)):
        model.native = native
        for _ in range(2):  # the second time in the memory of the first
            model.zero_grad()
            total = batch_loss(model, Batch(inputs, targets, None)).sum
            (total / 7).backward()
        found.append([total.detach(), *(p.grad for p in model.parameters())])
    for torchs, ours in zip(*found, strict=True):
        assert torchs is not None
        torch.testing.assert_close(ours, torchs, rtol=1e-4, atol=1e-4)


@needs_native
def test_steps_and_evaluations_may_alternate():
    model, plain = random_model(**CHAR_GPT), random_model(**CHAR_GPT)
    model.native = NativeTrunk(model.arch)
    tokens = torch.randint(23, (4, 30), generator=torch.Generator().manual_seed(2))
    for _ in range(3):
        with torch.inference_mode():
            torch.testing.assert_close(model(tokens), plain(tokens), rtol=1e-4, atol=1e-4)
        for one in (model, plain):
            one.zero_grad()
            one(tokens).logsumexp(-1).sum().backward()
            with torch.no_grad():
                for parameter in one.parameters():
                    assert parameter.grad is not None
                    parameter.sub_(1e-3 * parameter.grad)


@needs_native
def test_a_number_that_is_no_number_reaches_the_output():
    model = random_model(**CHAR_GPT)
    model.native = NativeTrunk(model.arch)
    with torch.no_grad():
        model.blocks.get_parameter("0.mlp.expand.weight")[0, 0] = torch.nan
    assert model(torch.ones(1, 5, dtype=torch.long)).isnan().any()


def test_architectures_the_kernels_lack_are_named():
    for parts, reason in (
        ({"layout": "gpt2_ml"}, "layout, not gpt2_ml"),
        ({"norm": "rms"}, "not rms norms"),
        ({"inner": 40}, "multiples of 16"),
        ({"residual_dropout": 0.1}, "no dropout"),
    ):
        assert reason in str(obstacle(Architecture(**(SHAPE | parts))))

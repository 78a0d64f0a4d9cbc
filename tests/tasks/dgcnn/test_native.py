"""The native kernels compute what torch computes, forward and backward."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from kexue_cli.config import Precision
from kexue_cli.errors import ConfigError
from kexue_cli.native.build import NotAvailable
from kexue_cli.tasks.dgcnn import native_attention, native_block
from kexue_cli.tasks.dgcnn.config import Engine
from kexue_cli.tasks.dgcnn.dgcnn_2019 import Dgcnn2019
from kexue_cli.tasks.dgcnn.engine import choose_engine, use_native
from kexue_cli.tasks.dgcnn.layers import GatedBlock, MixedEmbedding
from kexue_cli.tasks.dgcnn.native_block import gated_block, obstacle
from kexue_cli.tasks.dgcnn.reader import SelfAttention

missing = obstacle(n_channels=32, kernel_size=3)
needs_native = pytest.mark.skipif(missing is not None, reason=f"no native kernels: {missing}")
FORMATS = [(torch.float32, 2e-6), (torch.bfloat16, 1e-2)]


def texts(lengths: list[int], n_channels: int) -> tuple[Tensor, Tensor]:
    """Rows of random numbers, zero behind each text's end, and the mask."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    x = torch.randn(*mask.shape, n_channels, generator=generator) * mask[..., None]
    return x.requires_grad_(), mask


def native(
    block: GatedBlock, x: Tensor, mask: Tensor, share: float = 0.0, locked: bool = False
) -> Tensor:
    """The block by the kernels."""
    weight, bias = block.conv.weight, block.conv.bias
    assert bias is not None
    return gated_block(x, mask, weight, bias, block.conv.dilation[0], share, locked)


def with_gradients(y: Tensor, x: Tensor, mask: Tensor, block: GatedBlock) -> list[Tensor]:
    """y, and the gradients of a random projection of it by unmasked x, by weight and bias."""
    direction = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    inputs = [x, *block.conv.parameters()]
    by_x, *others = torch.autograd.grad(y, inputs, direction.to(y.dtype), retain_graph=True)
    return [y, by_x * mask[..., None], *others]


def assert_close(found: list[Tensor], wanted: list[Tensor], tolerance: float) -> None:
    for a, b in zip(found, wanted, strict=True):
        assert (a - b).abs().max() <= tolerance * b.abs().max()


@needs_native
@pytest.mark.parametrize(("dtype", "tolerance"), FORMATS)
@pytest.mark.parametrize(
    ("lengths", "n_channels", "dilation"),
    [
        ([7], 32, 16),  # the taps reach beyond both ends
        ([1, 0, 40, 39], 64, 1),
        ([33, 20, 61, 5, 64, 2, 64, 31, 8, 50], 32, 4),  # more texts than chunks
        ([530, 100, 200, 301], 32, 8),  # several strips, several groups of texts
    ],
)
def test_block_computes_what_torch_does(
    lengths: list[int], n_channels: int, dilation: int, dtype: torch.dtype, tolerance: float
) -> None:
    block = GatedBlock(n_channels, dilation)
    assert block.conv.bias is not None
    torch.nn.init.normal_(block.conv.bias)
    x, mask = texts(lengths, n_channels)
    with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        y = native(block, x, mask)
        assert y.dtype == dtype
        found = with_gradients(y, x, mask, block)
    assert not y[~mask].any()
    exact = block.double()
    wide = x.detach().double().requires_grad_()
    wanted = with_gradients(exact(wide, mask), wide, mask, exact)
    assert_close(found, wanted, tolerance)


@needs_native
def test_a_hole_in_the_mask_is_zero_and_stays_so() -> None:
    block = GatedBlock(32, 2)
    x, mask = texts([9, 12], 32)
    mask[1, 4] = False
    x = (x * mask[..., None]).detach().requires_grad_()
    found = with_gradients(native(block, x, mask), x, mask, block)
    assert_close(found, with_gradients(block(x, mask), x, mask, block), 5e-6)


def kept_gates(shape: tuple[int, int, int], share: float, locked: bool, seed: int) -> Tensor:
    """Which gates a call keeps: its open gates let a 1 through, dropped ones half of it."""
    weight, bias = torch.zeros(2 * shape[2], shape[2], 3), torch.ones(2 * shape[2])
    bias[shape[2] :] = 20
    torch.manual_seed(seed)
    zeros, mask = torch.zeros(shape), torch.ones(shape[:2], dtype=torch.bool)
    return gated_block(zeros, mask, weight, bias, 1, share, locked) > 0.75


@needs_native
@pytest.mark.parametrize("locked", [False, True])
def test_dropped_gates_are_as_many_as_asked_for_and_follow_the_seed(locked: bool) -> None:
    kept = kept_gates((16, 50, 64), 0.3, locked, seed=0)
    assert torch.equal(kept, kept_gates((16, 50, 64), 0.3, locked, seed=0))
    assert not torch.equal(kept, kept_gates((16, 50, 64), 0.3, locked, seed=1))
    assert torch.equal(kept, kept[:, :1].expand_as(kept)) == locked
    drawn = kept[:, :1] if locked else kept
    assert abs(drawn.float().mean() - 0.7) < 4 * (0.21 / drawn.numel()) ** 0.5
    if not locked:  # neighbours in time and channel know nothing of each other
        flat = kept.float() - kept.float().mean()
        for shift in ((0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 16)):
            product = (flat * flat.roll(shift, (0, 1, 2))).mean() / 0.21
            assert abs(product) < 4 / kept.numel() ** 0.5


@needs_native
@pytest.mark.parametrize("locked", [False, True])
def test_block_with_dropout_computes_what_torch_does_with_the_same_gates(locked: bool) -> None:
    block, share = GatedBlock(32, 2), 0.25
    x, mask = texts([21, 30, 13], 32)
    kept = kept_gates(tuple(x.shape), share, locked, seed=3)  # type: ignore[arg-type]
    torch.manual_seed(3)
    y = native(block, x, mask, share, locked)
    value, gate = block.conv(x.transpose(1, 2)).transpose(1, 2).chunk(2, dim=2)
    s = (gate * kept / (1 - share)).sigmoid()
    wanted = (x * (1 - s) + value * s) * mask[..., None]
    assert_close(with_gradients(y, x, mask, block), with_gradients(wanted, x, mask, block), 5e-6)


@needs_native
def test_results_do_not_depend_on_the_number_of_threads() -> None:
    block, threads = GatedBlock(32, 4), torch.get_num_threads()
    x, mask = texts([30, 41, 12, 64, 3], 32)
    found = []
    try:
        for n in (1, 3):
            torch.set_num_threads(n)
            torch.manual_seed(0)
            y = native(block, x, mask, 0.1)
            found.append(with_gradients(y, x, mask, block))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def attended(part: SelfAttention, x: Tensor, mask: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """What the shown positions see, and the gradients of a random projection of it."""
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(x.shape, generator=generator) * mask[..., None]
    with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        y = part(x, mask)
    inputs = [x, *part.parameters()]
    return [y * mask[..., None], *torch.autograd.grad(y, inputs, direction.to(y.dtype))]


@needs_native
@pytest.mark.parametrize(("dtype", "tolerance"), FORMATS)
@pytest.mark.parametrize(
    ("lengths", "n_channels", "n_heads"),
    [([5, 40, 1], 64, 2), ([224, 97, 96], 128, 2), ([33], 32, 1)],
)
def test_self_attention_computes_what_torch_does(
    lengths: list[int], n_channels: int, n_heads: int, dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    part = SelfAttention(n_channels, n_heads)
    x, mask = texts(lengths, n_channels)
    mask[0, 2] = False  # a hole
    wanted = attended(part, x, mask, torch.float32)
    part.native = True
    assert_close(attended(part, x, mask, dtype), wanted, 2 * tolerance)
    with torch.no_grad():
        assert_close([part(x, mask) * mask[..., None]], wanted[:1], FORMATS[0][1])


@needs_native
def test_self_attention_does_not_depend_on_the_number_of_threads() -> None:
    part, threads = SelfAttention(64, 2), torch.get_num_threads()
    part.native = True
    x, mask = texts([30, 141, 12, 64, 3], 64)
    rows = part.project(x)
    found = []
    try:
        for n in (1, 3):
            torch.set_num_threads(n)
            seen = native_attention.self_attention(rows, mask, 2)
            found.append((seen, *torch.autograd.grad(seen.square().sum(), rows, retain_graph=True)))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@needs_native
def test_narrow_heads_and_other_precisions_are_left_to_torch() -> None:
    assert native_attention.takes(torch.zeros(1, 4, 96), 1)
    assert not native_attention.takes(torch.zeros(1, 4, 96), 2)
    assert not native_attention.takes(torch.zeros(1, 4, 96, dtype=torch.float64), 1)


@needs_native
@pytest.mark.parametrize("width", [0, 5])
def test_embedding_computes_what_torch_does(width: int) -> None:
    plain = MixedEmbedding(11, 32, width)
    ids = torch.randint(11, (4, 9), generator=torch.Generator().manual_seed(0))
    vectors = torch.randn(4, 9, width, generator=torch.Generator().manual_seed(1))
    direction = torch.randn(4, 9, 32, generator=torch.Generator().manual_seed(2))
    results = []
    for plain.native in (False, True):
        y = plain(ids, vectors)
        results.append([y, *torch.autograd.grad(y, list(plain.parameters()), direction)])
    assert_close(results[1], results[0], 1e-6)


@needs_native
@pytest.mark.parametrize(("dtype", "tolerance"), FORMATS)
def test_dropout_of_the_embedding_drops_the_same_going_back(
    dtype: torch.dtype, tolerance: float
) -> None:
    plain = MixedEmbedding(11, 64, 0, dropout=0.25)
    plain.native = True
    ids = torch.randint(11, (20, 30), generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        y = plain(ids, torch.zeros(20, 30, 0))
    assert y.dtype == dtype
    kept = y != 0
    assert abs(kept.float().mean() - 0.75) < 4 * (0.1875 / kept.numel()) ** 0.5
    wanted = torch.zeros(11, 64).index_add_(0, ids.flatten(), kept.float().flatten(0, 1) / 0.75)
    (found,) = torch.autograd.grad(y.float().sum(), plain.characters.weight)
    assert_close([y, found], [plain.characters.weight[ids] * kept / 0.75, wanted], tolerance)


@needs_native
def test_ids_that_the_table_has_not_are_refused() -> None:
    plain = MixedEmbedding(11, 32, 0)
    plain.native = True
    for bad in (11, -1):
        with pytest.raises(IndexError, match="table of 11"):
            plain(torch.tensor([[3, bad]]), torch.zeros(1, 2, 0))


def settings(engine: str, compiled: bool = False) -> Any:
    device = SimpleNamespace(compile=compiled)
    return SimpleNamespace(task=SimpleNamespace(engine=Engine[engine]), device=device)


def device(kind: str = "cpu", precision: Precision = Precision.fp32) -> Any:
    return SimpleNamespace(type=kind, precision=precision)


@needs_native
def test_engine_says_who_computes() -> None:
    network = Dgcnn2019(30, 8, 32)
    assert "torch (asked for)" in choose_engine(network, settings("plain"), device())
    assert not any(getattr(part, "native", False) for part in network.modules())
    assert "native" in choose_engine(network, settings("auto"), device())
    assert all(block.native for block in network.passage_blocks)


@needs_native
@pytest.mark.parametrize(
    ("n_channels", "where", "compiled", "reason"),
    [
        (16, device(), False, "multiples of 32"),
        (32, device("cuda"), False, "on a CPU"),
        (32, device(precision=Precision.fp16), False, "not fp16"),
        (32, device(), True, "torch compiles"),
    ],
)
def test_torch_computes_what_the_kernels_cannot(
    n_channels: int, where: Any, compiled: bool, reason: str
) -> None:
    network = Dgcnn2019(30, 8, n_channels)
    assert reason in choose_engine(network, settings("auto", compiled), where)
    with pytest.raises(ConfigError, match=rf"task.engine.*{reason}"):
        choose_engine(network, settings("native", compiled), where)


def test_without_a_compiler_torch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    def library() -> None:
        raise NotAvailable("no g++")

    monkeypatch.setattr(native_block, "library", library)
    chosen = choose_engine(Dgcnn2019(30, 8, 32), settings("auto"), device())
    assert chosen == "embedding and gated blocks by torch (no g++)"


@needs_native
@pytest.mark.parametrize(("n_channels", "dtype"), [(32, torch.float64), (16, torch.float32)])
def test_other_precisions_and_widths_are_left_to_torch(n_channels: int, dtype: torch.dtype) -> None:
    model = Dgcnn2019(30, 8, n_channels, dropout=0.0, gate_dropout=0.0).to(dtype)
    ids, vectors = torch.randint(1, 30, (2, 6)), torch.randn(2, 6, 8, dtype=dtype)
    plain = model.read(ids, vectors, ids, vectors)
    use_native(model)
    assert torch.equal(model.read(ids, vectors, ids, vectors).start, plain.start)

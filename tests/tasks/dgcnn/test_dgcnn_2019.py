"""The Keras version of 2019: its outputs, loss and gradients, its size, its weights' file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kexue_cli.errors import UserError
from kexue_cli.tasks.common.keras_arrays import other_layout
from kexue_cli.tasks.dgcnn.dgcnn_2019 import Dgcnn2019, Logits
from kexue_cli.tasks.dgcnn.engine import use_native
from kexue_cli.tasks.dgcnn.focal_loss import focal_loss, focal_loss_sum
from kexue_cli.tasks.dgcnn.keras_weights import (
    keras_parameters,
    load_keras_weights,
    save_keras_weights,
)
from kexue_cli.tasks.dgcnn.native_block import obstacle

Arrays = dict[str, np.ndarray]


needs_native = pytest.mark.skipif(
    obstacle(128, 3) is not None, reason=f"no native kernels: {obstacle(128, 3)}"
)
engines = pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_native)])


@pytest.fixture(scope="module")
def reference(data_dir: Path) -> Path:
    return data_dir / "keras_reference" / "dgcnn"


def model_of(weights: Arrays) -> Dgcnn2019:
    n_characters, n_channels = weights["embed/char_embeddings"].shape
    width = weights["embed/word_dense/kernel"].shape[0]
    return Dgcnn2019(n_characters, width, n_channels).eval()


def loaded(reference: Path, dtype: torch.dtype, native: bool = False) -> tuple[Dgcnn2019, Arrays]:
    with np.load(reference / "weights.npz") as file:
        model = model_of(dict(file))
    load_keras_weights(model, reference / "weights.npz")
    if native:
        use_native(model)
    with np.load(reference / "inputs_outputs.npz") as file:
        return model.to(dtype), dict(file)


def run(model: Dgcnn2019, arrays: Arrays, dtype: torch.dtype) -> Logits:
    found = model.read(
        torch.tensor(arrays["in/q_char_ids"]),
        torch.tensor(arrays["in/q_word_vecs"], dtype=dtype),
        torch.tensor(arrays["in/p_char_ids"]),
        torch.tensor(arrays["in/p_word_vecs"], dtype=dtype),
    )
    assert isinstance(found, Logits)
    return found


def loss_of(logits: Logits, arrays: Arrays) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.tensor(arrays["in/p_char_ids"]) > 0
    targets = tuple(torch.tensor(arrays[f"in/{side}_targets"]) for side in ("start", "end"))
    start, end = focal_loss_sum(logits.whole, logits.start, logits.end, targets, mask)  # type: ignore[arg-type]
    return start / mask.sum(), end / mask.sum()


@engines
def test_outputs_are_those_of_keras(reference: Path, native: bool) -> None:
    model, arrays = loaded(reference, torch.float32, native)
    with torch.no_grad():
        logits = run(model, arrays, torch.float32)
    start, end = logits.scores()
    assert np.abs(start.numpy() - arrays["out/start_probs"]).max() < 2e-6
    assert np.abs(end.numpy() - arrays["out/end_probs"]).max() < 2e-6
    assert np.abs(logits.whole.sigmoid().numpy() - arrays["out/p_global"][:, 0]).max() < 2e-6


@engines
def test_loss_is_that_of_keras(reference: Path, native: bool) -> None:
    model, arrays = loaded(reference, torch.float32, native)
    start, end = loss_of(run(model, arrays, torch.float32), arrays)
    assert start.item() == pytest.approx(float(arrays["loss64/start"]), rel=2e-6)
    assert end.item() == pytest.approx(float(arrays["loss64/end"]), rel=2e-6)
    total = 100 * (start + end).item()
    assert total == pytest.approx(float(arrays["loss64/total_x100"]), rel=2e-6)


@engines
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 2e-7)])
def test_gradients_are_those_of_keras(
    reference: Path, dtype: torch.dtype, tolerance: float, native: bool
) -> None:
    model, arrays = loaded(reference, dtype, native)
    (100 * sum(loss_of(run(model, arrays, dtype), arrays))).backward()  # type: ignore[union-attr]
    with np.load(reference / "gradients.npz") as wanted:
        assert set(wanted.files) == set(keras_parameters(model))
        for name, parameter in keras_parameters(model).items():
            assert parameter.grad is not None
            found = other_layout(name, parameter.grad.numpy())
            assert np.abs(found - wanted[name]).max() <= tolerance * np.abs(wanted[name]).max(), (
                name
            )


def test_has_as_many_parameters_as_the_original() -> None:
    model = Dgcnn2019(n_characters=6002, word_width=256)
    n_embeddings = 128 * 6002 + 256 * 128
    assert sum(p.numel() for p in model.parameters()) == 1_002_883 + n_embeddings


@engines
def test_padding_changes_nothing(reference: Path, native: bool) -> None:
    model, arrays = loaded(reference, torch.float32, native)
    longer = dict(arrays)
    for side, n in (("q", 4), ("p", 9)):
        longer[f"in/{side}_char_ids"] = np.pad(arrays[f"in/{side}_char_ids"], ((0, 0), (0, n)))
        longer[f"in/{side}_word_vecs"] = np.pad(
            arrays[f"in/{side}_word_vecs"], ((0, 0), (0, n), (0, 0))
        )
    with torch.no_grad():
        short, padded = (run(model, given, torch.float32) for given in (arrays, longer))
    torch.testing.assert_close(padded.start[:, : short.start.shape[1]], short.start)
    torch.testing.assert_close(padded.whole, short.whole)


def test_weights_written_are_the_weights_read(tmp_path: Path) -> None:
    first, second = (
        Dgcnn2019(30, 8, 16, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)
    )
    save_keras_weights(first, tmp_path / "weights.npz")
    load_keras_weights(second, tmp_path / "weights.npz")
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_weights_of_another_size_are_refused_by_name(tmp_path: Path) -> None:
    save_keras_weights(Dgcnn2019(30, 8, 16), tmp_path / "weights.npz")
    model = Dgcnn2019(31, 8, 16)
    with pytest.raises(UserError, match=r"embed/char_embeddings has shape \(30, 16\).*\(31, 16\)"):
        load_keras_weights(model, tmp_path / "weights.npz")
    with pytest.raises(UserError, match=r"unknown: .*embed/word_dense/kernel"):
        load_keras_weights(Dgcnn2019(30, 0, 16), tmp_path / "weights.npz")


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_focal_loss_is_finite_where_the_probability_is_not_between_zero_and_one(
    target: float,
) -> None:
    logits = torch.tensor([[-1e4, -200.0, -50.0, 0.0, 50.0, 200.0, 1e4]], requires_grad=True)
    loss = focal_loss(torch.tensor([[60.0]]), logits, torch.full_like(logits, target))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    if target:  # as the original, which clips at 1e-8
        assert loss[0, 0].item() == pytest.approx(4.6051702, rel=1e-6)


def test_focal_loss_agrees_with_its_definition() -> None:
    rng = np.random.default_rng(0)
    whole, logits = rng.normal(size=(5, 1)) * 3, rng.normal(size=(5, 8)) * 3
    targets = rng.integers(0, 2, size=(5, 8))
    p = 1 / (1 + np.exp(-whole)) / (1 + np.exp(-logits))
    wanted = np.where(targets, -0.25 * (1 - p) ** 2 * np.log(p), -0.75 * p**2 * np.log(1 - p))
    found = focal_loss(torch.tensor(whole), torch.tensor(logits), torch.tensor(targets))
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-9)

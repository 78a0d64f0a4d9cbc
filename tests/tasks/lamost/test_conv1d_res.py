"""The post's network against the Keras original, and the native kernels against torch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kexue_cli.errors import ConfigError, UserError
from kexue_cli.native.build import NotAvailable
from kexue_cli.tasks.common.keras_arrays import other_layout
from kexue_cli.tasks.lamost import native_build, native_trunk
from kexue_cli.tasks.lamost.conv1d_res import Conv1dRes
from kexue_cli.tasks.lamost.keras_weights import (
    keras_parameters,
    load_keras_weights,
    save_keras_weights,
)
from kexue_cli.tasks.lamost.losses import soft_f1_loss


def native_missing() -> bool:
    try:
        native_build.library()
    except NotAvailable:
        return True
    return False


needs_native = pytest.mark.skipif(native_missing(), reason="no native kernels on this machine")
ENGINES = ["plain", pytest.param("native", marks=needs_native)]


@pytest.fixture
def reference(data_dir: Path) -> Path:
    folder = data_dir / "keras_reference" / "lamost"
    if not folder.is_dir():
        pytest.skip("no Keras reference outputs")
    return folder


def keras_model(reference: Path, engine: str, dtype: torch.dtype = torch.float32) -> Conv1dRes:
    model = Conv1dRes(2600, 4, engine=engine)
    load_keras_weights(model, reference / "weights.npz")
    return model.to(dtype).eval()


def small(engine: str, length: int = 203, filters: tuple[int, ...] = (16, 32, 32)) -> Conv1dRes:
    """A small network whose biases are not zero."""
    generator = torch.Generator().manual_seed(3)
    model = Conv1dRes(length, 4, filters=filters, engine=engine, generator=generator)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.normal_(0, 0.1, generator=generator)
    return model.eval()


def flux(n: int, length: int = 203, seed: int = 4) -> torch.Tensor:
    return torch.randn(n, length, generator=torch.Generator().manual_seed(seed))


def gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad


def test_has_the_posts_number_of_parameters() -> None:
    model = Conv1dRes(2600, 4, engine="plain")
    assert sum(parameter.numel() for parameter in model.parameters()) == 748_324


def test_starts_from_glorot_uniform_weights_and_zero_biases() -> None:
    model = Conv1dRes(2600, 4, engine="plain")
    weight = model.get_parameter("blocks.6.convs.1.conv.weight").detach()
    limit = np.sqrt(6 / (3 * 128 + 3 * 256))
    assert 0.99 * limit < weight.abs().max() <= limit
    assert weight.std() == pytest.approx(limit / np.sqrt(3), rel=0.01)
    assert all((p == 0).all() for p in model.parameters() if p.ndim == 1)


@pytest.mark.parametrize("engine", ENGINES)
def test_blocks_and_probabilities_equal_keras(reference: Path, engine: str) -> None:
    wanted = np.load(reference / "inputs_outputs.npz")
    model = keras_model(reference, engine)
    x = torch.from_numpy(wanted["in/flux"][..., 0])
    with torch.no_grad():
        features = model.features(x)
        probabilities = model(x).softmax(dim=1).numpy()
    last = wanted["out/block8"]
    assert np.abs(features[0].T.numpy() - last).max() <= 5e-6 * np.abs(last).max()
    assert (
        np.abs(features.amax(dim=2).numpy() - wanted["out/global_max"]).max() <= 5e-6 * last.max()
    )
    assert np.abs(probabilities - wanted["out/probs"]).max() <= 5e-6


def test_every_block_equals_keras(reference: Path) -> None:
    wanted = np.load(reference / "inputs_outputs.npz")
    model = keras_model(reference, "plain")
    x = torch.from_numpy(wanted["in/flux"][:1, :, 0])[:, None]
    with torch.no_grad():
        for number, block in enumerate(model.blocks, start=1):
            x = block(F.max_pool1d(x, 2) if number > 1 else x)
            keras = wanted[f"out/block{number}"]
            assert np.abs(x[0].T.numpy() - keras).max() <= 5e-6 * np.abs(keras).max(), number


@pytest.mark.parametrize("engine", ENGINES)
def test_a_given_dropout_mask_gives_keras_probabilities(reference: Path, engine: str) -> None:
    wanted = np.load(reference / "inputs_outputs.npz")
    model = keras_model(reference, engine).train()
    x = torch.from_numpy(wanted["in/flux"][..., 0])
    kept = torch.from_numpy(wanted["in/dropout_keep_mask"][..., 0]).bool()[:, None]
    with torch.no_grad():
        logits = model(x, kept)
    found = logits.softmax(dim=1).numpy()
    assert np.abs(found - wanted["out/probs_with_mask"]).max() <= 5e-6
    loss = F.cross_entropy(logits, torch.from_numpy(wanted["in/labels"]))
    assert loss.item() == pytest.approx(float(wanted["loss/cross_entropy_with_mask"]), rel=2e-6)


@pytest.mark.parametrize(
    ("engine", "dtype", "tolerance"),
    [
        ("plain", torch.float64, 2e-7),
        ("plain", torch.float32, 5e-5),
        pytest.param("native", torch.float32, 5e-5, marks=needs_native),
    ],
)
@pytest.mark.parametrize("name", ["cross_entropy", "soft_f1"])
def test_losses_and_all_gradients_equal_keras(
    reference: Path, engine: str, dtype: torch.dtype, tolerance: float, name: str
) -> None:
    wanted = np.load(reference / "inputs_outputs.npz")
    gradients = np.load(reference / f"gradients_{name}.npz")
    model = keras_model(reference, engine, dtype)
    logits = model(torch.from_numpy(wanted["in/flux"][..., 0]).to(dtype))
    labels = torch.from_numpy(wanted["in/labels"])
    loss = (F.cross_entropy if name == "cross_entropy" else soft_f1_loss)(logits, labels)
    loss.backward()
    exact = float(wanted[f"loss64/{name}"])
    assert loss.item() == pytest.approx(exact, rel=1e-8 if dtype is torch.float64 else 2e-6)
    parameters = keras_parameters(model)
    assert parameters.keys() == set(gradients.files)
    for key, parameter in parameters.items():
        assert parameter.grad is not None
        off = np.abs(other_layout(key, parameter.grad.numpy()) - gradients[key]).max()
        assert off <= tolerance * np.abs(gradients[key]).max(), key


def test_keras_weights_come_back_as_they_were_saved(tmp_path: Path) -> None:
    model, other = small("plain"), Conv1dRes(203, 4, filters=(16, 32, 32), engine="plain")
    save_keras_weights(model, tmp_path / "weights.npz")
    load_keras_weights(other, tmp_path / "weights.npz")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_keras_weights_of_another_width_are_refused_by_name_and_shape(tmp_path: Path) -> None:
    save_keras_weights(small("plain"), tmp_path / "w.npz")
    narrow = Conv1dRes(203, 4, filters=(16, 32, 48), engine="plain")
    with pytest.raises(UserError, match=r"unknown: none.*model.filters|has shape"):
        load_keras_weights(narrow, tmp_path / "w.npz")
    wide = Conv1dRes(203, 5, filters=(16, 32, 32), engine="plain")
    before = wide.output.weight.clone()
    with pytest.raises(UserError, match=r"dense2/kernel has shape \(128, 4\), the model needs"):
        load_keras_weights(wide, tmp_path / "w.npz")
    assert torch.equal(before, wide.output.weight)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04broken"])
def test_a_file_that_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not an npz"):
        load_keras_weights(small("plain"), path)


@needs_native
@pytest.mark.parametrize("length", [203, 64, 31])
@pytest.mark.parametrize("filters", [(16, 32, 32), (48, 16), (32,)])
def test_native_features_equal_torch_in_float32(length: int, filters: tuple[int, ...]) -> None:
    model = small("native", length, filters)
    x = flux(21, length)  # one chunk of 16 and a short one
    with torch.no_grad():
        found, wanted = model.features(x), model.plain_features(x)
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= 2e-6 * wanted.abs().max()


@needs_native
@pytest.mark.parametrize("filters", [(16, 32, 32), (48, 16), (32,)])
def test_native_gradients_equal_torch_in_float64(filters: tuple[int, ...]) -> None:
    model = small("native", 203, filters)
    x = flux(21)
    weight = torch.randn(model.features(x).shape, generator=torch.Generator().manual_seed(5))
    (model.features(x) * weight).sum().backward()
    trunk = dict(model.blocks.named_parameters())
    found = {name: gradient(parameter).double() for name, parameter in trunk.items()}
    model.zero_grad()
    model.double()
    (model.plain_features(x.double()) * weight.double()).sum().backward()
    for name, parameter in model.blocks.named_parameters():
        off = (found[name] - gradient(parameter)).norm() / gradient(parameter).norm()
        assert off < 5e-3, name  # a ReLU decided by rounding shifts single entries, see below


@needs_native
def test_native_gradients_are_exact_where_no_relu_is_near_its_corner() -> None:
    """With large positive biases all ReLUs are open; pools of equal sign stay apart."""
    model = small("native", 40, (16, 32))
    with torch.no_grad():
        for name, parameter in model.blocks.named_parameters():
            if name.endswith("bias"):
                parameter.add_(3.0)
            else:
                parameter.mul_(0.3)
    x = flux(3, 40)
    model.features(x).square().sum().backward()
    found = {name: gradient(p).double() for name, p in model.blocks.named_parameters()}
    model.zero_grad()
    model.double()
    model.plain_features(x.double()).square().sum().backward()
    for name, parameter in model.blocks.named_parameters():
        off = (found[name] - gradient(parameter)).abs().max() / gradient(parameter).abs().max()
        assert off < 2e-6, name


@needs_native
def test_bfloat16_is_as_close_to_float64_as_torchs_autocast() -> None:
    model = small("native")
    x = flux(21)
    exact = small("plain").double().plain_features(x.double())

    def error(features: torch.Tensor) -> float:
        return float((features.double() - exact).norm() / exact.norm())

    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        native, plain = error(model.features(x)), error(model.plain_features(x))
    assert native < 1.5 * plain
    assert native < 0.01


@needs_native
@pytest.mark.parametrize("length", [203, 100, 64, 31, 12])
@pytest.mark.parametrize("filters", [(16, 32, 32), (48, 16), (32,), (64, 128)])
def test_bfloat16_gradients_are_as_close_to_float64_as_torchs_autocast(
    length: int, filters: tuple[int, ...]
) -> None:
    """Lengths and widths that fill the registers' tiles, and that leave parts of them over."""
    model = small("native", length, filters)
    x = flux(21, length)
    weight = torch.randn(model.features(x).shape, generator=torch.Generator().manual_seed(5))

    def gradients(features: Callable[[torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = features(x)
        (found.float() * weight).sum().backward()
        return [gradient(parameter).double() for parameter in model.blocks.parameters()]

    native, plain = gradients(model.features), gradients(model.plain_features)
    model.zero_grad()
    model.double()
    (model.plain_features(x.double()) * weight.double()).sum().backward()
    exact = [gradient(parameter) for parameter in model.blocks.parameters()]

    def errors(found: list[torch.Tensor]) -> list[float]:
        return [float((a - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True)]

    assert max(errors(native)) < 1.5 * max(errors(plain))


@needs_native
def test_bfloat16_keeps_small_differences_on_a_high_continuum() -> None:
    """The flux enters with 16 significant bits: an absorption line of 0.1 % is still seen."""
    model = small("native", 203, (16,))
    x = torch.full((1, 203), 100.0)
    line = x.clone()
    line[0, 100] -= 0.1
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        changed = (model.features(line) - model.features(x)).abs().max()
    assert changed > 0


@needs_native
@pytest.mark.parametrize("bfloat16", [False, True])
def test_results_do_not_depend_on_the_number_of_threads(bfloat16: bool) -> None:
    model = small("native")
    x = flux(50)
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            model.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
                features = model.features(x)
            features.sum().backward()
            gradients = [gradient(p).clone() for p in model.blocks.parameters()]
            found.append([features.detach(), *gradients])
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@needs_native
def test_an_input_that_needs_its_gradient_takes_the_plain_way() -> None:
    model = small("native")
    x = flux(2).requires_grad_()
    model(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() > 0


@needs_native
def test_a_nan_in_the_flux_is_not_hidden() -> None:
    x = flux(2)
    x[1, 50] = float("nan")
    with torch.no_grad():
        logits = small("native")(x)
    assert not logits[0].isnan().any()
    assert logits[1].isnan().all()


def test_auto_says_why_it_fell_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise NotAvailable("no C++ compiler (g++ or clang++) was found")

    monkeypatch.setattr(native_trunk.native_build, "library", missing)
    engine = Conv1dRes(2600, 4).engine
    assert engine.name == "plain"
    assert "no C++ compiler" in engine.reason
    with pytest.raises(ConfigError, match=r"model.engine.*no C\+\+ compiler"):
        Conv1dRes(2600, 4, engine="native")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"kernel_size": 5}, "kernel size 3"),
        ({"pair_sum": False}, "pair-sum"),
        ({"filters": (8, 16)}, "multiples of 16"),
    ],
)
def test_settings_the_kernels_lack_are_computed_by_torch(options: dict, reason: str) -> None:
    model = Conv1dRes(128, 3, **options)
    assert model.engine.name == "plain"
    assert reason in model.engine.reason
    assert model(torch.randn(2, 128)).shape == (2, 3)


@needs_native
def test_a_compiler_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KEXUE_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("CXX", "false")
    native_build.library.cache_clear()
    try:
        with pytest.raises(NotAvailable, match="false failed"):
            native_build.library()
        assert not list((tmp_path / "native").iterdir())
    finally:
        native_build.library.cache_clear()


@pytest.mark.parametrize("dilations", [(), (-64, 2), (1, 0)])
def test_the_kernels_take_no_dilation_that_leaves_their_rows(dilations: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"model\.dilations: one or more numbers above 0"):
        native_trunk.NativeTrunk(128, (16, 16), dilations)


def test_the_kernels_take_no_flux_of_another_length() -> None:
    trunk = native_trunk.NativeTrunk(128, (16, 16), (1, 2))
    assert not trunk.takes(torch.zeros(2, 127))

"""The posts' networks equal the Keras originals: outputs, loss for given noise, gradients."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from kexue_cli.tasks.vae import vmf

spec = importlib.util.spec_from_file_location(
    "vae_reference", Path(__file__).with_name("reference.py")
)
assert spec is not None
assert spec.loader is not None
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)

NAMES = ["vae", "cvae", "vae_cnn", "vae_cnn_gs", "vae_vmf"]
TOLERANCES = [(torch.float32, 3e-6, 1e-5), (torch.float64, 6e-7, 2e-7)]


@pytest.fixture
def folder(data_dir: Path) -> Path:
    return data_dir / "keras_reference" / "vae"


def noise_of(name: str, given: dict[str, np.ndarray]) -> np.ndarray:
    """The stored draw as our (batch, noise) array."""
    match name:
        case "vae_cnn_gs":
            return given["in/uniform"].reshape(len(given["in/uniform"]), -1)
        case "vae_vmf":
            return np.concatenate([given["in/w"], given["in/eps"]], 1)
    return given["in/eps"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "close", "gradient_close"), TOLERANCES)
def test_outputs_loss_and_gradients_equal_keras(
    folder: Path, name: str, dtype: torch.dtype, close: float, gradient_close: float
) -> None:
    given = reference.arrays(folder, f"{name}_inputs_outputs.npz")
    model = reference.model_for(name, dtype)
    reference.load_weights(model, reference.arrays(folder, f"{name}_weights.npz"))
    if name == "vae_cnn_gs":
        model.latent.temperature = float(given["config/TAU"])

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(dtype)

    x = tensor(given["in/x"]).flatten(1).unsqueeze(0)
    labels = tensor(given["in/y"]).unsqueeze(0) if "in/y" in given else None
    noise = tensor(noise_of(name, given)).view(1, x.shape[1], 1, -1)
    terms = model(x, labels, 1, noise)
    stored = given["out64/z" if dtype == torch.float64 else "out/z"].reshape(x.shape[1], -1)
    z_close = 1e-9 if dtype == torch.float64 else close
    np.testing.assert_allclose(terms.draw.z[0, :, 0].detach(), stored, atol=z_close)
    reconstruction = -terms.log_likelihood[0, :, 0]
    np.testing.assert_allclose(
        reconstruction.detach(), given["loss/reconstruction_per_example"], rtol=close
    )
    kl = keras_kl(name, model, terms)
    if "loss/kl_per_example" in given:
        np.testing.assert_allclose(kl.detach(), given["loss/kl_per_example"], rtol=2e-6, atol=2e-6)
    total = (reconstruction + kl).mean()
    assert float(total.detach()) == pytest.approx(float(given["loss64/total"]), rel=1e-6)
    total.backward()
    check_gradients(model, reference.arrays(folder, f"{name}_gradients.npz"), gradient_close)


def keras_kl(name, model, terms) -> torch.Tensor:
    """Keras' KL term: without the Gumbel model's constant, and none for the fixed-kappa sphere."""
    kl = terms.draw.kl.sum(-1)[0]
    if name == "vae_vmf":
        return torch.zeros_like(kl)
    if name == "vae_cnn_gs":
        return kl - model.latent.variables * np.log(model.latent.classes)
    return kl


def check_gradients(model: torch.nn.Module, expected: dict[str, np.ndarray], close: float) -> None:
    layers = reference.layers_of(model)
    assert {key.split("/")[0] for key in expected} == set(layers)
    for key, value in expected.items():
        name, kind = key.split("/")
        parameter = layers[name].weight if kind == "kernel" else layers[name].bias
        ours = reference.ours_to_keras(layers[name], kind, parameter.grad).numpy()
        np.testing.assert_allclose(ours, value, atol=close * np.abs(value).max(), err_msg=key)


@pytest.mark.parametrize("name", NAMES)
def test_decoder_alone_equals_keras(folder: Path, name: str) -> None:
    given = reference.arrays(folder, f"{name}_inputs_outputs.npz")
    model = reference.model_for(name, torch.float32)
    reference.load_weights(model, reference.arrays(folder, f"{name}_weights.npz"))
    z = torch.from_numpy(given["in/z"]).flatten(1)
    decoded = model.likelihood.mean(model.decode(z[None, :, None]))[0, :, 0].detach()
    expected = given["out/decoded_given_z"].reshape(len(decoded), -1)
    np.testing.assert_allclose(decoded, expected, atol=3e-6)


def test_sphere_component_inverts_the_tabulated_distribution(folder: Path) -> None:
    given = reference.arrays(folder, "vae_vmf_inputs_outputs.npz")
    m, kappa = int(given["config/latent_dim"]), float(given["config/kappa"])
    theta, cumulative, _, _ = vmf.angle_table(m, kappa)
    w = vmf.inverse_cumulative(torch.from_numpy(given["sampler64/u"]), theta, cumulative, m, kappa)
    np.testing.assert_allclose(w, given["sampler64/w"], atol=3e-7)  # their grid step is 1e-7

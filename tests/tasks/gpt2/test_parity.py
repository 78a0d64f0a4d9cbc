"""Logits, states and losses equal those of the original implementations."""

import numpy as np
import pytest
import torch

from kexue_cli.tasks.gpt2.loss import gpt2_ml_loss, shifted_loss
from kexue_cli.tasks.gpt2.pretrained import open_weights


@pytest.fixture(scope="module")
def gpt2_ml(data_dir):
    folder = data_dir / "gpt2_ml" / "v300_l12"
    return open_weights(folder / "model.ckpt").load(), dict(np.load(folder / "reference.npz"))


@pytest.fixture(scope="module")
def hugging_face(data_dir):
    folder = data_dir / "gpt2_hf" / "base_act_new"
    return open_weights(folder).load(), dict(np.load(folder / "reference.npz"))


def long(array) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.int64))


@pytest.mark.parametrize(
    "case", ["prompt", "len1", "short", "full", "batch", "withpad", "midzero", "leadzero"]
)
def test_gpt2_ml_equals_the_original_code(gpt2_ml, case):
    model, reference = gpt2_ml
    tokens = long(reference[f"tokens_{case}"])
    with torch.inference_mode():
        hidden, logits = model.hidden(tokens), model(tokens)
    np.testing.assert_allclose(logits, reference[f"logits_{case}"], atol=1e-4)
    np.testing.assert_allclose(hidden, reference[f"hidden_{case}"], atol=1e-4)
    if f"loss_{case}" in reference:
        loss = gpt2_ml_loss(logits, tokens)
        assert loss.item() == pytest.approx(reference[f"loss_{case}"], abs=1e-5)


@pytest.mark.parametrize("case", ["prompt", "len1", "short", "full", "batch", "withzero"])
def test_gpt2_equals_transformers(hugging_face, case):
    model, reference = hugging_face
    tokens = long(reference[f"tokens_{case}"])
    with torch.inference_mode():
        hidden, logits = model.hidden(tokens), model(tokens)
    np.testing.assert_allclose(logits, reference[f"logits_{case}"], atol=1e-5)
    np.testing.assert_allclose(hidden, reference[f"hidden_{case}"], atol=1e-5)
    if f"loss_{case}" in reference:
        loss = shifted_loss(logits, tokens)
        assert loss.item() == pytest.approx(reference[f"loss_{case}"], abs=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"activation_function": "gelu", "n_inner": 40, "tie_word_embeddings": False},
        {"activation_function": "relu", "scale_attn_by_inverse_layer_idx": True},
        {"activation_function": "silu", "scale_attn_weights": False, "layer_norm_epsilon": 0.01},
    ],
)
def test_every_option_of_gpt2_that_changes_the_mathematics(tmp_path, options):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    shape = {"vocab_size": 50, "n_positions": 16, "n_embd": 24, "n_layer": 3, "n_head": 3}
    peer = transformers.GPT2LMHeadModel(transformers.GPT2Config(**shape, **options)).eval()
    for parameter in peer.parameters():
        torch.nn.init.normal_(parameter, 0.1, 0.5)
    peer.save_pretrained(tmp_path)
    tokens = torch.randint(50, (2, 12))
    with torch.inference_mode():
        expected, found = peer(tokens).logits, open_weights(tmp_path).load()(tokens)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)

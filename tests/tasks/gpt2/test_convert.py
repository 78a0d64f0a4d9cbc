"""Converted weights give the same logits, here and in transformers."""

import shutil
from dataclasses import asdict

import numpy as np
import pytest
import torch

from kexue_cli.errors import UserError
from kexue_cli.manage.cli import main as kexue
from kexue_cli.run import checkpoint
from kexue_cli.tasks.gpt2.architecture import Architecture
from kexue_cli.tasks.gpt2.convert import convert
from kexue_cli.tasks.gpt2.model import Gpt, initialise
from kexue_cli.tasks.gpt2.pretrained import open_weights
from kexue_cli.tasks.gpt2.tokenizers import CharTokenizer, from_folder

TEXT = "to be\nor not"


def saved_run(path, **changes):
    """A checkpoint of ours with random weights over the characters of TEXT."""
    tokenizer = CharTokenizer.of_texts([TEXT])
    settings = {"context": 16, "width": 16, "layers": 2, "heads": 2, "inner": 32, **changes}
    model = Gpt(Architecture(vocab_size=tokenizer.vocab_size, **settings))
    initialise(model, torch.Generator().manual_seed(0))
    state = {
        "architecture": asdict(model.arch),
        "tokenizer": tokenizer.state(),
        "model": {name: p.detach() for name, p in model.named_parameters()},
    }
    checkpoint.save(path, "gpt2", "gpt2", {"task": state})
    return model.eval()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_transformers_opens_what_was_trained_here(tmp_path, tied, bias):
    transformers = pytest.importorskip("transformers")
    model = saved_run(tmp_path / "run.pt", tied=tied, bias=bias)
    assert kexue(["convert", str(tmp_path / "run.pt"), str(tmp_path / "hf"), "--to", "hf"]) == 0
    peer = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "hf").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    ids = torch.tensor([tokenizer.encode(TEXT)])
    assert ids[0].tolist() == CharTokenizer.of_texts([TEXT]).encode(TEXT).tolist()
    assert tokenizer.decode(ids[0]) == TEXT
    with torch.inference_mode():
        np.testing.assert_allclose(model(ids), peer(ids).logits, atol=1e-5)
        back = open_weights(tmp_path / "hf").load()
        np.testing.assert_array_equal(model(ids), back(ids))


def test_tensorflow_checkpoints_become_our_folders(data_dir, tmp_path):
    folder = data_dir / "gpt2_ml" / "v300_l12"
    convert(str(folder / "model.ckpt"), str(tmp_path / "ours"))
    reference = np.load(folder / "reference.npz")
    tokens = torch.from_numpy(reference["tokens_batch"].astype(np.int64))
    with torch.inference_mode():
        logits = open_weights(tmp_path / "ours").load()(tokens)
    np.testing.assert_allclose(logits, reference["logits_batch"], atol=1e-4)


def test_hugging_face_there_and_back_is_bit_exact(data_dir, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    folder = data_dir / "gpt2_hf" / "base_act_new"
    convert(str(folder), str(tmp_path / "ours"))
    convert(str(tmp_path / "ours"), str(tmp_path / "back"), to="hf")
    first = safetensors.load_file(folder / "model.safetensors")
    back = safetensors.load_file(tmp_path / "back" / "model.safetensors")
    assert first.keys() == back.keys()
    assert all(torch.equal(first[name], back[name]) for name in first)


def test_models_that_transformers_lacks_are_refused_before_anything_is_written(data_dir, tmp_path):
    source = data_dir / "gpt2_ml" / "v300_l12" / "model.ckpt"
    with pytest.raises(UserError, match=r"GPT2_ML's.*--to kexue"):
        convert(str(source), str(tmp_path / "hf"), to="hf")
    assert not list(tmp_path.iterdir())


def test_a_destination_with_files_is_left_alone(data_dir, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty"):
        convert(str(data_dir / "gpt2_hf" / "base_act_new"), str(tmp_path))


def test_the_tokenizer_travels_with_the_weights(data_dir, tmp_path):
    shutil.copytree(data_dir / "gpt2_ml" / "v300_l12", tmp_path / "tf")
    vocabulary = ["[PAD]", "[UNK]", *(chr(0x4E00 + i) for i in range(298))]
    (tmp_path / "tf" / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    convert(str(tmp_path / "tf"), str(tmp_path / "ours"), dtype="bfloat16")
    tokenizer = from_folder(tmp_path / "ours")
    assert tokenizer is not None
    assert tokenizer.decode(tokenizer.encode("一丁")) == "一丁"
    assert (
        open_weights(tmp_path / "ours").load(torch.bfloat16).tokens.weight.dtype == torch.bfloat16
    )

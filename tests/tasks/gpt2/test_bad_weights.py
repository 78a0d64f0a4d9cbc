"""Weights that do not fit are refused, and the message says what does not."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from kexue_cli.errors import ConfigError, UserError
from kexue_cli.tasks.gpt2 import memory
from kexue_cli.tasks.gpt2.architecture import gpt2_architecture, gpt2_ml_architecture
from kexue_cli.tasks.gpt2.pretrained import open_weights
from kexue_cli.tasks.gpt2.start import check_vocabulary
from kexue_cli.tasks.gpt2.tokenizers import CharTokenizer
from kexue_cli.tasks.gpt2.weights import empty_model


@pytest.fixture
def gpt2_ml_copy(data_dir, tmp_path) -> Path:
    shutil.copytree(data_dir / "gpt2_ml" / "v300_l12", tmp_path / "ml", copy_function=shutil.copy)
    (tmp_path / "ml").chmod(0o755)
    (tmp_path / "ml" / "config.json").chmod(0o644)
    return tmp_path / "ml"


@pytest.fixture
def hugging_face_copy(data_dir, tmp_path) -> Path:
    source = data_dir / "gpt2_hf" / "base_act_new"
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    return tmp_path


def changed(folder: Path, **values: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def test_a_wrong_width_names_the_tensor_and_both_shapes(gpt2_ml_copy):
    changed(gpt2_ml_copy, intermediate_size=96)
    with pytest.raises(UserError, match=r"layer00/intermediate/kernel.*\(48, 80\).*\(48, 96\)"):
        open_weights(gpt2_ml_copy).load()


def test_a_layer_too_many_names_the_missing_tensor(gpt2_ml_copy):
    changed(gpt2_ml_copy, num_hidden_layers=13)
    with pytest.raises(UserError, match="no tensor 'newslm/layer12/query_layer/kernel'"):
        open_weights(gpt2_ml_copy).load()


def test_the_epsilon_of_gpt2_ml_is_its_codes_own_whatever_the_file_says(gpt2_ml_copy):
    changed(gpt2_ml_copy, layer_norm_eps=1e-12)
    assert open_weights(gpt2_ml_copy).arch.epsilon == 1e-5


def test_a_missing_configuration_is_named(gpt2_ml_copy):
    (gpt2_ml_copy / "config.json").unlink()
    with pytest.raises(UserError, match=r"config\.json is missing"):
        open_weights(gpt2_ml_copy)


def test_a_vocabulary_of_another_size_is_refused():
    arch = gpt2_ml_architecture(21130, "base", 1024, None, None, None, None, 0.1)
    with pytest.raises(UserError, match="has 3 entries, the model 21,130"):
        check_vocabulary(CharTokenizer("abc"), arch, "here")
    check_vocabulary(CharTokenizer("".join(map(chr, range(32, 21160)))), arch, "two spare rows")


def test_hugging_face_options_that_change_nothing_we_know_are_refused(hugging_face_copy):
    changed(hugging_face_copy, activation_function="mish")
    with pytest.raises(UserError, match="activation 'mish' is not one of"):
        open_weights(hugging_face_copy)


def test_a_cut_safetensors_file_is_refused(hugging_face_copy):
    path = hugging_face_copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged or cut short"):
        open_weights(hugging_face_copy)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code of a stranger",)


def test_a_pickle_with_code_is_refused_and_not_run(hugging_face_copy, capsys):
    (hugging_face_copy / "model.safetensors").unlink()
    torch.save({"transformer.wte.weight": Evil()}, hugging_face_copy / "pytorch_model.bin")
    with pytest.raises(UserError, match="is refused"):
        open_weights(hugging_face_copy)
    (hugging_face_copy / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError, match=r"refused|damaged"):
        open_weights(hugging_face_copy)
    assert "stranger" not in capsys.readouterr().out


def test_bin_files_give_the_same_weights_as_safetensors(hugging_face_copy, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    expected = open_weights(hugging_face_copy).load()
    tensors = safetensors.load_file(hugging_face_copy / "model.safetensors")
    without_prefix = {name.removeprefix("transformer."): t for name, t in tensors.items()}
    without_prefix["h.0.attn.bias"] = torch.ones(1, 1, 4, 4)  # the mask buffer of old files
    (hugging_face_copy / "model.safetensors").unlink()
    torch.save(without_prefix, hugging_face_copy / "pytorch_model.bin")
    found = open_weights(hugging_face_copy).load()
    for one, other in zip(expected.parameters(), found.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("vocab_size", "size", "count"),
    [
        (50270, "base", 124_449_792),
        (8021, "large", 311_573_504),
        (21130, "mega", 1_393_944_576),
        (8021, "mega", 1_373_809_152),
    ],
)
def test_gpt2_ml_sizes_have_the_published_number_of_weights(vocab_size, size, count):
    arch = gpt2_ml_architecture(vocab_size, size, 1024, None, None, None, None, 0.1)
    assert empty_model(arch).parameter_count() == count


def test_gpt2_small_has_124_million_weights():
    arch = gpt2_architecture(50257, "small", 1024, None, None, None, 0.0, True)
    assert empty_model(arch).parameter_count() == 124_439_808


def test_too_little_memory_says_what_would_fit():
    arch = gpt2_ml_architecture(21130, "mega", 1024, None, None, None, None, 0.1)
    with pytest.raises(UserError, match=r"needs about 5\.\d+ GiB, 4\.00 GiB are free.*bfloat16"):
        memory.check_generation(arch, "float32", 1, 256, 4 * memory.GIB)
    memory.check_generation(arch, "bfloat16", 1, 256, 4 * memory.GIB)
    with pytest.raises(UserError, match=r"adafactor task\.batch=1 task\.checkpointing=true"):
        memory.check_training(arch, "adamw", 8, 1024, False, 16 * memory.GIB)


def test_unknown_sizes_and_heads_are_named():
    with pytest.raises(ConfigError, match=r"model\.size.*found 'huge'"):
        gpt2_architecture(100, "huge", 64, None, None, None, 0.0, True)
    with pytest.raises(ConfigError, match=r"model\.heads.*5 heads do not divide width 48"):
        gpt2_architecture(100, "nano", 64, None, None, 5, 0.0, True)

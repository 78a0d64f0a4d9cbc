"""TensorFlow checkpoints are read bit for bit, and damage is named."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from kexue_cli.errors import UserError
from kexue_cli.tasks.gpt2.crc32c import crc32c, masked
from kexue_cli.tasks.gpt2.snappy import decompress
from kexue_cli.tasks.gpt2.tf_checkpoint import TfCheckpoint


def bitwise_crc32c(data: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def test_crc32c_of_the_rfc_3720_examples():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert masked(0) == 0xA282EAD8


@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 40_001])
def test_crc32c_equals_its_bitwise_definition(size):
    data = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8).tobytes()
    assert crc32c(data) == bitwise_crc32c(data)


def test_crc32c_of_large_buffers_can_be_continued():
    data = np.random.default_rng(0).integers(0, 256, 20_000_003, dtype=np.uint8)
    halves = crc32c(data[7_000_001:], crc32c(data[:7_000_001]))
    small_steps = 0
    for begin in range(0, len(data), 1_000_000):
        small_steps = crc32c(data[begin : begin + 1_000_000], small_steps)
    assert crc32c(data) == halves == small_steps


def test_snappy_literals_and_overlapping_copies():
    # length 11, literal "ab", copy of 8 from 2 back, literal "c"
    block = bytes([11, 1 << 2]) + b"ab" + bytes([(8 - 4) << 2 | 1, 2]) + bytes([0]) + b"c"
    assert decompress(block) == b"ababababab" + b"c"
    with pytest.raises(ValueError, match="back of"):
        decompress(bytes([8, 0]) + b"a" + bytes([(8 - 4) << 2 | 1, 9]))


@pytest.mark.parametrize("steps", [100000, 220000])
def test_published_index_files_list_exactly_their_variables(data_dir, steps):
    folder = data_dir / "gpt2_ml" / "real_index"
    checkpoint = TfCheckpoint(folder / f"model.ckpt-{steps}")
    expected = json.loads((folder / f"model.ckpt-{steps}.vars.json").read_text())
    found = {
        name: {"shape": list(checkpoint.shape(name)), "dtype": checkpoint.dtype(name)}
        for name in checkpoint.names()
    }
    assert found == expected
    with pytest.raises(UserError, match="data-00000-of-00001 is missing"):
        checkpoint.check_shards()


@pytest.mark.parametrize("case", ["dtypes", "tf2_object", "partitioned"])
def test_every_tensor_of_the_reference_checkpoints_is_bit_exact(data_dir, case):
    folder = data_dir / "tf_checkpoints" / case
    checkpoint = TfCheckpoint(folder / "model.ckpt")
    checkpoint.check_shards()
    with np.load(folder / "expected.npz") as expected:
        for key in expected.files:
            name = _variable_name(key, case)
            found = checkpoint.read(name)
            if found.dtype == object:
                found = np.array([text.decode() for text in found])
            assert found.dtype == expected[key].dtype
            np.testing.assert_array_equal(found, expected[key])


def _variable_name(key: str, case: str) -> str:
    name = key.replace("__", "/").removesuffix("_as_f32")
    return name + "/.ATTRIBUTES/VARIABLE_VALUE" if case == "tf2_object" else name


def test_pieces_of_a_partitioned_variable_are_not_listed(data_dir):
    assert TfCheckpoint(data_dir / "tf_checkpoints" / "partitioned" / "model.ckpt").names() == [
        "p/w"
    ]


def test_v1_checkpoints_are_refused_with_advice(data_dir):
    with pytest.raises(UserError, match=r"V1 checkpoint.*model\.ckpt\.index"):
        TfCheckpoint(data_dir / "tf_checkpoints" / "v1_format" / "model.ckpt")


@pytest.fixture
def copied(data_dir, tmp_path) -> Path:
    for path in (data_dir / "gpt2_ml" / "v300_l12").glob("model.ckpt*"):
        shutil.copyfile(path, tmp_path / path.name)
    return tmp_path / "model.ckpt"


def test_one_flipped_bit_is_found_in_the_tensor_that_has_it(copied):
    data = copied.with_name("model.ckpt.data-00000-of-00001")
    entry = TfCheckpoint(copied).index.entries[b"newslm/layer07/intermediate/kernel"]
    content = bytearray(data.read_bytes())
    content[entry.offset + entry.size - 1] ^= 4
    data.write_bytes(content)
    damaged = TfCheckpoint(copied)
    with pytest.raises(UserError, match="checksum of newslm/layer07/intermediate/kernel"):
        damaged.read("newslm/layer07/intermediate/kernel")
    damaged.read("newslm/layer07/intermediate/bias")


def test_a_short_data_file_is_named_with_both_sizes(copied):
    data = copied.with_name("model.ckpt.data-00000-of-00001")
    data.write_bytes(data.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"899,716 bytes, the index expects 899,720"):
        TfCheckpoint(copied).check_shards()


def test_a_damaged_index_is_refused(copied):
    index = copied.with_name("model.ckpt.index")
    content = bytearray(index.read_bytes())
    content[100] ^= 1
    index.write_bytes(content)
    with pytest.raises(UserError, match="checksum of the block"):
        TfCheckpoint(copied)
    index.write_bytes(content[:200])
    with pytest.raises(UserError, match="not a whole TensorFlow checkpoint index"):
        TfCheckpoint(copied)

"""TensorFlow V2 checkpoints without TensorFlow: memory-mapped tensors, checksums verified."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.errors import UserError
from kexue_cli.tasks.gpt2.crc32c import crc32c, masked
from kexue_cli.tasks.gpt2.tf_index import Entry, Extents, read_index
from kexue_cli.tasks.gpt2.wire import read_varint, slice_key

# types.proto of TensorFlow; bfloat16 (14) is read as uint16 and widened, strings (7) are apart
DTYPES = {
    1: "f4", 2: "f8", 3: "i4", 4: "u1", 5: "i2", 6: "i1", 9: "i8", 10: "?", 14: "u2", 17: "u2",
    19: "f2", 22: "u4", 23: "u8",
}  # fmt: skip
DTYPE_NAMES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string",
    9: "int64", 10: "bool", 14: "bfloat16", 17: "uint16", 19: "float16", 22: "uint32", 23: "uint64",
}  # fmt: skip
STRING, BFLOAT16 = 7, 14

# SHA-256 of the published GPT2_ML data files, github.com/imcaspar/gpt2-ml
PUBLISHED_SHA256 = {
    "4a6e5124df8db7ac2bdd902e6191b807a6983a7f5d09fb10ce011f9a073b183e": "GPT2_ML, 100000 steps",
    "e698cc97a7f5f706f84f58bb469d614e51d3c0ce5f9ab9bf77e01e3fcb41d482": "GPT2_ML, 220000 steps",
}


class TfCheckpoint:
    """A checkpoint `<prefix>.index` + `<prefix>.data-SSSSS-of-NNNNN`.

    Args:
        path: the prefix, or the path of its `.index` file.

    Raises:
        UserError: V1 checkpoints, a damaged index, a missing shard.
    """

    def __init__(self, path: str | Path) -> None:
        self.prefix = Path(str(path).removesuffix(".index"))
        index_path = self.prefix.with_name(self.prefix.name + ".index")
        if not index_path.exists():
            raise UserError(_no_index(self.prefix, index_path))
        self.index = read_index(index_path)
        self._slice_keys = {
            slice_key(key.decode(), extents)
            for key, entry in self.index.entries.items()
            for extents in entry.slices
        }
        self._shards: dict[int, NDArray[np.uint8]] = {}

    def names(self) -> list[str]:
        """Names of all variables, sorted; pieces of partitioned ones are not listed."""
        keys = self.index.entries.keys() - self._slice_keys
        return sorted(key.decode() for key in keys)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one variable."""
        return self._entry(name).shape

    def dtype(self, name: str) -> str:
        """Type of one variable as TensorFlow names it."""
        number = self._entry(name).dtype
        return DTYPE_NAMES.get(number, f"type {number}")

    def shard_path(self, shard: int) -> Path:
        """Path of one data file."""
        return self.prefix.with_name(
            f"{self.prefix.name}.data-{shard:05d}-of-{self.index.n_shards:05d}"
        )

    def check_shards(self) -> None:
        """Make sure that every data file is there and has its size.

        Raises:
            UserError: names the file, the size expected and the size found.
        """
        for shard in range(self.index.n_shards):
            stored = [e for e in self.index.entries.values() if e.shard == shard and e.size]
            expected = max((entry.offset + entry.size for entry in stored), default=0)
            path = self.shard_path(shard)
            if not path.exists():
                raise UserError(
                    f"{path} is missing: the index names {self.index.n_shards} data files"
                )
            if path.stat().st_size != expected:
                raise UserError(
                    f"{path} has {path.stat().st_size:,} bytes, the index expects {expected:,}: "
                    "the download is not complete or belongs to another index"
                )

    def read(self, name: str, verify: bool = True) -> NDArray[Any]:
        """One variable: a read-only view of the file where possible; bfloat16 comes as float32.

        Raises:
            UserError: an unknown name, or a wrong checksum (`verify`), naming the tensor.
        """
        entry = self._entry(name)
        if entry.slices:
            return self._read_slices(name, entry, verify)
        return self._read_entry(name, entry, verify)

    def _read_slices(self, name: str, entry: Entry, verify: bool) -> NDArray[Any]:
        whole: NDArray[Any] | None = None
        for extents in entry.slices:
            piece_entry = self.index.entries.get(slice_key(name, extents))
            if piece_entry is None:
                raise UserError(f"{self.prefix}.index has no entry for slice {extents} of {name}")
            piece = self._read_entry(f"{name}{list(extents)}", piece_entry, verify)
            if whole is None:
                whole = np.empty(entry.shape, piece.dtype)
            whole[_numpy_slice(extents)] = piece
        assert whole is not None
        return whole

    def _read_entry(self, name: str, entry: Entry, verify: bool) -> NDArray[Any]:
        if entry.dtype != STRING and entry.dtype not in DTYPES:
            raise UserError(
                f"{self.prefix}: {name} has TensorFlow type {entry.dtype}, not readable"
            )
        data = self._bytes(entry)
        if len(data) != entry.size:
            raise UserError(f"{self.shard_path(entry.shard)} ends inside {name}: download it again")
        if entry.dtype == STRING:
            return self._strings(name, entry, data)
        if verify and masked(crc32c(data)) != entry.crc:
            raise UserError(self._damaged(name, entry))
        order = ">" if self.index.big_endian else "<"
        values = data.view(np.dtype(order + DTYPES[entry.dtype])).reshape(entry.shape)
        if entry.dtype == BFLOAT16:
            return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return values

    def _strings(self, name: str, entry: Entry, data: NDArray[np.uint8]) -> NDArray[Any]:
        """Varint lengths, a checksum of the lengths, then the bytes of all strings."""
        raw, lengths, position = data.tobytes(), [], 0
        for _ in range(int(np.prod(entry.shape, dtype=np.int64))):
            length, position = read_varint(raw, position)
            lengths.append(length)
        crc = crc32c(b"".join(length.to_bytes(4, "little") for length in lengths))
        stored, position = raw[position : position + 4], position + 4
        whole = crc32c(raw[position:], crc32c(stored, crc))
        if masked(crc) != int.from_bytes(stored, "little") or masked(whole) != entry.crc:
            raise UserError(self._damaged(name, entry))
        ends = position + np.cumsum([0, *lengths])
        strings = [raw[begin:end] for begin, end in pairwise(ends)]
        return np.array(strings, dtype=object).reshape(entry.shape)

    def _bytes(self, entry: Entry) -> NDArray[np.uint8]:
        if entry.size == 0:
            return np.empty(0, np.uint8)
        if entry.shard not in self._shards:
            path = self.shard_path(entry.shard)
            if not path.exists():
                raise UserError(
                    f"{path} is missing: the index names {self.index.n_shards} data files"
                )
            self._shards[entry.shard] = np.memmap(path, np.uint8, mode="r")
        return self._shards[entry.shard][entry.offset : entry.offset + entry.size]

    def _entry(self, name: str) -> Entry:
        entry = self.index.entries.get(name.encode())
        if entry is None:
            raise UserError(f"{self.prefix}.index has no variable {name!r}")
        return entry

    def _damaged(self, name: str, entry: Entry) -> str:
        return (
            f"{self.shard_path(entry.shard)} is damaged: the checksum of {name} "
            f"({entry.size:,} bytes at {entry.offset:,}) is wrong. Download the file again"
        )


def published_name(path: Path) -> str | None:
    """Which published data file this is, by its SHA-256; None if it is none of them."""
    with path.open("rb") as file:
        return PUBLISHED_SHA256.get(hashlib.file_digest(file, "sha256").hexdigest())


def _numpy_slice(extents: Extents) -> tuple[slice, ...]:
    return tuple(
        slice(None) if length == -1 else slice(start, start + length) for start, length in extents
    )


def _no_index(prefix: Path, index_path: Path) -> str:
    if prefix.is_file():
        return (
            f"{prefix} is a TensorFlow V1 checkpoint or no checkpoint at all: a V2 checkpoint has "
            f"{index_path.name} beside its data files. Save it again with TensorFlow's "
            "tf.compat.v1.train.Saver(write_version=2)"
        )
    return f"{index_path} does not exist: give the prefix of a TensorFlow checkpoint"

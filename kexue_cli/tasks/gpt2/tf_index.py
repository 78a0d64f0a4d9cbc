"""The index of a TensorFlow V2 checkpoint: which tensor lies where in the data shards.

`<prefix>.index` is a LevelDB table: data blocks of prefix-compressed keys, an index block that
lists them, and a 48-byte footer. Blocks may be Snappy-compressed (those of 2019 and 2020 are).
Values are protocol buffers: a BundleHeaderProto under the empty key, else a BundleEntryProto.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kexue_cli.errors import UserError
from kexue_cli.tasks.gpt2.crc32c import crc32c, masked
from kexue_cli.tasks.gpt2.snappy import decompress
from kexue_cli.tasks.gpt2.wire import fields, read_varint

TABLE_MAGIC = 0xDB4775248B80FB57
FOOTER_BYTES = 48
TRAILER_BYTES = 5  # block type, masked CRC-32C of block and type

Extents = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies: `offset` and `size` in bytes inside shard number `shard`.

    `dtype` is TensorFlow's number of the type, `crc` the masked CRC-32C of the bytes. A partitioned
    variable has no bytes of its own but `slices`: (start, length) per dimension of every piece.
    """

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    slices: tuple[Extents, ...]


@dataclass(frozen=True)
class Index:
    """All entries of a checkpoint by key, the number of shards, and the byte order."""

    n_shards: int
    big_endian: bool
    entries: dict[bytes, Entry]


def read_index(path: Path) -> Index:
    """Parse an `.index` file.

    Raises:
        UserError: the file is missing, is no such table, or is damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    try:
        values = dict(_table_items(data))
        header = values.pop(b"")
        n_shards, big_endian = _parse_header(header)
        entries = {key: _parse_entry(value) for key, value in values.items()}
    except (ValueError, IndexError, KeyError) as error:
        raise UserError(
            f"{path} is not a whole TensorFlow checkpoint index ({error}). Download it again"
        ) from error
    return Index(n_shards, big_endian, entries)


def _table_items(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    footer = data[-FOOTER_BYTES:]
    if len(footer) < FOOTER_BYTES or int.from_bytes(footer[-8:], "little") != TABLE_MAGIC:
        raise ValueError("the table's magic number is not at its end")
    _, position = _read_handle(footer, 0)  # the meta-index block says nothing we need
    index_handle, _ = _read_handle(footer, position)
    for _, handle in _block_items(_read_block(data, *index_handle)):
        yield from _block_items(_read_block(data, *_read_handle(handle, 0)[0]))


def _read_handle(data: bytes, position: int) -> tuple[tuple[int, int], int]:
    offset, position = read_varint(data, position)
    size, position = read_varint(data, position)
    return (offset, size), position


def _read_block(data: bytes, offset: int, size: int) -> bytes:
    """Contents of one block, its checksum verified, decompressed."""
    block, trailer = (
        data[offset : offset + size],
        data[offset + size : offset + size + TRAILER_BYTES],
    )
    if len(trailer) < TRAILER_BYTES:
        raise ValueError(f"block at byte {offset} reaches over the end of the file")
    if masked(crc32c(block + trailer[:1])) != int.from_bytes(trailer[1:], "little"):
        raise ValueError(f"checksum of the block at byte {offset} is wrong")
    if trailer[0] == 0:
        return block
    if trailer[0] == 1:
        return decompress(block)
    raise ValueError(f"block compression {trailer[0]} is not in use")


def _block_items(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) pairs of a block; a key repeats the first bytes of the key before it."""
    n_restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (n_restarts + 1)
    position, key = 0, b""
    while position < end:
        shared, position = read_varint(block, position)
        unshared, position = read_varint(block, position)
        value_size, position = read_varint(block, position)
        key = key[:shared] + block[position : position + unshared]
        position += unshared
        yield key, block[position : position + value_size]
        position += value_size


def _parse_header(message: bytes) -> tuple[int, bool]:
    header = dict(fields(message))
    return _integer(header.get(1, 0)), _integer(header.get(2, 0)) == 1


def _parse_entry(message: bytes) -> Entry:
    numbers = {1: 0, 3: 0, 4: 0, 5: 0, 6: 0}
    shape: tuple[int, ...] = ()
    slices = []
    for number, value in fields(message):
        if number == 2:
            shape = tuple(_dimension(dim) for n, dim in fields(_message(value)) if n == 2)
        elif number == 7:
            slices.append(tuple(_extent(dim) for n, dim in fields(_message(value)) if n == 1))
        else:
            numbers[number] = _integer(value)
    dtype, shard, offset, size, crc = numbers.values()
    return Entry(dtype, shape, shard, offset, size, crc, tuple(slices))


def _dimension(message: int | bytes) -> int:
    return _integer(dict(fields(_message(message))).get(1, 0))


def _extent(message: int | bytes) -> tuple[int, int]:
    """(start, length) of a slice in one dimension; length -1 is the whole dimension."""
    extent = dict(fields(_message(message)))
    return _integer(extent.get(1, 0)), _integer(extent.get(2, -1))


def _integer(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise ValueError("protocol buffer holds bytes where a number belongs")
    return value


def _message(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("protocol buffer holds a number where a message belongs")
    return value

"""Wire formats of a TensorFlow checkpoint index: varints, protocol buffers, ordered codes."""

from collections.abc import Iterator, Sequence


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """Little-endian base-128 integer at `position` and the position after it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) pairs of one protocol buffer message; integers are unsigned."""
    position = 0
    while position < len(message):
        key, position = read_varint(message, position)
        kind = key & 7
        if kind == 0:
            value, position = read_varint(message, position)
            yield key >> 3, value
            continue
        if kind == 2:
            size, position = read_varint(message, position)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"protocol buffer wire type {kind} is not in use")
        chunk = message[position : position + size]
        if len(chunk) < size:
            raise ValueError("protocol buffer message ends inside a field")
        yield key >> 3, int.from_bytes(chunk, "little") if kind in (1, 5) else chunk
        position += size


def slice_key(name: str, extents: Sequence[tuple[int, int]]) -> bytes:
    """Index key under which TensorFlow stores one slice of a partitioned variable.

    `extents` are (start, length) per dimension, length -1 for the whole dimension. The encoding is
    TensorFlow's `EncodeTensorNameSlice` over ordered codes.
    """
    text = name.encode()
    key = b"\0" + text.replace(b"\0", b"\0\xff") + b"\0\1"
    key += _unsigned_code(len(extents))
    return key + b"".join(_signed_code(value) for extent in extents for value in extent)


def _unsigned_code(value: int) -> bytes:
    size = (value.bit_length() + 7) // 8
    return bytes([size]) + value.to_bytes(size, "big")


def _signed_code(value: int) -> bytes:
    """Ordered code of a signed integer: leading ones, or zeros, tell its length in bytes."""
    size = 1
    while not -(1 << 7 * size - 1) <= value < 1 << 7 * size - 1:
        size += 1
    ones = (1 << size) - 1 << 7 * size  # the top `size` bits of 8 * size
    return ((value & (1 << 8 * size) - 1) ^ ones).to_bytes(size, "big")

"""Decoder of the raw Snappy format (google/snappy, format_description.txt)."""

from kexue_cli.tasks.gpt2.wire import read_varint


def decompress(data: bytes) -> bytes:
    """Uncompressed bytes of one raw Snappy block; ValueError when the block is damaged."""
    length, position = read_varint(data, 0)
    output = bytearray()
    while position < len(data):
        tag = data[position]
        if tag & 3 == 0:
            size, position = _literal(data, position)
            output += data[position : position + size]
            position += size
        else:
            size, offset, position = _copy(data, position)
            _repeat(output, size, offset)
    if len(output) != length:
        raise ValueError(f"Snappy block holds {len(output)} bytes, its header says {length}")
    return bytes(output)


def _literal(data: bytes, position: int) -> tuple[int, int]:
    """Length of a literal and where its bytes begin."""
    size = data[position] >> 2
    if size < 60:
        return size + 1, position + 1
    extra = size - 59
    return int.from_bytes(
        data[position + 1 : position + 1 + extra], "little"
    ) + 1, position + 1 + extra


def _copy(data: bytes, position: int) -> tuple[int, int, int]:
    """Length and distance of a copy, and where the next tag begins."""
    tag = data[position]
    if tag & 3 == 1:
        return (tag >> 2 & 7) + 4, tag >> 5 << 8 | data[position + 1], position + 2
    width = 2 if tag & 3 == 2 else 4
    offset = int.from_bytes(data[position + 1 : position + 1 + width], "little")
    return (tag >> 2) + 1, offset, position + 1 + width


def _repeat(output: bytearray, size: int, offset: int) -> None:
    """Append `size` bytes found `offset` back; source and destination may overlap."""
    if not 0 < offset <= len(output):
        raise ValueError(f"Snappy copy reaches {offset} bytes back of {len(output)}")
    begin = len(output) - offset
    pattern = bytes(output[begin : begin + size])
    output += (pattern * (size // len(pattern) + 1))[:size]

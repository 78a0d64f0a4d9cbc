"""Files are decoded, or refused by name with what is wrong and what to set."""

import bz2
import gzip
import lzma
import os

import numpy as np
import pytest

from kexue_cli.errors import ConfigError, UserError
from kexue_cli.tasks.minent import reading
from kexue_cli.tasks.minent.config import TextData
from kexue_cli.tasks.minent.data import open_corpus
from kexue_cli.tasks.minent.reading import check_place, find_files, stored_blocks, text_blocks


def test_wrong_encoding_names_file_byte_and_setting(tmp_path):
    file = tmp_path / "gb.txt"
    file.write_bytes(b"abc\n" + "最小熵原理".encode("gb18030"))
    with pytest.raises(UserError, match=r"gb\.txt: byte 4 is not utf-8.*data\.encoding=gb18030"):
        open_corpus(TextData(path=str(file)))
    assert "".join(text_blocks(file, "gb18030")) == "abc\n最小熵原理"


def test_big5_is_told_from_gb18030(tmp_path):
    file = tmp_path / "big5.txt"
    file.write_bytes("這是一個在中國的故事，說的是他們來時的路。\n".encode("big5"))
    with pytest.raises(UserError, match=r"data\.encoding=big5"):
        open_corpus(TextData(path=str(file))).read()


@pytest.mark.parametrize("block", [1, 2, 3, 5])
def test_error_byte_is_right_for_any_block_size(tmp_path, block):
    file = tmp_path / "bad.txt"
    file.write_bytes("熵熵".encode() + b"ab\xff" + b"cd")
    with pytest.raises(UserError, match="byte 8 is not utf-8: found ff"):
        list(text_blocks(file, "utf-8", block))


def test_binary_missing_empty_and_unknown_encoding_are_named(tmp_path):
    (tmp_path / "bin").write_bytes(b"ab\0\1")
    (tmp_path / "empty").write_bytes(b" \n")
    with pytest.raises(UserError, match="zero byte at byte 2: this is a binary file"):
        open_corpus(TextData(path=str(tmp_path / "bin")))
    with pytest.raises(ConfigError, match=r"data\.path: no file"):
        open_corpus(TextData(path=str(tmp_path / "none")))
    with pytest.raises(ConfigError, match=r"data\.path: expected a file"):
        open_corpus(TextData())
    with pytest.raises(UserError, match=r"empty: expected text, found no visible character"):
        open_corpus(TextData(path=str(tmp_path / "empty"))).read()
    with pytest.raises(ConfigError, match="unknown encoding"):
        open_corpus(TextData(path=str(tmp_path / "empty"), encoding="utf-80"))
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"abc" * 1000)[:20])
    with pytest.raises(UserError, match=r"cut\.gz: cannot be read"):
        open_corpus(TextData(path=str(tmp_path / "cut.gz")))


@pytest.mark.parametrize("name", ["gz", "zst"])
def test_damaged_packed_files_are_refused(tmp_path, name):
    zstandard = pytest.importorskip("zstandard")
    text = "".join(map(chr, np.random.default_rng(0).integers(0x4E00, 0x9000, 90_000))).encode()
    packed = {"gz": gzip.compress, "zst": zstandard.ZstdCompressor().compress}[name](text)
    file = tmp_path / f"text.{name}"
    for content in (packed[: len(packed) // 2], b"no such form" + packed):
        file.write_bytes(content)
        with pytest.raises(UserError, match=rf"text\.{name}: cannot be read"):
            list(text_blocks(file, "utf-8"))
    file.write_bytes(packed + packed)  # a file of two is one text
    assert "".join(text_blocks(file, "utf-8")).encode() == text + text


def test_a_line_end_of_two_characters_is_one_wherever_blocks_end(tmp_path):
    file = tmp_path / "crlf.txt"
    file.write_bytes(b"ab\r\ncd\re\r\n")
    for block in (1, 2, 3, 4):
        assert "".join(text_blocks(file, "utf-8", block)) == "ab\ncd\ne\n"


@pytest.mark.parametrize(
    "encoding", ["hex", "rot13", "base64", "undefined", "utf-7", "punycode", "idna"]
)
def test_what_is_no_encoding_of_text_is_refused(tmp_path, encoding):
    (tmp_path / "a").write_bytes(b"6162")
    with pytest.raises(ConfigError, match="unknown encoding"):
        list(text_blocks(tmp_path / "a", encoding))


def test_a_stored_file_that_is_gone_is_told(tmp_path):
    with pytest.raises(UserError, match=r"gone: cannot be read"):
        list(stored_blocks(tmp_path / "gone"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("中文".encode()[:5], r"ends at byte 3 in the middle of a character"),
        ("un caf\xe9aux lait".encode("cp1252"), r"try data\.encoding=cp1252"),
    ],
)
def test_what_is_not_utf8_is_told_apart(tmp_path, content, message):
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(UserError, match=message):
        open_corpus(TextData(path=str(tmp_path / "text")))


@pytest.mark.parametrize(
    ("encoding", "whole"),
    [("UTF-8", 3), ("utf8", 3), ("gb18030", 2), ("GBK", 2), ("utf-16", 4), ("utf-16-le", 2)],
)
def test_a_file_cut_in_a_character_is_told_as_cut_in_every_encoding(tmp_path, encoding, whole):
    (tmp_path / "text").write_bytes("中文".encode(encoding)[:-1])
    with pytest.raises(UserError, match=rf"ends at byte {whole} in the middle of a character"):
        open_corpus(TextData(path=str(tmp_path / "text"), encoding=encoding))


def test_utf16_without_its_mark_is_told(tmp_path):
    (tmp_path / "text").write_bytes("中文".encode("utf-16-le"))
    with pytest.raises(UserError, match=r"not utf-16: .*may be utf-16-le"):
        open_corpus(TextData(path=str(tmp_path / "text"), encoding="utf-16"))


def test_a_path_too_long_for_a_name_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.path: .*File name too long; expected a file"):
        open_corpus(TextData(path=str(tmp_path / ("a" * 300))))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "UTF_32", "utf-32-be"])
@pytest.mark.parametrize("block", [1, 2, 3, 5, 1 << 20])
def test_a_zero_character_is_refused_in_encodings_of_several_bytes(tmp_path, encoding, block):
    before = (
        "Ā最\r\n𠀀Ā"  # the bytes of its first character and of the next have zeros side by side
    )
    content = f"{before}\0Ā\0".encode(encoding)
    (tmp_path / "text").write_bytes(content)
    place = len(before.encode(encoding))
    with pytest.raises(UserError, match=rf"text: .*number zero at byte {place}: .*{encoding}"):
        list(text_blocks(tmp_path / "text", encoding, block))
    (tmp_path / "text").write_bytes(before.encode(encoding))
    assert "".join(text_blocks(tmp_path / "text", encoding, block)) == "Ā最\n𠀀Ā"


def test_zero_bytes_may_follow_the_streams_of_an_xz_file(tmp_path, monkeypatch):
    file, text = tmp_path / "text.xz", "最小熵原理\n" * 5000
    packed = lzma.compress(text.encode())
    monkeypatch.setattr(reading, "PACKED_BYTES", 7)
    monkeypatch.setattr(reading, "UNPACKED_BYTES", 100)
    for zeros in (0, 4, 8, 1024):
        file.write_bytes(packed + bytes(zeros))
        assert "".join(text_blocks(file, "utf-8")) == text
        file.write_bytes(packed + bytes(zeros) + packed + bytes(zeros))
        assert "".join(text_blocks(file, "utf-8")) == text + text
    damaged = {
        packed + bytes(3): "no multiple of four",
        packed + bytes(5) + packed: "no multiple of four",
        bytes(4) + packed: "not packed as its name says",
        packed + b"no stream at all": "not packed as its name says",
        packed[:-5]: "cut short. Get it whole",
        b"": "cut short. Get it whole",
    }
    for content, message in damaged.items():
        file.write_bytes(content)
        with pytest.raises(UserError, match=rf"text\.xz: cannot be read: .*{message}"):
            list(text_blocks(file, "utf-8"))


@pytest.mark.parametrize("name", ["a.bz2", "a.BZ2", "a.txt.GZ", "a.Xz", "a.ZST"])
def test_packed_files_are_known_by_their_names_in_any_case(tmp_path, name):
    zstandard = pytest.importorskip("zstandard")
    compress = {
        "bz2": bz2.compress, "gz": gzip.compress, "xz": lzma.compress,
        "zst": zstandard.ZstdCompressor().compress,
    }[name.lower().rsplit(".")[-1]]  # fmt: skip
    (tmp_path / name).write_bytes(compress("最小熵".encode()))
    assert "".join(text_blocks(tmp_path / name, "utf-8")) == "最小熵"


@pytest.mark.parametrize("name", ["a.gz", "a.bz2", "a.xz", "a.zst"])
def test_a_plain_file_under_a_packed_files_name_is_told(tmp_path, name):
    pytest.importorskip("zstandard")
    (tmp_path / name).write_text("the cat sat on the mat\n" * 9)
    with pytest.raises(UserError, match=rf"{name}: cannot be read: .*not packed as its name says"):
        list(text_blocks(tmp_path / name, "utf-8"))


def test_a_packing_that_is_not_known_is_told_which_are(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK\3\4\x14\0\0\0")
    with pytest.raises(
        UserError, match=r"a\.zip: .*binary file \(\.gz, \.bz2, \.xz and \.zst files"
    ):
        list(text_blocks(tmp_path / "a.zip", "utf-8"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("look", [find_files, check_place])
def test_a_pipe_is_told_to_be_read_only_once(tmp_path, look):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=r"data\.path: .*pipe.*write it to a file"):
        look(str(tmp_path / "pipe"))


def test_a_quick_look_finds_what_is_there(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    for place in (tmp_path, tmp_path / "a.txt", tmp_path / "*.txt"):
        check_place(str(place))
    with pytest.raises(ConfigError, match=r"data\.gold: no file at"):
        check_place(str(tmp_path / "*.csv"), "data.gold")

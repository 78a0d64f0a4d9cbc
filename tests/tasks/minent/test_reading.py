"""Files are decoded, or refused by name with what is wrong and what to set."""

import gzip

import numpy as np
import pytest

from kexue_cli.errors import ConfigError, UserError
from kexue_cli.tasks.minent.config import TextData
from kexue_cli.tasks.minent.data import open_corpus
from kexue_cli.tasks.minent.reading import stored_blocks, text_blocks


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

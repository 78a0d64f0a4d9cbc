"""Prompts reach the model as they were typed."""

import pytest

from kexue_cli.errors import UserError
from kexue_cli.tasks.gpt2.tokenizers import CharTokenizer
from kexue_cli.tasks.gpt2.writing import Streamer, read_prompts


def test_a_file_gives_its_lines(tmp_path):
    (tmp_path / "p.txt").write_text("one\n\n two, three \n", encoding="utf-8")
    assert read_prompts(f"@{tmp_path / 'p.txt'}") == ["one", " two, three "]
    assert read_prompts("plain @text") == ["plain @text"]
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(UserError, match="no lines with text"):
        read_prompts(f"@{tmp_path / 'empty.txt'}")
    with pytest.raises(UserError, match="cannot read"):
        read_prompts("@nowhere.txt")


def test_streamed_pieces_make_up_the_text():
    tokenizer = CharTokenizer("abc")
    shown: list[str] = []
    streamer = Streamer(tokenizer, shown.append)
    for token in (0, 2, 1):
        streamer.add(token)
    assert shown == ["a", "c", "b"]

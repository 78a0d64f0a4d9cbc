"""Prompts reach the model as they were typed."""

import pytest
from omegaconf import OmegaConf

from kexue_cli.errors import UserError
from kexue_cli.tasks.gpt2.architecture import Architecture
from kexue_cli.tasks.gpt2.config import Generation
from kexue_cli.tasks.gpt2.model import Gpt
from kexue_cli.tasks.gpt2.tokenizers import CharTokenizer
from kexue_cli.tasks.gpt2.writing import Streamer, Writer, read_prompts


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


def test_a_streamed_text_ends_before_its_stop_string_and_shows_no_part_of_it():
    for text, shown in (("abcabd", "abc"), ("abcaba", "abcaba"), ("cab", "cab")):
        pieces: list[str] = []
        streamer = Streamer(CharTokenizer("abcd"), pieces.append, ["abd"])
        for character in text:
            streamer.add("abcd".index(character))
        streamer.finish()
        assert "".join(pieces) == shown


def writer_over(characters: str, context: int) -> tuple[Writer, list[str]]:
    """A writer of random texts, and the list its warnings go to."""
    arch = Architecture(
        vocab_size=len(characters), context=context, width=16, layers=1, heads=2, inner=32
    )
    warnings: list[str] = []
    rules = OmegaConf.structured(Generation(max_new_tokens=4))
    return Writer(Gpt(arch).eval(), CharTokenizer(characters), rules, warnings.append), warnings


def test_of_a_prompt_beyond_the_context_the_end_is_kept_and_that_is_said():
    writer, warnings = writer_over("ab", context=16)
    assert writer.encode("a" * 20 + "b" * 12) == [1] * 12
    assert warnings == [
        "the prompt has 32 tokens, the model's context holds 16: only its last 12 are kept"
    ]


def test_unknown_characters_are_left_out_and_counted_and_nothing_is_refused():
    writer, warnings = writer_over("ab", context=16)
    assert writer.encode("axbyz") == [0, 1]
    assert warnings == ["3 pieces of the prompt are not in the vocabulary"]
    for prompt in ("", "xyz"):
        with pytest.raises(UserError, match="no token of the vocabulary: give text to continue"):
            writer.encode(prompt)

"""Prompts reach the model as they were typed."""

from typing import Any

import pytest
import torch
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


def test_lines_of_a_file_end_at_line_ends_alone_and_begin_after_its_mark(tmp_path):
    text = "\ufeffone\u2028two\x0bthree\x85four\r\nfive\n"
    (tmp_path / "p.txt").write_bytes(text.encode())
    assert read_prompts(f"@{tmp_path / 'p.txt'}") == ["one\u2028two\x0bthree\x85four", "five"]


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


def writer_over(characters: str, context: int, **changes: Any) -> tuple[Writer, list[str]]:
    """A writer of random texts, and the list its warnings go to."""
    arch = Architecture(
        vocab_size=len(characters), context=context, width=16, layers=1, heads=2, inner=32
    )
    warnings: list[str] = []
    rules = OmegaConf.structured(Generation(max_new_tokens=4, **changes))
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


def test_samples_of_a_beam_search_are_different_texts():
    writer, _ = writer_over("abc", context=16, beams=4, length_penalty=1.0, samples=3)
    written = writer.write(["ab", "c"], torch.Generator(), 1, None)
    assert [one.prompt for one in written] == ["ab"] * 3 + ["c"] * 3
    assert len({one.completion for one in written[:3]}) == 3


def test_a_beam_search_cuts_its_text_before_a_stop_string():
    for changes in ({"beams": 3}, {"beams": 3, "length_penalty": 1.0}):
        writer, _ = writer_over("ab", 16, stop=["a", "b"], **changes)
        (written,) = writer.write(["ab"], torch.Generator(), 1, None)
        assert (written.completion, written.reason, written.tokens) == ("", "stop", 1)

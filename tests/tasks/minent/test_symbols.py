"""The quick pass over raw text gives the pieces that `Splitting.split` gives, whatever the text."""

from __future__ import annotations

from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest

from kexue_cli.tasks.minent import reading, symbols
from kexue_cli.tasks.minent.alphabet import Alphabet
from kexue_cli.tasks.minent.data import Corpus, Source
from kexue_cli.tasks.minent.ngrams import count_ngrams
from kexue_cli.tasks.minent.splitting import Splitting

ODD = [
    *"ab天地é1２.，!/\t ", "\u0301", "\u0308", "\u200c", "\u200d", "\u00ad", "\ufe0f", "\u20e3",
    "\U000e0100", "क", "\u094d", "ष", "م", "👨", "👩", "❤", "👍", "\U0001f3fd", "\ufeff", "\u200b",
    "\n", "\r\n", "\r", "\n\n", "\u2028", "𠀀",
]  # fmt: skip
PLAIN = [*"ab天地é1，  ", "\n"]
ALPHABETS = [
    Alphabet.named(name, latin, digits)
    for name, latin, digits in product(
        ("han", "letters", "any"), (None, True, False), (None, True, False)
    )
]


class ChunksOnly:
    """A corpus that is read through `chunks` alone."""

    def __init__(self, corpus: Corpus) -> None:
        self.chunks = corpus.chunks


def odd_text(seed: int) -> str:
    """Stretches of plain text and of text full of marks and joiners."""
    rng = np.random.default_rng(seed)
    stretches = [rng.choice(ODD if i % 2 else PLAIN, rng.integers(1, 60)) for i in range(12)]
    return "".join(map("".join, stretches))


def corpus_of(path: Path, text: str, splitting: Splitting) -> Corpus:
    path.write_bytes(text.encode())
    return Corpus(Source((path,)), splitting)


def exact_pieces(corpus: Corpus) -> list[str]:
    """The pieces in which words are searched, of the text as one chunk."""
    characters, starts = corpus.read().segmentable()
    text = "".join(map(chr, characters.tolist()))
    return [text[a:b] for a, b in pairwise(starts)]


def streamed_pieces(corpus: symbols.Chunks) -> list[str]:
    """The pieces of the symbol stream."""
    table, _ = symbols.survey(corpus)
    parts = [block.symbols[: block.owned] for block in symbols.blocks(corpus, table, 1, False)]
    stream = np.concatenate([np.empty(0, np.uint32), *parts])
    pieces = np.split(stream, np.flatnonzero(stream == 0) + 1)
    return [table.spell_symbols(piece[piece > 0]) for piece in pieces if len(piece)]


@pytest.mark.parametrize("spaces", ["cut", "strip", "gold"])
@pytest.mark.parametrize("sentence_ends", [True, False])
def test_the_quick_pass_finds_the_pieces_of_the_exact_one(
    tmp_path: Path, spaces: str, sentence_ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, alphabet in enumerate(ALPHABETS * 2):
        splitting = Splitting(alphabet, spaces, sentence_ends, separators="/\u200c"[: seed % 3])
        corpus = corpus_of(tmp_path / "t.txt", odd_text(seed), splitting)
        expected = exact_pieces(corpus)
        with monkeypatch.context() as patch:
            patch.setattr(symbols, "CHUNK_CHARACTERS", 1 + seed % 7)
            assert streamed_pieces(corpus) == expected
            patch.setattr(symbols, "CHUNK_CHARACTERS", 100)
            assert streamed_pieces(ChunksOnly(corpus)) == expected


@pytest.mark.parametrize(
    ("text", "settings", "pieces"),
    [
        ("می\u200cخواهم", {"name": "letters"}, ["می\u200cخواهم"]),
        ("Donau\u00addampf\u00adschiff", {"name": "letters"}, ["Donau\u00addampf\u00adschiff"]),
        ("葛\U000e0100城市", {"name": "han"}, ["葛\U000e0100城市"]),
        ("❤\ufe0fhello", {"name": "letters"}, ["hello"]),
        ("1\ufe0f\u20e3 abc", {"name": "letters"}, ["abc"]),
        ("cafe\u0301 na\u0308her 天", {"name": "letters", "keep_latin": True}, ["天"]),
        ("क्\u200dष", {"name": "letters"}, ["क्\u200dष"]),
        ("👨\u200dabc", {"name": "letters"}, ["bc"]),  # what follows a joiner goes with it
        ("👨\u200d abc", {"name": "letters"}, ["abc"]),  # but not over a space
    ],
)
@pytest.mark.parametrize("characters", [1, 2, symbols.CHUNK_CHARACTERS])
def test_marks_and_joiners_go_with_the_character_before_them(
    tmp_path: Path,
    text: str,
    settings: dict,
    pieces: list[str],
    characters: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(symbols, "CHUNK_CHARACTERS", characters)
    monkeypatch.setattr(reading.text_blocks, "__defaults__", (3,))
    corpus = corpus_of(tmp_path / "t.txt", text, Splitting(Alphabet.named(**settings)))
    assert streamed_pieces(corpus) == pieces


@pytest.mark.parametrize("rule", ["open", "kenlm"])
def test_marks_and_joiners_are_counted_as_in_chunks(tmp_path: Path, rule: str) -> None:
    text = "".join(map(odd_text, range(20)))
    corpus = corpus_of(tmp_path / "t.txt", text, Splitting(Alphabet.named("letters")))
    counts = count_ngrams(corpus, 3, rule=rule).as_dict(3)
    assert counts == count_ngrams(ChunksOnly(corpus), 3, rule=rule).as_dict(3)

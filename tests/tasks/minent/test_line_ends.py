"""data.sentence_ends=false: words over line ends are written whole; lines keep their numbers."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kexue_cli.cli import main
from kexue_cli.tasks.minent.alphabet import Alphabet
from kexue_cli.tasks.minent.data import Corpus, Source
from kexue_cli.tasks.minent.outputs import page
from kexue_cli.tasks.minent.segment import SAFE_TAIL, WordTrie, cut_chunk, cut_corpus
from kexue_cli.tasks.minent.segmentation import spaced_text, tally_and_write
from kexue_cli.tasks.minent.splitting import (
    Chunk,
    Splitting,
    chunks_of,
    code_points_of,
    concatenate,
)
from tests.tasks.minent.conftest import WORDS
from tests.tasks.minent.test_task import own_entropies

OVER_LINES = Splitting(Alphabet.named("any"), "strip", sentence_ends=False)


def test_a_line_that_ends_inside_a_word_goes_on_to_its_end() -> None:
    chunk = OVER_LINES.split(code_points_of("\nab\n\ncd e\nf\n"), False)
    ends = np.array([0, 0, 1, 1, 0, 1], np.bool_)  # abc, d, ef
    assert spaced_text(chunk, ends) == "\nabc\n\nd ef\n\n"
    ends[:] = [1, 1, 1, 1, 1, 0]  # what is shown may stop inside a word
    assert spaced_text(chunk, ends) == "\na b\n\nc d e\nf\n"


def test_the_page_of_the_report_shows_each_line_beside_what_is_written_for_it() -> None:
    chunk = OVER_LINES.split(code_points_of("ab\ncd\n\nef\ng"), False)
    ends = np.array([0, 0, 1, 1, 0, 1, 1], np.bool_)  # abc, d, ef, g; the text may go on
    assert page(chunk, ends, "split") == "split\n\nab\nabc\n\ncd\nd\n\nef\nef\n\ng\ng \n"
    ends[-1] = False
    assert page(chunk, ends, "split") == "split\n\nab\nabc\n\ncd\nd\n\nef\nef\n\ng\ng\n"


def test_a_page_cut_off_inside_a_word_has_all_its_lines() -> None:
    chunk = OVER_LINES.split(code_points_of("ab\n" * 60), False)
    ends = np.arange(120) % 2 == 0  # a, then ba over every line end
    shown = page(chunk, ends, "split").split("\n\n")
    assert len(shown) == 41
    assert [shown[1], shown[40]] == ["ab\na ba", "ab\nb\n"]


def random_lines(seed: int, words: list[str]) -> str:
    """Words in lines that end anywhere, some of them blank."""
    rng = np.random.default_rng(seed)
    letters = "".join(rng.choice(words, 700))
    gaps = np.flatnonzero(rng.random(len(letters)) < 0.2)
    broken = np.insert(np.array(list(letters)), np.sort(np.append(gaps, gaps[::4])), "\n")
    return "".join(broken) + "\n"


class Streamed(Corpus):
    """A corpus from a string in chunks of 300 characters."""

    def chunks(self, chunk_characters: int = 300) -> Iterator[Chunk]:
        return chunks_of(iter([TEXT]), OVER_LINES, 300)


TEXT = random_lines(0, ["ab", "bab", "aab", "b"])


def test_a_stream_is_written_with_the_tokens_that_are_counted(tmp_path: Path) -> None:
    assert len(TEXT) > 4 * SAFE_TAIL
    trie = WordTrie.of(["a", "b", "ab", "bab", "aab"], np.array([-3.0, -2, -2.5, -3, -3]), 1)
    path = tmp_path / "segmented.txt"
    stream = list(cut_corpus(Streamed(Source(()), OVER_LINES), trie.cut))
    assert len(stream) > 3
    tally = tally_and_write(iter(stream), None, path)
    written = path.read_text()
    assert written.count("\n") == TEXT.count("\n")
    assert "".join(written.split()) == "".join(TEXT.split())
    assert Counter(written.split()) == tally.words
    whole = concatenate(list(chunks_of(iter([TEXT]), OVER_LINES)))
    assert written.replace(" \n", "\n") == spaced_text(whole, cut_chunk(whole, trie.cut))


@pytest.mark.parametrize("model", ["merge", "best"])
def test_files_of_a_run_agree_with_its_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.chdir(tmp_path)
    text = random_lines(1, WORDS)
    Path("text.txt").write_text(text)
    command = [
        "task=minent", "data=text", "data.path=text.txt", "data.spaces=strip",
        "data.sentence_ends=false", "data.alphabet=any", "device=cpu", f"model={model}",
    ]  # fmt: skip
    command += ["model.sweeps=4", "model.average=2"] if model == "best" else []
    main([*command, "run_dir=run"])
    rows = [line.split() for line in Path("run/segmented.txt").read_text().split("\n")[:-1]]
    lines = text.split("\n")[:-1]
    assert len(rows) == len(lines)
    assert ["".join(row) for row in rows] != lines
    tokens = Counter(token for row in rows for token in row)
    metrics = json.loads(Path("run/metrics.json").read_text())["test"]
    assert (tokens.total(), len(tokens)) == (metrics["tokens"], metrics["vocabulary"])
    with Path("run/lexicon.csv").open() as file:
        table = {row["word"]: row for row in csv.DictReader(file)}
    assert {word: int(row["count"]) for word, row in table.items()} == tokens
    for word, row in table.items():
        found = [float(row["left_entropy_bits"]), float(row["right_entropy_bits"])]
        assert found == pytest.approx(own_entropies(rows, word), abs=1e-9)
    with Path("run/submission.csv").open() as file:
        submitted = list(csv.DictReader(file))
    assert [int(row["id"]) for row in submitted] == list(range(len(lines)))
    assert [row["text"].split() for row in submitted] == rows
    main([*command, "data.gold=run/segmented.txt", "run_dir=again"])
    assert json.loads(Path("again/metrics.json").read_text())["test"]["token_f1"] == 100

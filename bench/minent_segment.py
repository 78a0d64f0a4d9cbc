"""Speed of learning and segmenting: this package beside plain Python, SentencePiece and jieba.

    python bench/minent_segment.py --text book.txt [--characters N] [--python-characters N]
    python bench/minent_segment.py --text book.txt --segmenting

Text is stripped of spaces; lines stay. Plain Python EM is the same algorithm with dictionaries, on
fewer characters, and compared by the character. Peers that are not installed are left out; get
them with `pip install sentencepiece jieba`.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kexue_cli.tasks.minent.bigram import Settings
from kexue_cli.tasks.minent.bigram_lexicon import learn_lexicon
from kexue_cli.tasks.minent.config import TextData
from kexue_cli.tasks.minent.data import open_corpus
from kexue_cli.tasks.minent.lattice import Lattice, best_segmentation, build_lattice
from kexue_cli.tasks.minent.scores import words_of
from kexue_cli.tasks.minent.segment import Cut, WordTrie
from kexue_cli.tasks.minent.splitting import Chunk
from kexue_cli.tasks.minent.unigram_mdl import choose_exponent, fit_unigram

ITERATIONS = 10


def timed(job: Callable[[], Any]) -> tuple[Any, float]:
    """Result and wall seconds."""
    start = time.perf_counter()
    result = job()
    return result, time.perf_counter() - start


def lines_of(chunk: Chunk) -> list[str]:
    """The free pieces as strings."""
    text, starts = chunk.segmentable()
    ends = np.zeros(len(text), np.bool_)
    ends[starts[1:] - 1] = True
    return words_of(text, ends)


def plain_em(lines: list[str], exponent: float, max_length: int) -> dict[str, float]:
    """Penalised unigram EM with dictionaries; returns word probabilities."""
    counts: dict[str, int] = defaultdict(int)
    for line in lines:
        for i in range(len(line)):
            for j in range(i + 1, min(len(line), i + max_length) + 1):
                counts[line[i:j]] += 1
    words = [w for w, n in counts.items() if n > 1 or len(w) == 1]
    probability = dict.fromkeys(words, 1 / len(words))
    for _ in range(ITERATIONS):
        weights = {w: p * math.exp(-(len(w) ** exponent)) for w, p in probability.items()}
        expected: dict[str, float] = defaultdict(float)
        for line in lines:
            _collect(line, weights, expected, max_length)
        total = sum(expected.values())
        probability = {w: n / total for w, n in expected.items()}
    return probability


def _collect(
    line: str, weights: dict[str, float], expected: dict[str, float], max_length: int
) -> None:
    size = len(line)
    forward, backward = [1.0] + [0.0] * size, [0.0] * size + [1.0]
    for j in range(1, size + 1):
        begins = range(max(0, j - max_length), j)
        forward[j] = sum(forward[i] * weights.get(line[i:j], 0.0) for i in begins)
    if forward[size] == 0.0:
        return
    for i in range(size - 1, -1, -1):
        for j in range(i + 1, min(size, i + max_length) + 1):
            weight = weights.get(line[i:j], 0.0)
            if weight:
                backward[i] += weight * backward[j]
                expected[line[i:j]] += forward[i] * weight * backward[j] / forward[size]


def sentencepiece_seconds(lines: list[str], kind: str, max_length: int) -> float | None:
    """Training time of SentencePiece with 8000 pieces on the stripped lines."""
    try:
        import sentencepiece
    except ImportError:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text"
        path.write_text("\n".join(lines), encoding="utf-8")
        options: dict[str, Any] = {
            "input": str(path), "model_prefix": f"{folder}/m", "vocab_size": 8000,
            "model_type": kind, "character_coverage": 1.0, "add_dummy_prefix": False,
            "split_by_whitespace": False, "split_by_unicode_script": False,
            "split_by_number": False, "max_sentencepiece_length": max_length,
            "max_sentence_length": 1_000_000, "hard_vocab_limit": False, "num_threads": 1,
            "minloglevel": 2,
        }  # fmt: skip
        return timed(lambda: sentencepiece.SentencePieceTrainer.train(**options))[1]


def jieba_rate(lines: list[str]) -> float | None:
    """Bytes a second of jieba without its HMM."""
    try:
        import jieba
    except ImportError:
        return None
    jieba.setLogLevel(60)
    jieba.initialize()
    some = lines[:20_000]
    seconds = timed(lambda: [jieba.lcut(line, HMM=False) for line in some])[1]
    return sum(len(line.encode()) for line in some) / seconds


def cutting_rate(cut: Cut, text: Any, starts: Any, size: int) -> str:
    """Speed of a compiled cut of `size` bytes: by the clock and by processor time."""
    cut(text[: starts[1]], starts[:2])  # compiles
    took = []
    for _ in range(5):
        before = time.process_time()
        wall = timed(lambda: cut(text, starts))[1]
        took.append((wall, time.process_time() - before))
    wall, processor = sorted(took)[2]
    return f"{size / wall / 1e6:.1f} MB/s, {size / processor / 1e6:.1f} MB a processor second"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--text", required=True)
    parser.add_argument("--characters", type=int, default=1_000_000)
    parser.add_argument("--python-characters", type=int, default=100_000)
    parser.add_argument("--exponent", type=float, default=1.45)
    parser.add_argument("--segmenting", action="store_true", help="leave learning out")
    given = parser.parse_args()
    corpus = open_corpus(TextData(path=given.text, spaces="strip"))
    longest = 8 if corpus.splitting.alphabet.name == "han" else 14
    choose_exponent(build_lattice(*corpus.read(10_000).segmentable(), longest, 2), 1)  # compiles
    chunk = corpus.read(given.characters)
    text, starts = chunk.segmentable()
    lines = lines_of(chunk)
    report(f"{len(text):,} characters in {len(lines):,} pieces", None)
    lattice, seconds = timed(lambda: build_lattice(text, starts, longest, 2))
    report("candidates", seconds)
    scores, seconds = timed(lambda: fit_unigram(lattice, given.exponent, ITERATIONS))
    report(f"EM, {ITERATIONS} iterations, one exponent", seconds)
    if not given.segmenting:
        learning(lattice, lines, given, longest, seconds)
    segmenting(lattice, lines, scores, given.exponent)


def learning(
    lattice: Lattice, lines: list[str], given: argparse.Namespace, longest: int, em_seconds: float
) -> None:
    """The exponent's choice, plain Python and SentencePiece, beside EM with one exponent."""
    _, seconds = timed(lambda: choose_exponent(lattice, ITERATIONS))
    report("EM with the exponent chosen", seconds)
    few, length = [], 0
    for line in lines:
        few.append(line)
        length += len(line)
        if length >= given.python_characters:
            break
    _, plain = timed(lambda: plain_em(few, given.exponent, longest))
    report(f"plain Python EM on {length:,} characters", plain)
    ratio = (plain / length) / (em_seconds / len(lattice.symbols))
    print(f"by the character, plain Python takes {ratio:.0f} times as long")
    for kind in ("unigram", "bpe"):
        report(f"SentencePiece {kind}", sentencepiece_seconds(lines, kind, longest))


def segmenting(
    lattice: Lattice, lines: list[str], scores: NDArray[np.float64], exponent: float
) -> None:
    """The lexicons of EM's segmentation, cutting the text they were learned from."""
    text, starts = lattice.alphabet[lattice.symbols], lattice.starts
    ends = best_segmentation(lattice.ids, starts, scores)
    used = np.unique(lattice.words(ends))
    trie = WordTrie.of([lattice.spell(w) for w in used], scores[used])
    size = len("".join(lines).encode())
    penalty = np.exp(-0.3 * np.arange(lattice.ids.shape[1] + 1.0) ** exponent)
    for name, dependent in (("bigram", True), ("independent words", False)):
        settings = Settings(0.9, 30.0, 0.5, 1.0, penalty, dependent)
        model = learn_lexicon(lattice, ends, settings)
        print(f"segmenting as model=best, {name}: {cutting_rate(model.cut, text, starts, size)}")
    print(f"segmenting as model=unigram_mdl: {cutting_rate(trie.cut, text, starts, size)}")
    rate = jieba_rate(lines)
    print("jieba: not installed" if rate is None else f"jieba: {rate / 1e6:.2f} MB/s")


def report(what: str, seconds: float | None) -> None:
    """One line."""
    print(what if seconds is None else f"{what:50s} {seconds:9.2f} s", flush=True)


if __name__ == "__main__":
    main()

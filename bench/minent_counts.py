"""Exact n-gram counts of one text: we, KenLM's count_ngrams at the same memory, Python's Counter.

    python bench/minent_counts.py TEXT [--kenlm PATH/count_ngrams] [--repeat 20] [--verify]

TEXT is UTF-8, one sentence a line; without it a text is made of words drawn from jieba's dictionary
(needs the package jieba). `--characters` cuts or repeats nothing: it sizes the made text only.
count_ngrams is a program of KenLM (github.com/kpu/kenlm, lm/builder); build it and give its path.
Every program runs in a process of its own; wall seconds and peak resident memory include its start.
KenLM runs first; we are then allowed the memory that it took. Its input, the characters separated
by spaces, is prepared outside the clock.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

OURS = """
import sys
from pathlib import Path
from kexue_cli.tasks.minent.alphabet import Alphabet
from kexue_cli.tasks.minent.data import Corpus, Source
from kexue_cli.tasks.minent.splitting import Splitting
from kexue_cli.tasks.minent.ngrams import count_ngrams
text, order, memory, rule, folder = sys.argv[1:]
corpus = Corpus(Source((Path(text),)), Splitting(Alphabet.named("any")))
count_ngrams(corpus, int(order), rule=rule, memory_mib=int(memory), folder=Path(folder))
"""
COUNTER = """
import sys
from collections import Counter
text, order = sys.argv[1], int(sys.argv[2])
counts = Counter()
for line in open(text, encoding="utf-8"):
    line = line.strip()
    for m in range(1, order + 1):
        counts.update(line[i : i + m] for i in range(len(line) - m + 1))
"""


def measure(
    command: list[str], stdin: Path | None = None, stdout: Path | None = None
) -> tuple[float, float, float]:
    """Wall seconds, peak resident MiB and CPU seconds of a child process.

    Raises RuntimeError where it fails.
    """
    with open(stdin or os.devnull, "rb") as source, open(stdout or os.devnull, "wb") as sink:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdin=source, stdout=sink, stderr=subprocess.PIPE)
        assert child.stderr is not None
        errors = child.stderr.read().decode()
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{command[0]} failed with {child.returncode}: {errors[-2000:]}")
    return seconds, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime


def make_text(path: Path, characters: int, seed: int = 0) -> None:
    """Lines of words drawn independently by the frequencies of jieba's dictionary."""
    import jieba

    with open(Path(jieba.__file__).with_name("dict.txt"), encoding="utf-8") as file:
        entries = [line.split() for line in file]
    words = np.array([word for word, *_ in entries], dtype=object)
    weights = np.array([float(count) for _, count, *_ in entries])
    rng = np.random.default_rng(seed)
    written = 0
    with path.open("w", encoding="utf-8") as file:
        while written < characters:
            drawn = words[rng.choice(len(words), 100_000, p=weights / weights.sum())]
            for line in np.split(drawn, np.cumsum(rng.integers(3, 20, 8000))):
                text = "".join(line)
                file.write(text + "\n")
                written += len(text)


def space_out(text: Path, spaced: Path) -> int:
    """Write KenLM's input and return the number of characters."""
    characters = 0
    with text.open(encoding="utf-8") as source, spaced.open("w", encoding="utf-8") as target:
        for line in source:
            line = "".join(line.split())
            characters += len(line)
            target.write(" ".join(line) + "\n")
    return characters


def kenlm_records(vocabulary: Path, counts: Path, order: int) -> tuple[np.ndarray, np.ndarray]:
    """KenLM's records as sorted rows of code points (0 </s>, 1 <s>) and their counts."""
    words = vocabulary.read_bytes().decode().split("\0")[:-1]
    code_of = np.array([{"<s>": 1, "</s>": 0}.get(w, ord(w[-1])) for w in words], np.int64)
    data = np.fromfile(counts, np.dtype([("ids", "<u4", (order,)), ("count", "<u8")]))
    rows = code_of[data["ids"]]
    place = np.lexsort(rows.T[::-1])
    return rows[place], data["count"][place]


def our_records(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Our records in the same form."""
    from kexue_cli.tasks.minent import ngrams

    counts = ngrams.load(folder)
    bits = counts.table.bits
    keys = np.asarray(counts.records.keys)
    symbols = np.stack(
        [
            (keys >> np.uint64(bits * i)) & np.uint64((1 << bits) - 1)
            for i in reversed(range(counts.order))
        ],
        1,
    )
    code_of = np.concatenate([[0, 1, 0], counts.table.code_points]).astype(np.int64)
    rows = code_of[symbols]
    place = np.lexsort(rows.T[::-1])
    return rows[place], np.asarray(counts.records.counts)[place]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("text", type=Path, nargs="?")
    parser.add_argument("--characters", type=int, default=5_000_000, help="of the made text")
    parser.add_argument("--kenlm", type=Path, help="path of KenLM's count_ngrams")
    parser.add_argument("--kenlm-memory", default="1G", help="its -S")
    parser.add_argument(
        "--memory-mib", type=int, default=290, help="ours, where KenLM does not run"
    )
    parser.add_argument("--order", type=int, default=4)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--counter", action="store_true", help="also Python's Counter")
    parser.add_argument("--verify", action="store_true", help="compare our records with KenLM's")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        run(options, Path(name))


def run(options: argparse.Namespace, folder: Path) -> None:
    text = options.text
    if text is None:
        text = folder / "made.txt"
        make_text(text, options.characters)
    spaced, vocabulary, counts = folder / "spaced", folder / "vocabulary", folder / "counts"
    print(f"{text}: {space_out(text, spaced):,} characters, order {options.order}", flush=True)
    order, allowed, kenlm = str(options.order), options.memory_mib, None
    if options.kenlm is None:
        print("KenLM skipped: give --kenlm PATH (see --help)")
    else:
        command = [str(options.kenlm), "-o", order, "-S", options.kenlm_memory, "-T", str(folder)]
        command += ["--write_vocab_list", str(vocabulary)]
        kenlm = report("KenLM count_ngrams", options.times, command, spaced, counts)
        allowed = round(kenlm[1])
    ours = report(
        "kexue minent, kenlm rule", options.times,
        [sys.executable, "-c", OURS, str(text), order, str(allowed), "kenlm", str(folder / "k")],
    )  # fmt: skip
    plain = report(
        "kexue minent, open rule", options.times,
        [sys.executable, "-c", OURS, str(text), order, str(allowed), "open", str(folder / "o")],
    )  # fmt: skip
    if kenlm:
        print(f"time of KenLM / ours, same records: {kenlm[0] / ours[0]:.1f}")
        print(f"time of KenLM / ours, open rule: {kenlm[0] / plain[0]:.1f}")
        print(f"CPU seconds of KenLM / ours, same records: {kenlm[2] / ours[2]:.1f}")
    if options.counter:
        counter = report("Python Counter", 1, [sys.executable, "-c", COUNTER, str(text), order])
        print(f"time of Counter / ours: {counter[0] / plain[0]:.1f}")
    if options.verify and kenlm:
        theirs, mine = kenlm_records(vocabulary, counts, options.order), our_records(folder / "k")
        same = all(np.array_equal(a, b) for a, b in zip(theirs, mine, strict=True))
        print(f"{len(theirs[1]):,} records, equal to KenLM's: {same}")


def report(
    name: str, times: int, command: list[str], stdin: Path | None = None, stdout: Path | None = None
) -> tuple[float, float, float]:
    """Run `times` times; print and return median seconds, peak memory, median CPU seconds."""
    results = [measure(command, stdin, stdout) for _ in range(times)]
    seconds, processor = (statistics.median(r[k] for r in results) for k in (0, 2))
    peak = max(r[1] for r in results)
    print(f"{name:28s} {seconds:8.2f} s  CPU {processor:7.2f} s  peak {peak:7.0f} MiB", flush=True)
    return seconds, peak, processor


if __name__ == "__main__":
    main()

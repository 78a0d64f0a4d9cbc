"""Memory and time of encoding a file as large as the contest's, and of an epoch over it.

    python bench/dgcnn_store.py --questions 40000

Writes a JSON file of synthetic questions in the blog's form, 20 passages of about 100 characters
each, into a temporary folder, encodes it, and reads one random passage of every question in random
order. Prints the peak resident memory after each step: what the interpreter with its packages takes
comes first, so that the differences are the task's.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from kexue_cli.run.console import Console
from kexue_cli.tasks.dgcnn import elements
from kexue_cli.tasks.dgcnn.encoding import TextSettings, WordIndex, encode
from kexue_cli.tasks.dgcnn.normalise import Normaliser
from kexue_cli.tasks.dgcnn.problems import Rules
from kexue_cli.tasks.dgcnn.sources import SourceOpener
from kexue_cli.tasks.dgcnn.tags import Tagger
from kexue_cli.tasks.dgcnn.words import WordCutter

KINDS = 500  # different questions; the file repeats them under other ids


def write_file(path: Path, n_questions: int, n_passages: int) -> None:
    """A file of questions on the elements."""
    made = list(elements.questions(KINDS, n_passages, 0.4, 0, (True,)))
    with path.open("w", encoding="utf-8") as file:
        for i in range(n_questions):
            question = made[i % KINDS]
            passages = [{"passage": p.text, "answer": p.answer} for p in question.passages]
            item = {"id": str(i), "question": question.text, "passages": passages}
            file.write(("[\n" if i == 0 else ",\n") + json.dumps(item, ensure_ascii=False))
        file.write("\n]\n")


def say(what: str, begun: float) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what:32} {time.perf_counter() - begun:8.1f} s   peak {peak:7.0f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=40_000)
    parser.add_argument("--passages", type=int, default=20)
    args = parser.parse_args()
    settings = TextSettings(Normaliser(), WordCutter(), Tagger())
    with tempfile.TemporaryDirectory() as folder:
        path, begun = Path(folder) / "questions.json", time.perf_counter()
        write_file(path, args.questions, args.passages)
        for question in elements.questions(2, 2, 0.4, 0, (True,)):
            encode(question, settings, WordIndex())
        say(f"file of {path.stat().st_size / 1e6:.0f} MB written", begun)
        begun = time.perf_counter()
        opener = SourceOpener(settings, Rules(), Path(folder) / "cache", Console(quiet=True))
        store = opener.open_file(path)
        say("encoded", begun)
        size = sum(file.stat().st_size for file in store.folder.iterdir())
        print(
            f"{len(store)} questions, {store.facts['characters']} characters, {size / 1e6:.0f} MB"
        )
        begun = time.perf_counter()
        opener.open_file(path)
        say("opened again from the cache", begun)
        begun, rng = time.perf_counter(), np.random.default_rng(0)
        for i in rng.permutation(len(store)):
            store.raw(int(i), only=int(rng.integers(args.passages)))
        say("one passage of each question", begun)


if __name__ == "__main__":
    main()

"""The whole of pmi_cut and word_discovery, timed, against the author's Python.

    python bench/minent_pmi.py [TEXT] [--nlp-zero DIR] [--word-discovery DIR [--kenlm PATH]]

TEXT is UTF-8 Han characters, one clause a line; without it a text of `--characters` is made from
jieba's dictionary. The author's programs (github.com/bojone/nlp-zero, github.com/bojone/
word-discovery) are given as folders and run on the first `--author-characters`, we on the same part
and on the whole. Every program runs in a process of its own; wall seconds include its start. What
is timed is learning and the writing of the lexicon, theirs and ours; `--runs` times the command
line as well, which also segments the text and writes tables and pictures, and nlp-zero with its
own Tokenizer segmenting the text.
nlp-zero runs with its one broken import mended and its weak pairs kept (removing them fails).
word-discovery has its n-grams counted by KenLM's count_ngrams; without `--kenlm` by us, in KenLM's
form, which takes less time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from minent_counts import make_text, report  # type: ignore[import-not-found]

OURS = """
import sys
from types import SimpleNamespace
from pathlib import Path
from kexue_cli.run.console import Console
from kexue_cli.run.signals import StopFlag
from kexue_cli.tasks.minent.alphabet import Alphabet
from kexue_cli.tasks.minent.config_counts import NlpZeroModel, PmiCutModel, WordDiscoveryModel
from kexue_cli.tasks.minent.data import Corpus, Source
from kexue_cli.tasks.minent.splitting import Splitting
from kexue_cli.tasks.minent.pmi_cut import PmiCut
from kexue_cli.tasks.minent.word_discovery import WordDiscovery
name, text, order = sys.argv[1:]
models = {"pmi_cut": PmiCutModel, "nlp_zero": NlpZeroModel, "word_discovery": WordDiscoveryModel}
model = models[name]()
fields = {k: v for k, v in vars(model).items() if k not in ("name", "task", "_target_")}
if order != "-":
    fields["order"] = int(order)
method = (WordDiscovery if name == "word_discovery" else PmiCut)(**fields)
console = Console()
ctx = SimpleNamespace(console=console, stop=StopFlag(), log=lambda **metrics: None, resume=None)
ctx.save_checkpoint = lambda state: None
method.fit(ctx, Corpus(Source((Path(text),)), Splitting(Alphabet.named("any"))))
Path(text + "." + name).write_text(method.lexicon().jieba_text(), encoding="utf-8")
"""
NLP_ZERO = """
import collections, collections.abc, sys
collections.Iterable = collections.abc.Iterable
sys.path.insert(0, sys.argv[1])
from nlp_zero import Word_Finder
lines = open(sys.argv[2], encoding="utf-8").read().split()
finder = Word_Finder()
finder.train(lines, filtering=False)
finder.find(lines, filtering=False, remove_weak_pairs=False)
with open(sys.argv[2] + ".author", "w", encoding="utf-8") as file:
    for word, count in finder.words.items():
        print(word, count, file=file)
if sys.argv[3:] == ["cut"]:
    from nlp_zero import Tokenizer, Trie
    tokenizer = Tokenizer(Trie(finder.words.items()))
    with open(sys.argv[2] + ".cut", "w", encoding="utf-8") as file:
        for line in lines:
            print(" ".join(tokenizer.tokenize(line, combine_Aa123=False)), file=file)
"""
KENLM_FORM = """
import sys
from pathlib import Path
import numpy as np
from kexue_cli.tasks.minent.alphabet import Alphabet
from kexue_cli.tasks.minent.data import Corpus, Source
from kexue_cli.tasks.minent.ngrams import count_ngrams
from kexue_cli.tasks.minent.splitting import Splitting
text, vocabulary, records, order = sys.argv[1:]
corpus = Corpus(Source((Path(text),)), Splitting(Alphabet.named("any")))
counts = count_ngrams(corpus, int(order), rule="kenlm")
names = ["<unk>", "<s>", "</s>", *map(chr, counts.table.code_points)]
Path(vocabulary).write_bytes("".join(name + "\\0" for name in names).encode())
table = np.empty(len(counts.records.keys), [("ids", "<u4", (counts.order,)), ("count", "<u8")])
bits, keys = counts.table.bits, np.asarray(counts.records.keys)
for i in range(counts.order):
    shift = np.uint64(bits * (counts.order - 1 - i))
    table["ids"][:, i] = (keys >> shift) & np.uint64((1 << bits) - 1)
table["count"] = counts.records.counts
table.tofile(records)
"""
WORD_DISCOVERY = """
import subprocess, sys, types
sys.modules["six"] = types.SimpleNamespace(PY2=False)
source = open(sys.argv[1] + "/word_discovery.py", encoding="utf-8").read()
exec(source.partition("min_count = 32")[0])
text, kenlm, ours = sys.argv[2:]
lines = open(text, encoding="utf-8").read().split()
write_corpus(lines, text + ".spaced")
if kenlm == "-":
    paths = [text, text + ".chars", text + ".ngrams"]
    subprocess.run([sys.executable, "-c", ours, *paths, "4"], check=True)
else:
    with open(text + ".spaced", "rb") as corpus, open(text + ".ngrams", "wb") as counts:
        command = [kenlm, "-o", "4", "-S", "1G", "--write_vocab_list", text + ".chars"]
        subprocess.run(command, stdin=corpus, stdout=counts, stderr=subprocess.DEVNULL, check=True)
counted = KenlmNgrams(text + ".chars", text + ".ngrams", 4, 32)
solid = filter_ngrams(counted.ngrams, counted.total, [0, 2, 4, 6])
trie = SimpleTrie()
for word in solid:
    trie.add_word(word)
candidates = {}
for line in lines:
    for word in trie.tokenize(line):
        candidates[word] = candidates.get(word, 0) + 1
candidates = filter_vocab({w: n for w, n in candidates.items() if n >= 32}, solid, 4)
with open(text + ".author", "w", encoding="utf-8") as file:
    for word, count in sorted(candidates.items(), key=lambda pair: -pair[1]):
        print(word, count, file=file)
"""


def ours(name: str, text: Path, times: int, order: str = "-") -> tuple[float, float, float]:
    label = f"kexue minent {name}, {text.stem}"
    return report(label, times, [sys.executable, "-c", OURS, name, str(text), order])


def against(name: str, program: list[str], text: Path, times: int) -> None:
    """Time the author's program and ours on the same text; compare the lexicons."""
    author = report(f"the author's Python, {text.stem}", 1, [sys.executable, "-c", *program])
    mine = ours(name, text, times)
    lexicons = [
        set(Path(f"{text}.{who}").read_text("utf-8").split("\n")) for who in ("author", name)
    ]
    same = "the same lexicon" if lexicons[0] == lexicons[1] else "ANOTHER LEXICON"
    wall, processor = author[0] / mine[0], author[2] / mine[2]
    print(
        f"the author's Python / ours: {wall:.1f}, in CPU time {processor:.1f} ({same})", flush=True
    )


def command_line(name: str, text: Path) -> float:
    """Wall seconds of a whole run."""
    options = [f"model={name}", "data=text", f"data.path={text}", f"run_dir={text}.{name}.run"]
    command = [sys.executable, "-m", "kexue_cli", "task=minent", *options]
    return report(f"kexue-run model={name}, {text.stem}", 1, command)[0]


def against_tokenizer(program: list[str], text: Path) -> None:
    """Time nlp-zero that also cuts the text, and our whole run; count the lines cut alike."""
    label = f"the author's Python, the text cut, {text.stem}"
    author = report(label, 1, [sys.executable, "-c", *program, "cut"])[0]
    mine = command_line("nlp_zero", text)
    cut = [
        Path(name).read_text("utf-8").split("\n")
        for name in (f"{text}.cut", f"{text}.nlp_zero.run/segmented.txt")
    ]
    alike = sum(a == b for a, b in zip(*cut, strict=True)) / len(cut[0])
    print(f"the author's Python / our whole run: {author / mine:.1f} ({alike:.1%} of lines alike)")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("text", type=Path, nargs="?")
    parser.add_argument("--characters", type=int, default=20_000_000, help="of the made text")
    parser.add_argument("--author-characters", type=int, default=1_000_000)
    parser.add_argument("--nlp-zero", type=Path, help="folder of the author's nlp_zero.py")
    parser.add_argument("--word-discovery", type=Path, help="folder of word_discovery.py")
    parser.add_argument("--kenlm", type=Path, help="KenLM's count_ngrams, for word-discovery")
    parser.add_argument("--runs", action="store_true", help="time the command line, too")
    parser.add_argument("--times", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        run(options, Path(name))


def run(options: argparse.Namespace, folder: Path) -> None:
    text, part = folder / "whole.txt", folder / "part.txt"
    if options.text is None:
        make_text(text, options.characters)
    else:
        text.write_bytes(options.text.read_bytes())
    with text.open(encoding="utf-8") as file:
        lines = file.read(options.author_characters).rpartition("\n")[0]
    part.write_text(lines + "\n", encoding="utf-8")
    if options.nlp_zero:
        program = [NLP_ZERO, str(options.nlp_zero), str(part)]
        against("nlp_zero", program, part, options.times)
        if options.runs:
            against_tokenizer(program, part)
    if options.word_discovery:
        kenlm = str(options.kenlm or "-")
        program = [WORD_DISCOVERY, str(options.word_discovery), str(part), kenlm, KENLM_FORM]
        against("word_discovery", program, part, options.times)
    for model in ("pmi_cut", "nlp_zero", "word_discovery"):
        ours(model, text, options.times)
        if options.runs:
            command_line(model, text)


if __name__ == "__main__":
    main()

"""The task as a user runs it: files, prediction, resuming, errors."""

import csv
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig

from kexue_cli.tasks.minent.outputs import explain_nothing
from kexue_cli.tasks.minent.segmentation import Tally
from tests.tasks.minent.conftest import WORDS


def run_dir(finished) -> Path:
    assert finished.returncode == 0, finished.stderr + finished.stdout
    line = next(x for x in finished.stdout.splitlines() if x.startswith("run directory:"))
    return Path(line.split(": ", 1)[1])


def lines_of(path):
    return path.read_text(encoding="utf-8").splitlines()


def words(path, model="best", **more):
    extra = [f"{k}={v}" for k, v in more.items()]
    return ["task=minent", f"model={model}", f"data.path={path}", "output_dir=out", *extra]


def test_default_run_finds_the_words_and_writes_all_files(kexue_run, prose, tmp_path):
    (tmp_path / "known.txt").write_text("cat\ndog 3\n")
    folder = tmp_path / run_dir(
        kexue_run(
            *words(prose),
            "data=spaced",
            "task.exclude=known.txt",
            "model.sweeps=8",
            "model.average=4",
        )
    )
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["primary"]["name"] == "token_f1"
    assert metrics["test"]["token_f1"] > 90
    assert (
        metrics["test"]["entropy_per_character_bits"]
        < metrics["test"]["entropy_per_character_before_bits"]
    )
    assert metrics["test"]["entropy_per_character_nats"] == pytest.approx(
        metrics["test"]["entropy_per_character_bits"] * np.log(2)
    )
    lexicon = {row["word"]: row for row in csv.DictReader(lines_of(folder / "lexicon.csv"))}
    assert set(WORDS) <= set(lexicon)
    assert sum(float(row["probability"]) for row in lexicon.values()) == pytest.approx(1)
    assert (folder / "lexicon.txt").read_text().split("\n")[0].split()[0] in WORDS
    new = [row["word"] for row in csv.DictReader(lines_of(folder / "new_words.csv"))]
    assert "big" in new
    assert not {"cat", "dog"} & set(new)
    submission = list(csv.reader(lines_of(folder / "submission.csv")))
    assert submission[0] == ["id", "text"]
    original = prose.read_text().splitlines()
    assert [r[1].replace(" ", "") for r in submission[1:]] == [x.replace(" ", "") for x in original]
    assert (folder / "segmented.txt").read_text().count("\n") == len(original)
    assert {p.name for p in (folder / "plots").iterdir()} == {
        "curve.png",
        "words.png",
        "best_words.png",
    }


def test_a_lexicon_segments_new_text(kexue_run, prose, tmp_path):
    folder = run_dir(kexue_run(*words(prose, "unigram_mdl"), "data=spaced"))
    (tmp_path / "new.txt").write_text("thecatsat,onthemat 12\n\nabigdogran\n")
    expected = "the cat sat , on the mat 12\n\na big dog ran\n"
    new = run_dir(
        kexue_run(
            *words("new.txt", "unigram_mdl"), "data=text", "mode=predict", f"checkpoint={folder}"
        )
    )
    assert (tmp_path / new / "segmented.txt").read_text() == expected
    given = [*words("new.txt", "lexicon"), "data=text", f"model.path={folder}/lexicon.txt"]
    assert (tmp_path / run_dir(kexue_run(*given)) / "segmented.txt").read_text() == expected


def test_a_text_split_otherwise_than_the_one_learned_from_is_said(kexue_run, prose, tmp_path):
    learned = [*words(prose, "unigram_mdl"), "data=text", "data.numbers=join"]
    folder = run_dir(kexue_run(*learned))
    alike = run_dir(kexue_run(*learned, "mode=predict", f"checkpoint={folder}"))
    assert "split as" not in (tmp_path / alike / "run.log").read_text()
    other = [*words(prose, "unigram_mdl"), "data=text", "mode=predict", f"checkpoint={folder}"]
    log = (tmp_path / run_dir(kexue_run(*other)) / "run.log").read_text()
    assert f"warning: {folder} learned from text split as: alphabet letters" in log
    assert "data.numbers of that run" in log


def test_gold_file_scores_text_and_differences_are_named(kexue_run, prose, tmp_path):
    (tmp_path / "text.txt").write_text(prose.read_text().replace(" ", ""))
    base = [*words("text.txt", "unigram_mdl"), "data=text"]
    folder = run_dir(kexue_run(*base, f"data.gold={prose}"))
    metrics = json.loads((tmp_path / folder / "metrics.json").read_text())
    assert metrics["test"]["token_f1"] > 90
    lines = prose.read_text().splitlines()
    lines[2] = lines[2][0] + "é" + lines[2][2:]
    (tmp_path / "gold.txt").write_text("\n".join(lines))
    failed = kexue_run(*base, "data.gold=gold.txt")
    assert failed.returncode != 0
    assert "gold.txt: line 3, character 2" in " ".join((failed.stderr + failed.stdout).split())


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"", ["data=text"], "found no visible character"),
        (b"\0\1\2", ["data=text"], "this is a binary file"),
        ("熵最小".encode("gb18030"), ["data=text"], "data.encoding=gb18030"),
        (b"!!! ???\n", ["data=text", "data.alphabet=han"], "set data.alphabet to letters or any"),
        (b"!!! ???\n", ["data=text"], "set data.alphabet to any, or give another data.path"),
        (b"ab\n", ["data=text", "data.alphabet=greek"], "data.alphabet"),
        (b"ab\n", ["data=text", "model.exponent=-1"], "model.exponent"),
        (b"ab\n", ["data=text", "mode=predict"], "checkpoint"),
        (b"ab\n", ["data=spaced", "data.gold=x.txt"], "data.gold"),
        (b"ab\n", ["data=text", "task.exclude=nothere"], "nothere: cannot be read"),
        (b"ab\n", ["data=text", "model=pmi_cut", "model.min_pmi=abc"], "model.min_pmi"),
        (b"ab\n", ["data=text", "model=pmi_cut", "model.min_pmi=[1,nan]"], "model.min_pmi"),
        (b"ab\n", ["data=text", "model=pmi_cut", "model.grid=[]"], "model.grid"),
        (b"ab\n", ["data=text", "model=pmi_cut", "model.workers=-1"], "model.workers"),
        (b"ab\n", ["data=text", "model=merge", "model.max_merges=0"], "model.max_merges"),
    ],
)
def test_bad_input_is_named_and_leaves_no_result(kexue_run, tmp_path, content, options, message):
    (tmp_path / "bad.txt").write_bytes(content)
    failed = kexue_run(*words("bad.txt", "unigram_mdl"), *options)
    assert failed.returncode != 0
    assert message in " ".join((failed.stderr + failed.stdout).split())
    assert "Traceback" not in failed.stderr
    assert not list(tmp_path.glob("out/**/segmented.txt"))


def test_a_method_that_tries_nothing_shows_letters_and_words(kexue_run, prose, tmp_path):
    folder = run_dir(kexue_run(*words(prose, "nlp_zero"), "data=spaced", "data.alphabet=any"))
    assert (tmp_path / folder / "plots" / "curve.png").stat().st_size > 5000


def test_a_given_lexicon_predicts_without_training(kexue_run, tmp_path):
    (tmp_path / "lexicon.txt").write_text("the 3\ncat 2\nc 1\na 1\nt 1\n")
    (tmp_path / "new.txt").write_text("thecat\n")
    base = [*words("new.txt", "lexicon"), "data=text", "model.path=lexicon.txt"]
    folder = tmp_path / run_dir(kexue_run(*base, "mode=predict"))
    assert lines_of(folder / "segmented.txt") == ["the cat"]


def test_a_mistyped_setting_is_put_right_when_the_run_goes_on(kexue_run, prose, tmp_path):
    failed = kexue_run(*words(prose, "unigram_mdl"), "data=text", "task.exclude=nothere")
    assert "nothere: cannot be read" in failed.stderr
    (folder,) = (path.parent for path in (tmp_path / "out").rglob("run.json"))
    (tmp_path / "known.txt").write_text("the\n")
    finished = kexue_run(f"resume={folder}", "task.exclude=known.txt")
    assert finished.returncode == 0, finished.stderr
    assert (folder / "new_words.csv").is_file()


def test_gold_without_spaces_is_warned_of(kexue_run, tmp_path):
    (tmp_path / "text.txt").write_text("thecat\nthedog\n")
    finished = kexue_run(*words("text.txt", "unigram_mdl"), "data=spaced")
    assert "the gold has no space in its first 12 characters" in " ".join(
        (finished.stderr + finished.stdout).split()
    )


@pytest.mark.parametrize("model", ["pmi_cut", "word_discovery", "merge", "best"])
def test_every_method_says_that_no_character_is_searched(kexue_run, tmp_path, model):
    (tmp_path / "marks.txt").write_text("!!! ???\n")
    failed = kexue_run(*words("marks.txt", model), "data=text")
    assert failed.returncode != 0
    assert "set data.alphabet to any" in " ".join((failed.stderr + failed.stdout).split())


@pytest.mark.parametrize("content", ["a\n", "a" * 5000 + "\n", "one line\n", "ab\n" * 3])
@pytest.mark.parametrize("model", ["best", "unigram_mdl"])
def test_tiny_and_degenerate_text_is_no_error(run_method, content, model):
    ends = run_method[0](model, content)
    assert ends[-1]


def test_one_repeated_character_is_said_to_give_nothing():
    said: list[str] = []
    ctx: Any = SimpleNamespace(console=SimpleNamespace(warn=said.append))
    tally = Tally()
    tally.words, tally.characters[ord("a")] = {"aaa": 3, "aa": 1}, 11
    explain_nothing(ctx, tally, DictConfig({}))
    assert len(said) == 1
    assert "one character repeated" in said[0]
    tally.characters[ord("b")] = 1
    explain_nothing(ctx, tally, DictConfig({}))
    assert len(said) == 1


def own_entropies(rows, word):
    """Left and right branching entropy of a word in lines; a line end is new each time."""
    found = []
    for step in (-1, 1):
        beside = Counter(
            line[i + step] if 0 <= i + step < len(line) else (number, i)
            for number, line in enumerate(rows)
            for i, token in enumerate(line)
            if token == word
        )
        total = sum(beside.values())
        found.append(-sum(n / total * np.log2(n / total) for n in beside.values()))
    return found


@pytest.mark.parametrize("model", ["best", "merge"])
def test_the_lexicon_tells_of_the_text_that_is_written(kexue_run, prose, tmp_path, model):
    text = prose.read_text().splitlines()
    prose.write_text("".join(f"{a},{b}.\n" for a, b in zip(text[::2], text[1::2], strict=True)))
    more = ["model.sweeps=8", "model.average=4"] if model == "best" else []
    command = [*words(prose, model), "data=text", "data.spaces=strip", *more]
    folder = tmp_path / run_dir(kexue_run(*command))
    rows = [line.split() for line in lines_of(folder / "segmented.txt")]
    page = (folder / "before_after.txt").read_text().split("\n\n")[1:]
    assert [part.splitlines()[1].split() for part in page] == rows[:40]
    tokens = Counter(token for row in rows for token in row)
    letters = Counter("".join(token for row in rows for token in row))
    bits = {c: np.log2(n / letters.total()) for c, n in letters.items()}
    table = list(csv.DictReader(lines_of(folder / "lexicon.csv")))
    assert {",", "."}.isdisjoint(row["word"] for row in table)
    for row in table:
        word, count = row["word"], tokens[row["word"]]
        share = count / tokens.total()
        assert int(row["count"]) == count
        assert float(row["probability"]) == pytest.approx(share)
        gain = count * (np.log2(share) - sum(bits[c] for c in word))
        assert float(row["gain_bits"]) == pytest.approx(gain, abs=1e-6)
        found = [float(row["left_entropy_bits"]), float(row["right_entropy_bits"])]
        assert found == pytest.approx(own_entropies(rows, word), abs=1e-9)


def test_a_change_far_behind_is_another_text(kexue_run, tmp_path):
    prints = []
    for last in "ab":
        (tmp_path / "long.txt").write_text("abcab " * 800_000 + last + "\n")
        command = [*words("long.txt", "lexicon"), "data=text", "model.path=given"]
        (tmp_path / "given").write_text("ab 2\nc 1\n")
        folder = run_dir(kexue_run(*command, "mode=predict"))
        prints.append(json.loads((tmp_path / folder / "run.json").read_text())["data_fingerprint"])
    assert prints[0] != prints[1]


def test_another_gold_is_other_data(kexue_run, tmp_path):
    (tmp_path / "text.txt").write_text("abcab\n")
    (tmp_path / "given").write_text("ab 2\nc 1\n")
    command = [*words("text.txt", "lexicon"), "data=text", "model.path=given", "mode=evaluate"]
    prints = set()
    for gold in ("ab c ab\n", "a bc ab\n"):
        (tmp_path / "gold.txt").write_text(gold)
        folder = run_dir(kexue_run(*command, "data.gold=gold.txt"))
        prints.add(json.loads((tmp_path / folder / "run.json").read_text())["data_fingerprint"])
    assert len(prints) == 2


def test_several_files_are_one_text(kexue_run, tmp_path):
    (tmp_path / "a b=1.txt").write_text("abc\n")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "d.txt").write_text("abd\n")
    (tmp_path / "given").write_text("ab 2\n")
    command = [*words("['a b=1.txt',c]", "lexicon"), "data=text", "model.path=given"]
    folder = tmp_path / run_dir(kexue_run(*command))
    assert lines_of(folder / "segmented.txt") == ["ab c", "ab d"]
    assert "there, too: " in (folder / "run.log").read_text()

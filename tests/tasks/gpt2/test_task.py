"""What a user types: train, evaluate, generate, fine-tune; files and messages are as promised."""

import csv
import json
from pathlib import Path

import pytest

SMALL = (
    "task=gpt2", "model=char_gpt", "model.width=16", "model.heads=2", "model.layers=1",
    "model.context=16", "data=corpus", "data.tokenizer=char", "device.name=cpu",
    "task.ngram_orders=2", "task.sample_tokens=10",
)  # fmt: skip
TEXT = "the quick brown fox jumps over the lazy dog.\n" * 40


def run_directory(folder: Path, model: str = "char_gpt") -> Path:
    return max((folder / "outputs" / "gpt2" / model).iterdir(), key=lambda p: p.stat().st_mtime_ns)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def corpus(tmp_path) -> Path:
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path / "text.txt"


def test_train_then_generate_evaluate_and_fine_tune(kexue_run, corpus, tmp_path):
    trained = kexue_run(*SMALL, f"data.path={corpus}", "task.steps=30", "task.evaluate_every=15")
    assert trained.returncode == 0, trained.stderr
    assert "sample: " in trained.stdout
    run = run_directory(tmp_path)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["primary"]["name"] == "loss"
    assert metrics["valid"]["loss"] < 3.4  # ln 29 = 3.37 without learning anything
    assert {"1gram_loss", "2gram_loss", "bits_per_byte"} <= metrics["valid"].keys()
    assert {p.name for p in (run / "plots").iterdir()} == {"loss.png", "attention.png"}

    (tmp_path / "prompts.txt").write_text("the quick\n\nlazy dog, and\n")
    words = ("task.generation.samples=2", "task.generation.max_new_tokens=12", "seed=3")
    generated = kexue_run(
        "task=gpt2", "mode=generate", f"checkpoint={run}", "prompt=@prompts.txt", *words
    )
    assert generated.returncode == 0, generated.stderr
    table = rows(run_directory(tmp_path) / "submission.csv")
    assert list(table[0]) == ["id", "prompt", "completion", "log_probability"]
    assert [row["prompt"] for row in table] == ["the quick"] * 2 + ["lazy dog, and"] * 2
    assert all(len(row["completion"]) == 12 for row in table)
    assert all(float(row["log_probability"]) < 0 for row in table)

    tuned = kexue_run(
        "task=gpt2", f"checkpoint={run}", "data=corpus", f"data.path={corpus}", "task.steps=5"
    )
    assert tuned.returncode == 0, tuned.stderr
    after = json.loads((run_directory(tmp_path) / "metrics.json").read_text())
    assert after["valid"]["loss"] < metrics["valid"]["loss"] + 0.1

    evaluated = kexue_run(
        "task=gpt2", "mode=evaluate", f"checkpoint={run}", "data=corpus", f"data.path={corpus}",
        "task.stride=4",
    )  # fmt: skip
    assert evaluated.returncode == 0, evaluated.stderr
    again = json.loads((run_directory(tmp_path) / "metrics.json").read_text())["valid"]
    assert again["loss"] == pytest.approx(metrics["valid"]["loss"], abs=1e-6)
    assert "sliding_loss" in again


def test_gpt2_ml_generates_from_the_tensorflow_files(kexue_run, data_dir, tmp_path):
    folder = data_dir / "gpt2_ml" / "v300_l12"
    vocabulary = ["[PAD]", "[UNK]", *(chr(0x4E00 + i) for i in range(298))]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    words = (
        "task=gpt2", "model=gpt2_ml", "mode=generate", f"checkpoint={folder / 'model.ckpt'}",
        f"task.vocabulary={tmp_path / 'vocab.txt'}", "prompt=丁七万𠀀",
        "task.generation.max_new_tokens=8", "task.generation.beams=2",
    )  # fmt: skip
    done = kexue_run(*words)
    assert done.returncode == 0, done.stderr
    assert "1 pieces of the prompt are not in the vocabulary" in done.stdout
    (row,) = rows(run_directory(tmp_path, "gpt2_ml") / "submission.csv")
    assert 0 < len(row["completion"]) <= 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("mode=generate", "checkpoint=."), "prompt"),
        (
            ("task.generation.top_p=1.5",),
            "task.generation.top_p: must be above 0 and at most 1, found 1.5",
        ),
        (("data=corpus", "data.path=nowhere"), "data.path: nowhere does not exist"),
        (("data=corpus", "data.path=short.txt"), "less than one context of 64"),
    ],
)
def test_bad_input_is_one_clear_line(kexue_run, tmp_path, words, message):
    (tmp_path / "short.txt").write_text("this is too short")
    done = kexue_run("task=gpt2", "data.tokenizer=char", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_of_a_text_in_other_characters_the_unknown_ones_are_told_and_not_divided_by(
    kexue_run, corpus, tmp_path
):
    trained = kexue_run(*SMALL, f"data.path={corpus}", "task.steps=1")
    assert trained.returncode == 0, trained.stderr
    (tmp_path / "other.txt").write_text("the quick 棕色 fox\n" * 100, encoding="utf-8")
    evaluated = kexue_run(
        "task=gpt2", "mode=evaluate", f"checkpoint={run_directory(tmp_path)}", "data=corpus",
        "data.path=other.txt",
    )  # fmt: skip
    assert evaluated.returncode == 0, evaluated.stderr
    said = " ".join(evaluated.stdout.split())
    assert "valid: 20 characters of the text (11.76%) are not in the vocabulary" in said
    assert "such as '棕色'" in said
    valid = json.loads((run_directory(tmp_path) / "metrics.json").read_text())["valid"]
    assert valid["nats_per_character"] == pytest.approx(valid["loss"])
    assert valid["unknown_share"] == pytest.approx(2 / 17)

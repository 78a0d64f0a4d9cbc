"""What the settings may be: told before anything is imported or written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from kexue_cli.config import Mode
from kexue_cli.errors import ConfigError
from kexue_cli.tasks.minent import ngrams
from kexue_cli.tasks.minent.config import SCHEMAS, check
from kexue_cli.tasks.minent.config_counts import CHOICES


def composed(model: str, *words: str, data: str = "pydoc", **more: Any) -> DictConfig:
    """The groups that the check reads, with dotted words changed."""
    groups = {"task": "task/minent", "model": f"model/{model}", "data": f"data/{data}"}
    cfg: Any = OmegaConf.create({k: OmegaConf.structured(SCHEMAS[v]) for k, v in groups.items()})
    cfg.merge_with({"mode": Mode.train, "checkpoint": None, **more})
    return OmegaConf.merge(cfg, OmegaConf.from_dotlist(list(words)))  # type: ignore[return-value]


@pytest.mark.parametrize("model", [m.removeprefix("model/") for m in SCHEMAS if m[:5] == "model"])
def test_the_defaults_are_valid(model: str, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a 1\n")
    given = [f"model.path={tmp_path}/words.txt"] if model == "lexicon" else []
    check(composed(model, *given))


@pytest.mark.parametrize(
    ("model", "words", "message"),
    [
        (
            "pmi_cut",
            ["model.min_pmi=[1.0]"],
            "model.min_pmi: expected a number or 3 numbers.*found 1",
        ),
        ("pmi_cut", ["model.min_pmi=[]"], "model.min_pmi: expected a number or 3 numbers.*found 0"),
        ("pmi_cut", ["model.order=2", "model.min_pmi=[1,2]"], "a number or 1 numbers.*found 2"),
        ("word_discovery", ["model.min_pmi=[2,4]"], "model.min_pmi: expected 3 numbers.*found 2"),
        ("word_discovery", ["model.order=3"], "model.min_pmi: expected 2 numbers.*found 3"),
        ("word_discovery", ["model.rule=padded"], "model.rule: expected open or kenlm, found 'pad"),
        ("pmi_cut", ["model.rare=keep"], "model.rare: expected split or drop, found 'keep'"),
        (
            "nlp_zero",
            ["model.redundancy=all"],
            "redundancy: expected entropy or back_check or none",
        ),
        ("pmi_cut", ["model.engine=spark"], "model.engine: expected local or ray, found 'spark'"),
        ("merge", ["model.min_count=1"], "model.min_count: expected 2 or more, found 1"),
        ("merge", ["model.max_length=1"], "model.max_length: expected 2 or more, found 1"),
        ("lexicon", [], "model.path: expected a file of `word count` lines"),
        ("lexicon", ["model.path=/nope"], "model.path: no file at '/nope'"),
    ],
)
def test_bad_settings_are_named(model: str, words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(composed(model, *words))


def test_the_rules_of_counting_are_those_that_may_be_given() -> None:
    assert set(CHOICES["rule"]) == set(ngrams.RULES)


@pytest.mark.parametrize("place", ["/nope", "/nope/*.txt", "[/nope,/nope2]"])
def test_a_text_that_is_not_there_is_named_at_once(place: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.path: no file at '/nope"):
        check(composed("best", f"data.path={place}", data="text"))


def test_a_gold_that_is_not_there_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a")
    words = [f"data.path={tmp_path}/*.txt", "data.gold=/nope"]
    with pytest.raises(ConfigError, match=r"data\.gold: no file at '/nope'"):
        check(composed("best", *words, data="text"))


def test_files_a_trained_run_does_not_need_may_be_gone() -> None:
    check(composed("lexicon", "model.path=/nope", mode=Mode.predict, checkpoint="run"))
    check(composed("pmi_cut", "model.scratch=/nope", mode=Mode.predict, checkpoint="run"))


def test_a_scratch_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place, found in (("file", "a file at"), ("none", "nothing at")):
        with pytest.raises(ConfigError, match=rf"model\.scratch: expected a folder.*found {found}"):
            check(composed("pmi_cut", f"model.scratch={tmp_path / place}"))
    check(composed("pmi_cut", f"model.scratch={tmp_path}"))


@pytest.mark.parametrize(
    "words",
    [
        ["model=pmi_cut", "model.engine=spark"],
        ["model=merge", "model.min_count=1"],
        ["model=lexicon"],
        ["data=text", "data.path=/nope"],
    ],
)
def test_what_the_configuration_tells_is_said_without_torch_and_leaves_no_run(
    words: list[str], tmp_path: Path
) -> None:
    program = (
        "import sys; from kexue_cli.cli import main\n"
        "try: main(['task=minent', 'output_dir=out', *sys.argv[1:]])\n"
        "except SystemExit as end: print(end.code, 'torch' in sys.modules, 'pandas' in sys.modules)"
    )
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False", "False"], done.stderr
    assert not list(tmp_path.iterdir())

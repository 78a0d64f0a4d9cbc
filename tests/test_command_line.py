"""What a user types, and what comes back when it is wrong. Nothing here may import torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kexue_cli import __version__, command_line
from kexue_cli.catalogue import options, options_of_task, task_names
from kexue_cli.config import ConfigError, build
from kexue_cli.errors import UserError
from tests.conftest import ROOT
from tests.fake_runs import dead_process, write_run

Run = Callable[..., subprocess.CompletedProcess[str]]
HEAVY = ("torch", "pandas", "sklearn", "scipy", "matplotlib")


@pytest.mark.parametrize(
    "words", [["--version"], ["--help"], ["--cfg", "job"], ["task=lamost", "model.nothing=1"]]
)
def test_start_up_imports_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    script = (
        "import sys, json\n"
        "from kexue_cli.cli import main\n"
        "try: main(json.loads(sys.argv.pop()))\n"
        "except SystemExit: pass\n"
        f"print('\\nLOADED', sorted(set(sys.modules) & set({HEAVY!r})))"
    )
    command = [sys.executable, "-c", script, json.dumps(words)]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.stdout.rstrip().endswith("LOADED []"), done.stdout[-500:] + done.stderr[-500:]


def test_version_is_printed(kexue_run: Run) -> None:
    assert kexue_run("--version").stdout == f"kexue-run {__version__}\n"


def test_help_names_every_task_model_and_data_set_with_its_line(kexue_run: Run) -> None:
    text = kexue_run("--help").stdout
    for group in ("task", "model", "data", "experiment"):
        for option in options(group):
            assert option.name in text
            assert option.description, f"{option.path} lacks its first comment line"
            assert option.description[:40] in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model.filtres=3"], "model.filtres: unknown key. Did you mean model.filters?"),
        (["+model.filtres=3"], "model.filtres: unknown key. Did you mean model.filters?"),
        (["++sead=3"], "sead: unknown key. Did you mean seed?"),
        (["model=conv1d_ress"], "there is no 'conv1d_ress'. Did you mean model=conv1d_res?"),
        (["model=nosuch"], "there is no 'nosuch'. task=lamost has: conv1d_res"),
        (["experiment=dgcn_cmrc"], "'dgcn_cmrc'. Did you mean experiment=dgcnn_cmrc?"),
        (["debug=smok"], "'smok'. Did you mean debug=smoke?"),
        (["model=gmm"], "'gmm' is for task=em; task=lamost has: conv1d_res"),
        (["data=pydoc_text"], "data: "),
        (["data=iris"], "'iris' is for task=em; task=lamost has: cinc2017"),
        (["data=digits"], "'digits' is for tasks on images; task=lamost has: cinc2017"),
        (["seed=abc"], "'abc' of type 'str' could not be converted to Integer"),
        (["precision=fp8"], "expected one of [auto, fp32, bf16, fp16]"),
        (["mode=predict"], "add checkpoint=<run dir>"),
        (["mode=predict", "checkpoint=/nowhere"], "checkpoint=/nowhere: there is no such file"),
        (["resume=."], "resume=.: not a run directory"),
        (["limit.steps=0"], "limit.steps: must be above 0, found 0"),
        (["seed"], "missing EQUAL"),
        (["data.path=a=b,c"], "goes into quotes"),
        (["data.path=\udcba.csv"], "data.path=\\udcba.csv: not UTF-8; rename the file"),
        (["-m", "seed=0,1", "--cfg", "job"], "--cfg shows one configuration, -m makes several"),
        (["-m", "seed=0,1", "--cfg=job"], "--cfg=job shows one configuration, -m makes several"),
    ],
)
def test_a_bad_command_names_key_and_remedy_and_leaves_nothing(
    kexue_run: Run, tmp_path: Path, words: list[str], message: str
) -> None:
    done = kexue_run("task=lamost", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_bootstrap_of_several_covariances_is_refused_before_any_fit(kexue_run: Run) -> None:
    done = kexue_run("task=em", "model.bootstrap=9", "model.covariance=[EEE,VVV]")
    assert done.returncode == 2
    assert "model.bootstrap: tests one model.covariance at a time, found EEE, VVV" in done.stderr


@pytest.mark.parametrize("task", task_names())
def test_every_model_and_data_set_of_a_task_composes(kexue_run: Run, task: str) -> None:
    for model in options_of_task("model", task):
        done = kexue_run(f"task={task}", f"model={model}", "--cfg", "job")
        assert done.returncode == 0, done.stderr
        assert f"name: {model}" in done.stdout
    for data in options_of_task("data", task):
        done = kexue_run(f"task={task}", f"data={data}", "--cfg", "job")
        assert done.returncode == 0 or "data.path: a value is needed" in done.stderr, done.stderr


@pytest.mark.parametrize("experiment", [option.name for option in options("experiment")])
def test_every_experiment_composes(kexue_run: Run, experiment: str) -> None:
    done = kexue_run(f"experiment={experiment}", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    assert f"experiment: {experiment}" in done.stdout, "an experiment file sets experiment: <name>"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_installed_in_every_shell(kexue_run: Run, shell: str) -> None:
    done = kexue_run("-sc", f"install={shell}")
    assert done.returncode == 0
    assert "complete" in done.stdout


def test_completion_offers_the_models(kexue_run: Run) -> None:
    line = "kexue-run task=lamost model=conv"
    environment = {"COMP_LINE": line, "COMP_POINT": str(len(line))}
    done = kexue_run("-sc", "query=bash", env=environment)
    assert "model=conv1d_res" in done.stdout.split()


def test_words_of_an_earlier_run_yield_to_new_ones() -> None:
    saved = ["task=lamost", "data=sequences", "data.path=a.npz", "model.filters=8", "seed=3"]
    merged = command_line._merged(saved, ["data=fits", "model.filters=16"])
    assert merged == ["task=lamost", "seed=3", "data=fits", "model.filters=16"]


DAMAGES = [
    ("run.json", "{", "run.json is damaged"),
    ("run.json", "[]", "run.json is damaged"),
    ("run.json", "{}", "run.json is damaged: no status and process"),
    (".hydra/overrides.yaml", None, "overrides.yaml is missing"),
    (".hydra/overrides.yaml", "[", "overrides.yaml is damaged"),
    (".hydra/overrides.yaml", "", "overrides.yaml is damaged"),
]


@pytest.mark.parametrize(("name", "content", "message"), DAMAGES)
def test_a_damaged_run_that_should_go_on_is_named(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    run = write_run(tmp_path / "run", process=dead_process())
    (run / ".hydra").mkdir()
    (run / ".hydra" / "overrides.yaml").write_text("[task=lamost]")
    assert command_line.with_saved_overrides([f"++resume={run}"])[0] == "task=lamost"
    (run / name).unlink()
    if content is not None:
        (run / name).write_text(content)
    with pytest.raises(UserError, match=message):
        command_line.with_saved_overrides([f"resume={run}"])


@pytest.mark.parametrize("word", ["resume=", "checkpoint=''"])
def test_an_empty_place_is_not_the_current_folder(word: str) -> None:
    with pytest.raises(UserError, match="is empty"):
        command_line.with_saved_overrides([word])


@pytest.mark.parametrize("text", ["你好，世界 (1, 2]", "it's \\ a=b", "a: {b}", "${x"])
def test_a_prompt_arrives_as_it_was_typed(text: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    (word,) = command_line.quoted([f"prompt={text}"])
    assert OverridesParser.create().parse_override(word).value() == text


def test_a_path_with_han_characters_needs_no_quotes() -> None:
    words = ["data.path=四大/红楼梦.txt", "data.columns=[长,宽]", "seed=3"]
    assert command_line.quoted(words) == ["data.path='四大/红楼梦.txt'", *words[1:]]


def test_only_our_own_targets_are_built() -> None:
    from omegaconf import OmegaConf

    with pytest.raises(ConfigError, match=r"model\._target_: must lie under kexue_cli\."):
        build(OmegaConf.create({"_target_": "os.system", "command": "true"}), "model")
    with pytest.raises(ConfigError, match=r"model: .*unexpected keyword argument 'depht'"):
        build(OmegaConf.create({"_target_": "kexue_cli.paths.cache_dir", "depht": 1}), "model")

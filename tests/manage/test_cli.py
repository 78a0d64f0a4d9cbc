from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import ModuleType

import pytest

from kexue_cli.errors import UserError
from kexue_cli.manage import cli


@pytest.fixture
def contributed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A task folder with a command.py that counts words."""
    folder = tmp_path / "tasks" / "toy"
    folder.mkdir(parents=True)
    (folder / "command.py").write_text("")
    module = ModuleType("kexue_cli.tasks.toy.command")
    module.NAME, module.HELP, module.__doc__ = "count", "count words", "Count."  # type: ignore[attr-defined]

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("words", nargs="*")

    def run(args: argparse.Namespace) -> int:
        if "bad" in args.words:
            raise UserError("bad: a word that cannot be counted")
        print(len(args.words))
        return 0

    module.add_arguments, module.run = add_arguments, run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(cli, "PACKAGE", tmp_path)
    return module


def test_a_task_contributes_a_command_by_a_file_alone(
    contributed: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["count", "a", "b"]) == 0
    assert capsys.readouterr().out == "2\n"
    assert cli.main([]) == 0
    assert "count words" in capsys.readouterr().out


def test_user_errors_are_one_line_and_exit_2(
    contributed: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["count", "bad"]) == 2
    assert capsys.readouterr().err == "kexue count: bad: a word that cannot be counted\n"


@pytest.mark.parametrize("name", cli.OWN_COMMANDS)
def test_every_command_has_its_help_with_examples(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    assert f"kexue {name}" in capsys.readouterr().out


def test_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["rusn"])
    assert ended.value.code == 2
    assert "runs" in capsys.readouterr().err

"""Entry of `kexue`: finds the sub-command, imports that one only, shows errors in one line.

A sub-command is a module with NAME, HELP, add_arguments(parser) and run(args) -> int; WORDS names
the argument that collects words, if there is one. Those of this package lie in
`kexue_cli/manage/commands/`; a task adds its own as `kexue_cli/tasks/<task>/command.py`. None of
them imports torch, NumPy or pandas before it runs.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from kexue_cli import __version__
from kexue_cli.errors import UserError
from kexue_cli.paths import PACKAGE
from kexue_cli.run.files import reason_of

OWN_COMMANDS = (
    "runs",
    "show",
    "compare",
    "leaderboard",
    "report",
    "blend",
    "submit",
    "tune",
    "data",
    "rm",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `kexue` with these arguments (default: the process's own); returns the exit status."""
    arguments = joined_sort_key(sys.argv[1:] if argv is None else argv)
    wanted = arguments[0] if arguments else ""
    modules = [own_command(wanted)] if wanted in OWN_COMMANDS else all_commands()
    parser = make_parser(modules)
    args, more = parser.parse_known_args(arguments)
    take_later_words(parser, args, more)
    if not hasattr(args, "run"):
        parser.print_help()
        return 0
    try:
        return int(args.run(args) or 0)
    except UserError as error:
        print(f"kexue {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (head, less) has seen enough; keep the interpreter from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        print(f"kexue {args.command}: {reason_of(error)}", file=sys.stderr)
        return 1


def joined_sort_key(words: Sequence[str]) -> list[str]:
    """`--sort -key` as one word, which argparse would take for two options."""
    arguments = list(words)
    for i, word in enumerate(arguments[:-1]):
        if word == "--sort" and arguments[i + 1].startswith("-"):
            arguments[i : i + 2] = [f"--sort={arguments[i + 1]}"]
            break
    return arguments


def own_command(name: str) -> ModuleType:
    """The module of one of our own sub-commands."""
    return importlib.import_module(f"kexue_cli.manage.commands.{name}")


def all_commands() -> list[ModuleType]:
    """Our own sub-commands, then those that tasks contribute, in order of their folders."""
    contributed = [
        importlib.import_module(f"kexue_cli.tasks.{path.parent.name}.command")
        for path in sorted((PACKAGE / "tasks").glob("*/command.py"))
    ]
    return [own_command(name) for name in OWN_COMMANDS] + contributed


def make_parser(modules: Sequence[ModuleType]) -> argparse.ArgumentParser:
    """A parser that knows these sub-commands."""
    parser = argparse.ArgumentParser(
        prog="kexue",
        description="Everything about finished runs and about data sets. "
        "Runs themselves are started by kexue-run.",
    )
    parser.add_argument("--version", action="version", version=f"kexue-cli {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for module in modules:
        sub = commands.add_parser(module.NAME, help=module.HELP, description=module.__doc__)
        sub.formatter_class = argparse.RawDescriptionHelpFormatter
        module.add_arguments(sub)
        sub.set_defaults(run=module.run, words_go_to=getattr(module, "WORDS", None))
    return parser


def take_later_words(
    parser: argparse.ArgumentParser, args: argparse.Namespace, more: list[str]
) -> None:
    """Words that stand after an option belong to the command too: kexue runs --limit 3 task=em.

    argparse itself only takes them all in one place.
    """
    if not more:
        return
    place = getattr(args, "words_go_to", None)
    if place is None or any(word.startswith("-") for word in more):
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    setattr(args, place, [*getattr(args, place), *more])


if __name__ == "__main__":
    sys.exit(main())

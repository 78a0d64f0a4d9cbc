"""`kexue-run --help`: tasks, their models and data sets, and what each is in one line."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from kexue_cli.catalogue import Option, options, options_of_task

INTRODUCTION = """\
kexue-run runs the experiments of the blog 科学空间 (kexue.fm), one command each.

  kexue-run task=lamost model=conv1d_res                train, evaluate, predict, submission
  kexue-run task=lamost mode=predict checkpoint=<run>   predict with a trained run
  kexue-run task=lamost mode=evaluate checkpoint=<run>
  kexue-run task=gpt2 mode=generate checkpoint=<run> prompt="…"
  kexue-run resume=<run>                                go on where a run was stopped
  kexue-run -m task=lamost model.filters=16,32 seed=0,1,2    every combination
  kexue-run task=lamost --cfg job                       show every setting and its default
"""
FLAGS = """\
Flags: --version, --cfg job, -m (sweep), --config-dir DIR (your own YAML), -sc install=bash|zsh|fish
(shell completion, see docs/completion.md), --hydra-help (all of Hydra's own).
Settings are key=value: seed=1 device=cuda precision=bf16 output_dir=… limit.steps=100
The other command, `kexue`, looks at finished runs: kexue --help
"""


def print_help() -> None:
    """Print the catalogue, grouped by task."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(escape(INTRODUCTION))
    groups = {group: options(group) for group in ("task", "model", "data")}
    for task in groups["task"]:
        console.print(f"[bold]task={task.name}[/bold]  {escape(task.description)}")
        for group in ("model", "data"):
            mine = options_of_task(group, task.name)
            _print_options(console, group, [o for o in groups[group] if o.name in mine])
        console.print()
    for group in ("experiment", "device", "optim", "debug"):
        console.print(f"[bold]{group}=[/bold]")
        _print_options(console, "", options(group))
        console.print()
    console.print(escape(FLAGS), end="")


def _print_options(console: Console, group: str, found: list[Option]) -> None:
    prefix = f"{group}=" if group else ""
    width = max((len(prefix + option.name) for option in found), default=0)
    for option in found:
        console.print(f"  {prefix + option.name:<{width}}  {escape(option.description)}")

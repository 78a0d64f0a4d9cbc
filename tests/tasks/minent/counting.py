"""What the tests of the counting methods share."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kexue_cli.run.console import Console
from kexue_cli.run.signals import StopFlag
from kexue_cli.tasks.minent.alphabet import Alphabet
from kexue_cli.tasks.minent.data import Corpus, Source
from kexue_cli.tasks.minent.splitting import Splitting

SETTINGS: dict[str, Any] = {
    "memory_mib": 1024, "workers": 2, "engine": "local", "scratch": None,
}  # fmt: skip


def corpus_of(path: Path, lines: list[str]) -> Corpus:
    """A corpus of one file in which every character is free."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Corpus(Source((path,)), Splitting(Alphabet.named("any")))


class Recorder:
    """A run's context as far as the methods use it; keeps what they log and warn of."""

    def __init__(self) -> None:
        self.logged: list[dict[str, Any]] = []
        self.warnings: list[str] = []
        self.stop = StopFlag()
        self.resume: dict[str, Any] | None = None
        self.saved: list[dict[str, Any]] = []
        self.console: Any = SimpleNamespace(
            progress=Console(quiet=True).progress, say=lambda text: None, warn=self.warnings.append
        )

    def log(self, **metrics: Any) -> None:
        """Keep a line of the metrics log."""
        self.logged.append(metrics)

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Keep what a run that goes on would get."""
        self.saved.append(state)

"""The run directory: the contract between a run and everything that reads it later.

    outputs/<task>/<model>/<YYYY-MM-DD_HH-MM-SS>-<4 hex>/
      run.json  config.yaml  .hydra/overrides.yaml  metrics.jsonl  metrics.json
      checkpoints/{last,best}.pt  predictions.csv  submission.csv  plots/*.png  run.log

Readers rely on run.json and metrics.json alone. Only the main rank writes.
"""

from __future__ import annotations

import datetime
import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kexue_cli.errors import UserError
from kexue_cli.run.files import remove_leftovers, write_json, write_text

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
DAMAGED = "Restore it, or start a new run"


class RunDirectory:
    """Paths and atomic writers of one run; `writable` is False on every rank but the first."""

    def __init__(self, path: Path, writable: bool = True) -> None:
        self.path = path
        self.writable = writable

    @classmethod
    def create(cls, output_dir: Path, task: str, model: str) -> RunDirectory:
        """Make a new directory whose name no other run has, not even one of the same second."""
        parent = output_dir / task / model
        try:
            parent.mkdir(parents=True, exist_ok=True)
            return cls(_new_below(parent))
        except OSError as error:
            raise UserError(
                f"cannot make the run directory in {parent}: {_why(error)}. "
                "Choose another place with output_dir=…"
            ) from error

    @classmethod
    def claim(cls, path: Path) -> RunDirectory:
        """Take this very directory, which must be new or empty."""
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"run_dir={path}: cannot be made: {_why(error)}") from error
        if any(path.iterdir()):
            raise UserError(
                f"run_dir={path}: is not empty. Give a new one, or resume={path} to go on there"
            )
        return cls(path)

    @classmethod
    def reopen(cls, path: Path) -> RunDirectory:
        """The directory of a run that is over; what it left half-written when killed is removed."""
        for folder in (path, path / "checkpoints", path / "plots"):
            remove_leftovers(folder)
        return cls(path)

    @property
    def plots(self) -> Path:
        """Folder of pictures, made on first use."""
        return self._folder("plots")

    @property
    def checkpoints(self) -> Path:
        """Folder of last.pt and best.pt, made on first use."""
        return self._folder("checkpoints")

    def _folder(self, name: str) -> Path:
        folder = self.path / name
        if self.writable:
            folder.mkdir(exist_ok=True)
        return folder

    def write_text(self, name: str, text: str) -> None:
        """Write one file of the run directory, whole or not at all."""
        if self.writable:
            write_text(self.path / name, text)

    def write_json(self, name: str, value: Any) -> None:
        """Write one JSON file of the run directory, whole or not at all."""
        if self.writable:
            write_json(self.path / name, value)

    def write_table(
        self,
        name: str,
        table: pd.DataFrame | Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]],
    ) -> None:
        """Write a CSV from a frame, from columns, or from rows."""
        if not self.writable:
            return
        import pandas as pd

        frame = table if isinstance(table, pd.DataFrame) else pd.DataFrame(table)
        write_text(self.path / name, frame.to_csv(index=False))

    def read_json(self, name: str) -> dict[str, Any]:
        """Read one JSON file of the run directory; {} where it does not exist.

        Raises:
            UserError: it holds no JSON object.
        """
        path = self.path / name
        try:
            loaded = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise UserError(f"{path} is damaged: no JSON ({error}). {DAMAGED}") from error
        if not isinstance(loaded, dict):
            found = type(loaded).__name__
            raise UserError(f"{path} is damaged: expected a JSON object, found {found}. {DAMAGED}")
        return loaded


def _new_below(parent: Path) -> Path:
    while True:
        now = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        path = parent / f"{now}-{secrets.token_hex(2)}"
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path


def _why(error: OSError) -> str:
    """The system's reason; "File exists" would not tell of a link that leads nowhere."""
    place = Path(error.filename or "")
    if isinstance(error, FileExistsError) and place.is_symlink():
        return f"{place} is a link to {place.readlink()}, which is no folder"
    return str(error.strerror)

"""Options that several sub-commands share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def add_root_argument(parser: argparse.ArgumentParser) -> None:
    """`--root`: where the runs lie."""
    parser.add_argument(
        "--root",
        type=Path,
        default=Path(os.environ.get("KEXUE_OUTPUT_DIR", "outputs")),
        metavar="DIR",
        help="folder of runs (default: outputs, or KEXUE_OUTPUT_DIR)",
    )


def add_yes_argument(parser: argparse.ArgumentParser) -> None:
    """`--yes`: do not ask."""
    parser.add_argument("--yes", "-y", action="store_true", help="do not ask before acting")

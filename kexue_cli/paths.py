"""Where configuration, data and caches lie."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def conf_dir() -> Path:
    """The configuration folder: in the package if installed as a wheel, else beside it."""
    packaged = PACKAGE / "conf"
    return packaged if (packaged / "config.yaml").is_file() else PACKAGE.parent / "conf"


def data_dir() -> Path:
    """The user's data sets: `KEXUE_DATA_DIR`, else ./data."""
    return Path(os.environ.get("KEXUE_DATA_DIR", "data"))


def cache_dir() -> Path:
    """Converted data: `KEXUE_CACHE_DIR`, else ~/.cache/kexue-cli. Safe to delete at any time."""
    default = Path.home() / ".cache" / "kexue-cli"
    return Path(os.environ.get("KEXUE_CACHE_DIR", default))

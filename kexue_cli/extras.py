"""Optional packages, imported where they are used."""

from __future__ import annotations

import importlib
from types import ModuleType

from kexue_cli.errors import UserError


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, or raise a UserError that names the extra which brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        if error.name is not None and error.name.partition(".")[0] != package:
            raise
        raise UserError(
            f"This needs the package {package!r}, which is not installed. "
            f"Install it with: pip install 'kexue-cli[{extra}]'"
        ) from error

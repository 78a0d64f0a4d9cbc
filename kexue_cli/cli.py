"""kexue-run: compose the configuration, check it, run. torch is imported only when all is valid."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kexue_cli import __version__
from kexue_cli.errors import Interrupted, UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

FAILED, USAGE_ERROR = 1, 2
SHOWING = ("--cfg", "-c", "--info", "-i")  # Hydra's flags that show the configuration


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `kexue-run`; exits with 0, 1 (failed), 2 (bad input) or 128 + signal."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    words = ["dry_run=true" if word == "--dry-run" else word for word in words]
    if words == ["--version"]:
        print(f"kexue-run {__version__}")
        return
    from kexue_cli import command_line
    from kexue_cli.run.files import reason_of

    try:
        command_line.refuse_broken_text(words)
        if "--help" in words or "-h" in words:
            from kexue_cli.help import print_help

            print_help()
        else:
            _start(words)
    except UserError as error:
        _fail(str(error), USAGE_ERROR)
    except (Interrupted, KeyboardInterrupt) as error:
        raise SystemExit(128 + getattr(error, "signal_number", 2)) from None
    except Exception as error:
        # First: an unknown option of Hydra is an OSError too.
        message = command_line.explain(error, words)
        if message is not None:
            _fail(message, USAGE_ERROR)
        if not isinstance(error, OSError) or error.filename is None:
            raise
        _fail(reason_of(error), FAILED)


def _start(words: list[str]) -> None:
    """Compose the configuration and run it, or do what another flag asks for."""
    from kexue_cli import command_line
    from kexue_cli.config import register_schemas

    if "-m" in words or "--multirun" in words:
        if shown := next((word for word in words if word.partition("=")[0] in SHOWING), None):
            raise UserError(
                f"{shown} shows one configuration, -m makes several: leave -m and the lists of "
                "values out, or give --dry-run in place of it to see the sweep's jobs"
            )
        from kexue_cli.sweep.session import sweep

        raise SystemExit(sweep(words))
    words = command_line.quoted(command_line.with_saved_overrides(words))
    register_schemas()
    flagged = any(word.startswith("-") for word in words)
    cfg = _composed_by_flags(words) if flagged else _composed(words)
    if cfg is not None:
        _run(cfg, words)


def _composed(words: list[str]) -> DictConfig:
    """The configuration, composed once; `hydra.main` would do it twice."""
    from hydra import compose, initialize_config_dir

    from kexue_cli.paths import conf_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", words)


def _composed_by_flags(words: list[str]) -> DictConfig | None:
    """Hydra's own flags: --cfg job, --info, shell completion, --config-dir.

    None where it has only shown something.
    """
    import hydra

    from kexue_cli.paths import conf_dir

    # Hydra would print its own short text and exit; its exceptions come to us instead.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    sys.argv = [sys.argv[0], *words]
    composed: list[DictConfig] = []
    main = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")
    main(composed.append)()
    return composed[0] if composed else None


def _run(cfg: DictConfig, words: list[str]) -> None:
    """Check a composed configuration and run it."""
    from kexue_cli import command_line
    from kexue_cli.check import check

    overrides = [word for word in words if not word.startswith("-") and "=" in word]
    cfg = command_line.with_saved_values(cfg, overrides)
    check(cfg)
    from kexue_cli.runner import run

    run(cfg, overrides)


def _fail(message: str, code: int) -> None:
    if os.environ.get("RANK", "0") == "0":  # of several processes one speaks
        print(f"kexue-run: error: {message}", file=sys.stderr)
    raise SystemExit(code)


if __name__ == "__main__":
    main()

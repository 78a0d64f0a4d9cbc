"""From `data=` to files of text."""

from __future__ import annotations

import hashlib
from pathlib import Path

from omegaconf import DictConfig

from kexue_cli.errors import UserError
from kexue_cli.paths import cache_dir
from kexue_cli.run.files import write_text
from kexue_cli.tasks.gpt2.texts import TextSource, find_files


def text_source(cfg: DictConfig) -> TextSource:
    """The files that the data configuration means.

    Raises:
        ConfigError: nothing is there.
    """
    if cfg.name == "python_docs":
        return TextSource((_python_docs(),), valid_fraction=cfg.valid_fraction)
    files = find_files(str(cfg.path), str(cfg.pattern))
    return TextSource(files, str(cfg.text_key), float(cfg.valid_fraction))


def _python_docs() -> Path:
    """Python's help topics as one text file in the cache, made once per content."""
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise UserError("this Python has no pydoc_data: choose other text, data=corpus") from error
    text = "\n".join(topics[name] for name in sorted(topics))
    name = f"python_docs-{hashlib.sha256(text.encode()).hexdigest()[:12]}.txt"
    path = cache_dir() / "gpt2" / name
    if not path.exists():
        write_text(path, text)
    return path

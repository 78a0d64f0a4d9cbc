"""The words of a command: overrides saved by an earlier run, and Hydra's errors in plain words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from kexue_cli.catalogue import options, options_of_task
from kexue_cli.check import nearest
from kexue_cli.config import RunConfig
from kexue_cli.errors import ConfigError, UserError

# What a new run takes over from the run whose checkpoint it uses.
DESCRIBES_MODEL = ("task", "model", "data", "optim", "experiment", "precision")


def key_of(override: str) -> str:
    """The key of an override: `+model.filters=3` → `model.filters`."""
    return override.partition("=")[0].lstrip("+~").partition("@")[0]


def value_of(words: list[str], key: str) -> str | None:
    """The value of `key=value` among the words, without quotes; None where it is not there."""
    for word in words:
        if word.lstrip("+").startswith(f"{key}="):
            return word.partition("=")[2].strip("'\"")
    return None


def run_directory_of(place: str) -> Path | None:
    """The run directory that a `checkpoint=` value lies in, if it is one of ours."""
    path = Path(place)
    for folder in (path, path.parent, path.parent.parent):
        if (folder / "run.json").is_file() and (folder / "config.yaml").is_file():
            return folder
    return None


def quoted(words: list[str]) -> list[str]:
    """Values of top-level texts (prompt=, resume=, output_dir=, …) in quotes for Hydra's grammar.

    Without them a space, comma or bracket in a text or a path would be a syntax error; so would
    any letter beyond ASCII or = in a plain value of another key (data.path=红楼梦.txt).
    """
    texts = {f.name for f in fields(RunConfig) if f.type in ("str", "str | None")}
    return [
        _quoted(word)
        if word.partition("=")[0].lstrip("+") in texts or _needs_quotes(word)
        else word
        for word in words
    ]


def refuse_broken_text(words: list[str]) -> None:
    """Raise a UserError for a word that is not UTF-8: nothing that names it could be written."""
    for word in words:
        try:
            word.encode("utf-8")
        except UnicodeEncodeError:
            shown = word.encode("utf-8", "backslashreplace").decode()
            raise UserError(
                f"{shown}: not UTF-8; rename the file, or give its folder or a glob that finds it"
            ) from None


def _needs_quotes(word: str) -> bool:
    value = word.partition("=")[2]
    beyond = not value.isascii() or "=" in value
    return beyond and not re.search(r"[\[\]{}()'\",$]", value)


def _quoted(word: str) -> str:
    key, _, value = word.partition("=")
    if re.fullmatch(r"[\w./-]*|'.*'|\".*\"", value, re.ASCII):
        return word
    # Hydra takes backslashes as they are, except before a quote.
    escaped = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
    return f"{key}='{escaped}'"


def with_saved_overrides(words: list[str]) -> list[str]:
    """The words of the earlier run (`resume=`, `checkpoint=`) with the new ones laid over them.

    Raises:
        UserError: `resume=` names no run directory, or one that is still going on.
    """
    resume, place = value_of(words, "resume"), value_of(words, "checkpoint")
    for key, value in (("resume", resume), ("checkpoint", place)):
        if value is not None and not value.strip():  # as a path it would be the current folder
            raise UserError(f"{key}=: is empty. Give a run directory (kexue runs lists them)")
    if resume not in (None, "null"):
        assert resume is not None
        return _merged(_saved_words(_resumable(Path(resume))), words)
    if place not in (None, "null"):
        _check_exists(str(place))
    folder = run_directory_of(place) if place is not None else None
    if folder is None:
        return words
    saved = [w for w in _saved_words(folder) if key_of(w).partition(".")[0] in DESCRIBES_MODEL]
    return _merged(saved, words)


def _check_exists(place: str) -> None:
    """TensorFlow's checkpoints are named by the common beginning of several files."""
    path = Path(place)
    if not path.exists() and not any(path.parent.glob(f"{path.name}*")):
        raise UserError(
            f"checkpoint={place}: there is no such file or folder. "
            "Give a run directory (kexue runs lists them) or a checkpoint file"
        )


def _resumable(path: Path) -> Path:
    from kexue_cli.run.directory import DAMAGED, RunDirectory
    from kexue_cli.run.record import is_alive

    if not (path / "run.json").is_file() or not (path / "config.yaml").is_file():
        raise UserError(f"resume={path}: not a run directory (it has no run.json and config.yaml)")
    record = RunDirectory(path).read_json("run.json")
    process = record.get("process")
    if not isinstance(record.get("status"), str) or not isinstance(process, dict):
        raise UserError(f"{path / 'run.json'} is damaged: no status and process in it. {DAMAGED}")
    if record["status"] == "running" and is_alive(process):
        raise UserError(f"resume={path}: this run is still going on (process {process['pid']})")
    return path


def _saved_words(folder: Path) -> list[str]:
    return [str(word) for word in _saved(folder / ".hydra" / "overrides.yaml", ListConfig)]


def _saved(path: Path, kind: type[DictConfig] | type[ListConfig]) -> Any:
    """A YAML file that an earlier run wrote.

    Raises:
        UserError: it is gone, no YAML, or something else than a mapping (or list).
    """
    from yaml import YAMLError

    from kexue_cli.run.directory import DAMAGED

    try:
        saved = OmegaConf.load(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing. {DAMAGED}") from None
    except (OSError, ValueError, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is damaged: no YAML ({reason}). {DAMAGED}") from error
    if not isinstance(saved, kind):
        wanted = "mapping" if kind is DictConfig else "list"
        raise UserError(f"{path} is damaged: expected a {wanted} in it. {DAMAGED}")
    return saved


def _merged(saved: list[str], words: list[str]) -> list[str]:
    """Saved words first; those whose key (or whole group) is given anew are left out."""
    given = {key_of(word) for word in words if "=" in word and not word.startswith("-")}
    kept = [
        word
        for word in saved
        if key_of(word) not in given and key_of(word).partition(".")[0] not in given
    ]
    return kept + words


def with_saved_values(cfg: DictConfig, overrides: list[str]) -> DictConfig:
    """The configuration with the earlier run's values wherever nothing was said anew.

    A run goes on as it began even if a default has changed since; a checkpoint's model is built as
    it was trained.
    """
    if cfg.resume is not None:
        folder = Path(cfg.resume)
        groups: tuple[str, ...] = ("task", "model", "data", "optim", "seed", "limit")
    elif cfg.checkpoint is not None and (found := run_directory_of(str(cfg.checkpoint))):
        folder, groups = found, ("model",)
    else:
        return cfg
    saved = _saved(folder / "config.yaml", DictConfig)
    given, said_before = {key_of(word) for word in overrides}, _saved_words(folder)
    spoken_now = {key_of(word) for word in overrides if word not in said_before}
    for group in groups:
        if group in given & spoken_now or OmegaConf.select(cfg, group) is None:
            continue
        _take_saved(cfg, saved, group, spoken_now)
    return cfg


def _take_saved(cfg: DictConfig, saved: Any, key: str, spoken: set[str]) -> None:
    value, now = OmegaConf.select(saved, key), OmegaConf.select(cfg, key)
    if isinstance(now, DictConfig) and isinstance(value, DictConfig):
        if value.get("name") != now.get("name"):
            return
        for name in map(str, now):
            if name in value:
                _take_saved(cfg, saved, f"{key}.{name}", spoken)
    elif key not in spoken:
        OmegaConf.update(cfg, key, value)


def explain(error: Exception, words: Sequence[str] = ()) -> str | None:
    """An exception of Hydra or OmegaConf as one clear message; None for anything else.

    `words` are the command's: where they name a task, only its models and data sets are listed.
    """
    if isinstance(error, ConfigError):
        return str(error)
    if not type(error).__module__.startswith(("hydra.", "omegaconf.")):
        return None
    if hasattr(error, "override"):  # what the grammar of overrides does not take
        advice = "A value with =, commas, brackets or quotes goes into quotes: \"key='a=b, c'\""
        return f"{error.override}: {error}. {advice if '=' in error.override else ''}".rstrip()
    if (message := _explain_unknown_option(str(error), words)) is not None:
        return message
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    if isinstance(cause, ConfigKeyError) or "not in" in str(cause):
        message = _explain_unknown_key(str(error), cause)
        if message is not None:
            return message
    return _shortened(f"{error}" if cause is error else f"{error}\n{cause}")


def _explain_unknown_key(whole: str, cause: BaseException) -> str | None:
    """Hydra's "Could not override" with the nearest valid name instead of its type names."""
    full_key = getattr(cause, "full_key", None)
    if not isinstance(cause, OmegaConfBaseException) or not full_key:
        return None
    schema = getattr(cause, "object_type", None)
    known = set(getattr(schema, "__dataclass_fields__", {}))
    prefix, _, word = str(full_key).rpartition(".")
    if not known:
        return f"{full_key}: unknown key"
    return f"{full_key}: unknown key. {nearest(word, known, prefix + '.' if prefix else '')}"


def _explain_unknown_option(text: str, words: Sequence[str]) -> str | None:
    """Hydra's "Could not find 'model/conv1d'" with the nearest option and the list of all."""
    found = re.search(r"Could not find '([\w/]+)/([^'/]*)'", text)
    if found is None:
        return None
    group, word = found.groups()
    names = [option.name for option in options(group)] or re.findall(r"^\t(\w+)$", text, re.M)
    task = next((w.removeprefix("task=") for w in reversed(words) if w.startswith("task=")), "")
    of_task = options_of_task(group, task) if group in ("model", "data") else []
    close = difflib.get_close_matches(word, of_task or names, n=1, cutoff=0.6)
    advice = f"Did you mean {group}={close[0]}? " if close else ""
    which = f"task={task} has" if of_task else "There are"
    return f"{group}: there is no {word!r}. {advice}{which}: {', '.join(of_task or names)}"


def _shortened(text: str) -> str:
    """Without Hydra's lines about types and its own search path."""
    dropped = re.compile(r"^\s*(object_type|reference_type)=|^\s*$|^See https")
    lines = [line.rstrip() for line in text.splitlines() if not dropped.match(line)]
    return "\n".join(dict.fromkeys(lines))

"""From `cfg.data` to the splits of a run, whatever kind of files it names."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from kexue_cli.config import Mode
from kexue_cli.errors import UserError
from kexue_cli.tasks.lamost.config_data import refuse_reserved
from kexue_cli.tasks.lamost.normalise import Normalisation, inspect, refuse_empty
from kexue_cli.tasks.lamost.spectra import Integers, LamostData, SpectraSet, Split
from kexue_cli.tasks.lamost.splits import limited, make_splits, require_every_class

if TYPE_CHECKING:
    from kexue_cli.run.console import Console


def load(
    cfg: DictConfig,
    *,
    seed: int,
    cache_dir: Path,
    console: Console,
    limit_rows: int | None = None,
    class_names: tuple[str, ...] | None = None,
    mode: Mode = Mode.train,
) -> LamostData:
    """Read the spectra that `cfg` (the run's `cfg.data`) names and split them.

    A test set of its own files comes first, then a fold or `test_fraction` of the labelled
    set; without either, `test` is None. `limit_rows` caps every split. `class_names` is
    the label order of a checkpoint. To predict, a test set of its own is enough, and is all that
    is read; to evaluate, it is enough where there are no training spectra.

    Raises:
        UserError: files that are missing, malformed or do not fit each other.
        ConfigError: no such fold or group, or a class with a reserved name.
    """
    if class_names is not None:
        cfg = OmegaConf.merge(cfg, {"classes": list(class_names)})  # type: ignore[assignment]
    if limit_rows is not None and cfg.kind == "synthetic_spectra":
        caps = {name: min(cfg[name], 2 * limit_rows) for name in ("n_spectra", "n_test")}
        cfg = OmegaConf.merge(cfg, caps)  # type: ignore[assignment]
    reader = importlib.import_module(f"kexue_cli.tasks.lamost.{cfg.kind}")
    test = labelled = None
    if mode is Mode.predict or (mode is Mode.evaluate and not reader.training_is_there(cfg)):
        test = reader.read(cfg, "test", console=console, cache_dir=cache_dir)
        _require_answers(test, cfg, mode)
        if test is not None and mode is Mode.evaluate:
            console.say("there are no training spectra: the test set alone is evaluated")
    if test is None:
        labelled = reader.read(cfg, "train", console=console, cache_dir=cache_dir)
        _require_labels(labelled, cfg)
        cfg = OmegaConf.merge(cfg, {"classes": list(labelled.class_names)})  # type: ignore[assignment]
        test = reader.read(cfg, "test", console=console, cache_dir=cache_dir)
    return _assemble(cfg, labelled, test, seed, limit_rows, console)


def _require_answers(test: SpectraSet | None, cfg: Any, mode: Mode) -> None:
    if test is not None and test.labels is None and mode is Mode.evaluate:
        raise UserError(
            f"data={cfg.name}: the test spectra have no labels, so there is nothing to evaluate. "
            "To predict their classes use mode=predict."
        )


def _require_labels(labelled: SpectraSet, cfg: Any) -> None:
    if labelled.labels is None:
        raise UserError(
            f"data={cfg.name}: the training spectra have no labels. To predict them with a "
            "trained model use mode=predict checkpoint=<run dir> and name them as the test set."
        )


def _assemble(
    cfg: Any,
    labelled: SpectraSet | None,
    test: SpectraSet | None,
    seed: int,
    limit_rows: int | None,
    console: Console,
) -> LamostData:
    normalisation = Normalisation(
        getattr(cfg.normalise, "name", cfg.normalise), cfg.scale, cfg.clip
    )
    notes: dict[str, Any] = {}
    splits: dict[str, Split] = {}

    def add(name: str, source: SpectraSet, indices: Integers) -> None:
        rows = limited(source.labels, indices, limit_rows, seed)
        splits[name] = Split(source, rows, normalisation)

    if labelled is not None:
        notes.update(_look_at(labelled, "spectra", console))
        parts = make_splits(labelled, cfg, seed)
        for warning in require_every_class(labelled, parts):
            console.warn(warning)
        for name, indices in parts.items():
            add(name, labelled, indices)
    if test is not None:
        notes.update(_look_at(test, "test spectra", console))
        _require_same_length(labelled, test)
        add("test", test, np.arange(len(test)))
    sources = [source for source in (labelled, test) if source is not None]
    refuse_reserved(sources[0].class_names)
    content = hashlib.sha256("".join(source.checksum for source in sources).encode())
    return LamostData(
        train=splits.get("train"),
        valid=splits.get("valid"),
        test=splits.get("test"),
        class_names=sources[0].class_names,
        length=sources[0].flux.shape[1],
        checksum=content.hexdigest(),
        wavelength_angstrom=sources[0].wavelength_angstrom,
        notes=notes,
    )


def _require_same_length(labelled: SpectraSet | None, test: SpectraSet) -> None:
    if labelled is not None and labelled.flux.shape[1] != test.flux.shape[1]:
        raise UserError(
            f"The test spectra have {test.flux.shape[1]} points, the training spectra "
            f"{labelled.flux.shape[1]}: both must lie on one grid."
        )


def _look_at(spectra: SpectraSet, what: str, console: Console) -> dict[str, Any]:
    """Refuse spectra without any measured pixel; count and tell what else is unusual."""
    quality = spectra.quality if spectra.quality is not None else inspect(spectra.flux)
    refuse_empty(quality, spectra.ids, what)
    if quality.constant_rows:
        named = ", ".join(str(spectra.ids[row]) for row in quality.constant_rows[:5])
        console.warn(f"{len(quality.constant_rows)} {what} are constant: {named}")
    if quality.missing_pixels:
        console.say(
            f"{quality.missing_pixels} missing pixels in {quality.incomplete_rows} {what} "
            "are interpolated"
        )
    return {
        what: quality.rows,
        f"{what} with missing pixels": quality.incomplete_rows,
        f"constant {what}": len(quality.constant_rows),
    }

"""task=lamost: spectra in, classes out, judged by macro-F1 (kexue.fm/archives/5505)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf

from kexue_cli.config import Mode, build
from kexue_cli.errors import ConfigError, UserError
from kexue_cli.paths import cache_dir
from kexue_cli.run import checkpoint
from kexue_cli.run.context import Context
from kexue_cli.submission import Submission
from kexue_cli.tasks.base import Metric, Predictions, Task
from kexue_cli.tasks.lamost import data, plots
from kexue_cli.tasks.lamost.config_ranges import check_length
from kexue_cli.tasks.lamost.keras_weights import load_keras_weights
from kexue_cli.tasks.lamost.layers import SpectrumClassifier
from kexue_cli.tasks.lamost.metrics import confusion_matrix, precision_recall_f1, scores
from kexue_cli.tasks.lamost.schedule import STAGE_1, make_stages
from kexue_cli.tasks.lamost.spectra import LamostData, Split
from kexue_cli.train.loop import fit

EVALUATION_BATCH = 256


class LamostTask(Task):
    """Classification of spectra in two stages: cross-entropy, then the soft macro-F1."""

    primary = Metric("macro_f1", "max", "valid")
    bf16_on_cpu = True

    data: LamostData
    model: SpectrumClassifier

    def prepare(self, ctx: Context) -> None:
        """Read and split the spectra, make the network.

        Raises:
            UserError: see `data.load`; ConfigError: options that do not fit the classes.
        """
        saved = self._saved_classes()
        with main_rank_first(ctx):
            self.data = data.load(
                self.cfg.data,
                seed=ctx.seeds.integer("split") % 2**32,
                cache_dir=cache_dir(),
                console=ctx.console,
                limit_rows=self.cfg.limit.rows,
                class_names=saved,
                mode=self.cfg.mode,
            )
        ctx.fingerprint(self.data.checksum)
        self._check_classes()
        check_length(self.cfg, self.data.length)
        self.model = self._make_model(ctx)
        self._say_sizes(ctx)
        self._write_splits(ctx)
        self.confusion: dict[str, NDArray[np.int64]] = {}
        self._probabilities: dict[str, NDArray[np.float32]] = {}

    def fit(self, ctx: Context) -> None:
        """Both stages; the best weights on the validation split stay."""

        def keep_first_stage() -> None:
            ctx.save_checkpoint({"task": self.state_dict()}, STAGE_1)

        stages = make_stages(ctx, self.model, self.data, keep_first_stage)
        fit(ctx, self, self.model, stages, lambda: self._validate(ctx))

    def splits(self) -> tuple[str, ...]:
        """Labelled splits; after a training of two stages each also as the first one left it."""
        found = ["valid"] if self.data.valid is not None else []
        if self.data.test is not None and self.data.test.labels is not None:
            found.append("test")
        task = self.cfg.task
        if self.cfg.mode is Mode.train and task.cross_entropy.steps and task.soft_f1.steps:
            found += [f"{split}_after_{STAGE_1}" for split in found]
        return tuple(found)

    def evaluate(self, ctx: Context, split: str) -> dict[str, float]:
        """Scores of one split; see `metrics.scores`. Writes tables of classes and confusions."""
        name, _, stage = split.partition("_after_")
        if not stage:
            return self._evaluate(ctx, name, name)
        state = self.state_dict()
        place = ctx.directory.checkpoints / f"{STAGE_1}.pt"
        self.load_state_dict(
            checkpoint.load(place, self.cfg.task.name, self.cfg.model.name)["task"]
        )
        try:
            return self._evaluate(ctx, name, split)
        finally:
            self.load_state_dict(state)

    def predict(self, ctx: Context) -> Predictions:
        """Class and probabilities of every spectrum of the test set, else of the validation one;
        the true class as "target" where it is known.
        """
        split = self.data.predicted
        probabilities = self._predicted(ctx, "test" if split is self.data.test else "valid")
        names = np.array(self.data.class_names)
        columns: dict[str, Any] = {} if split.labels is None else {"target": names[split.labels]}
        columns |= {name: probabilities[:, k] for k, name in enumerate(self.data.class_names)}
        return Predictions(split.ids, names[probabilities.argmax(axis=1)], columns)

    def validation_predictions(self, ctx: Context) -> Predictions | None:
        """Class, probabilities and true class of every validation spectrum."""
        valid = self.data.valid
        if valid is None or valid.labels is None:
            return None
        probabilities = self._predicted(ctx, "valid")
        names = np.array(self.data.class_names)
        columns: dict[str, Any] = {"target": names[valid.labels]}
        columns |= {name: probabilities[:, k] for k, name in enumerate(self.data.class_names)}
        return Predictions(valid.ids, names[probabilities.argmax(axis=1)], columns)

    def submission(self, predictions: Predictions) -> Submission:
        """The contest's `id,type`."""
        return Submission(
            {"id": list(predictions.ids), "type": list(predictions.prediction)},
            header=self.cfg.task.submission_header,
            expected_ids=self.data.predicted.ids,
            allowed={"type": set(self.data.class_names)},
        )

    def plots(self, ctx: Context) -> None:
        """Learning curves, confusion matrices, and the most confident mistakes as spectra."""
        plots.learning_curves(ctx.directory.path / "metrics.jsonl", ctx.directory.plots)
        for split, confusion in self.confusion.items():
            plots.confusion(confusion, self.data.class_names, split, ctx.directory.plots)
        for split in self._probabilities.keys() & self.confusion.keys():
            plots.worst_mistakes(
                self.data.split(split), self._probabilities[split], self.data, ctx.directory.plots
            )

    def state_dict(self) -> dict[str, Any]:
        """Weights, and what they are for."""
        return {
            "model": self.model.state_dict(),
            "class_names": list(self.data.class_names),
            "length": self.data.length,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the weights of a checkpoint.

        Raises:
            UserError: other classes, another length, or a tensor that is missing or of another
                shape; it is named with both shapes.
        """
        if list(state["class_names"]) != list(self.data.class_names):
            raise UserError(
                f"the checkpoint knows the classes {', '.join(state['class_names'])}; "
                f"the data have {', '.join(self.data.class_names)}"
            )
        if self.cfg.model.name == "conv1d_res" and state["length"] != self.data.length:
            raise UserError(
                f"the checkpoint was trained on spectra of {state['length']} points; "
                f"the data have {self.data.length}"
            )
        require_same_shapes(state["model"], self.model.state_dict())
        self.model.load_state_dict(state["model"])

    # -- parts of prepare --

    def _saved_classes(self) -> tuple[str, ...] | None:
        """Label order of the checkpoint that is given, so that unlabelled spectra can be named."""
        if self.cfg.checkpoint is None:
            return None
        path = checkpoint.find(self.cfg.checkpoint)
        state = checkpoint.load(path, self.cfg.task.name, self.cfg.model.name)
        return tuple(state["task"]["class_names"])

    def _check_classes(self) -> None:
        task, names = self.cfg.task, ", ".join(self.data.class_names)
        for name in task.official_classes or ():
            if name not in self.data.class_names:
                raise ConfigError("task.official_classes", f"{name!r} is none of {names}")
        if task.class_weights is not None and len(task.class_weights) != self.data.n_classes:
            raise ConfigError("task.class_weights", f"one number for each of {names} is needed")

    def _make_model(self, ctx: Context) -> SpectrumClassifier:
        options = OmegaConf.to_container(self.cfg.model, enum_to_str=True)
        assert isinstance(options, dict)
        weights = options.pop("weights", None)
        model: SpectrumClassifier = build(
            OmegaConf.create(options),
            "model",
            length=self.data.length,
            n_classes=self.data.n_classes,
            generator=ctx.seeds.torch("init"),
        )
        if weights is not None:
            load_keras_weights(model, Path(weights))  # type: ignore[arg-type]
        return model.to(ctx.device.torch_device)

    def _say_sizes(self, ctx: Context) -> None:
        n_parameters = sum(parameter.numel() for parameter in self.model.parameters())
        engine = getattr(self.model, "engine", None)
        chosen = ""
        if engine is not None and ctx.device.type == "cpu":
            chosen = f"; engine {engine.name} ({engine.reason})"
        ctx.console.say(f"{self.cfg.model.name}: {n_parameters:,} parameters{chosen}")
        rows, names = [], self.data.class_names
        for name in ("train", "valid", "test"):
            split = getattr(self.data, name)
            if split is not None:
                split_column, size_column = (unlike(names, n) for n in ("split", "spectra"))
                row = {split_column: name, size_column: len(split)}
                rows.append({**row, **self._class_counts(split)})
        ctx.console.table(f"{self.data.length} points each", rows)

    def _class_counts(self, split: Split) -> dict[str, int | str]:
        if split.labels is None:
            return {name: "" for name in self.data.class_names}
        counts = np.bincount(split.labels, minlength=self.data.n_classes)
        return dict(zip(self.data.class_names, map(int, counts), strict=True))

    def _write_splits(self, ctx: Context) -> None:
        parts = [(n, s) for n in ("train", "valid", "test") if (s := getattr(self.data, n))]
        table: dict[str, Any] = {
            "id": np.concatenate([split.ids for _, split in parts]),
            "split": np.concatenate([np.full(len(split), name) for name, split in parts]),
        }
        ctx.directory.write_table("splits.csv", table)

    # -- parts of evaluate and predict --

    def _validate(self, ctx: Context) -> dict[str, float]:
        """Scores while training, and the cross-entropy."""
        assert self.data.valid is not None
        assert self.data.valid.labels is not None
        probabilities = self._run(ctx, self.data.valid)
        labels = self.data.valid.labels
        found = self._scores(labels, probabilities)
        chosen = probabilities[np.arange(len(labels)), labels]
        loss = float(-np.log(np.maximum(chosen, 1e-12)).mean())
        kept = ("macro_f1", "accuracy", "official_f1")
        return {**{n: v for n, v in found.items() if n in kept}, "cross_entropy": loss}

    def _evaluate(self, ctx: Context, split: str, name: str) -> dict[str, float]:
        labels = self.data.split(split).labels
        assert labels is not None
        if name == split:
            probabilities = self._predicted(ctx, split)
        else:
            probabilities = self._run(ctx, self.data.split(split))
        confusion = confusion_matrix(labels, probabilities.argmax(axis=1), self.data.n_classes)
        self.confusion[name] = confusion
        self._write_tables(ctx, name, confusion)
        return self._scores(labels, probabilities)

    def _scores(
        self, labels: NDArray[np.int64], probabilities: NDArray[np.float32]
    ) -> dict[str, float]:
        confusion = confusion_matrix(labels, probabilities.argmax(axis=1), self.data.n_classes)
        return scores(confusion, self.data.class_names, self.cfg.task.official_classes)

    def _write_tables(self, ctx: Context, name: str, confusion: NDArray[np.int64]) -> None:
        classes = self.data.class_names
        columns = precision_recall_f1(confusion)
        rows = [
            {"class": n, "precision": p, "recall": r, "f1": f, "support": int(s)}
            for n, p, r, f, s in zip(classes, *columns, confusion.sum(axis=1), strict=True)
        ]
        ctx.console.table(name, rows)
        ctx.directory.write_table(f"classes_{name}.csv", rows)
        table: dict[str, Any] = {
            unlike(classes, "true"): classes,
            **{n: confusion[:, k] for k, n in enumerate(classes)},
        }
        ctx.directory.write_table(f"confusion_{name}.csv", table)

    def _predicted(self, ctx: Context, split: str) -> NDArray[np.float32]:
        """Probabilities of a split under the final weights, computed once."""
        if split not in self._probabilities:
            self._probabilities[split] = self._run(ctx, self.data.split(split))
        return self._probabilities[split]

    def _run(self, ctx: Context, split: Split) -> NDArray[np.float32]:
        """Class probabilities (len(split), n_classes); each process computes its share."""
        share = ctx.ranks.slice(len(split))
        found = [np.zeros((0, self.data.n_classes), np.float32)]
        self.model.eval()
        with torch.inference_mode(), ctx.device.autocast():
            for begin in range(share.start, share.stop, EVALUATION_BATCH):
                rows = slice(begin, min(begin + EVALUATION_BATCH, share.stop))
                flux = torch.from_numpy(split.flux(rows)).to(ctx.device.torch_device)
                found.append(self.model(flux).float().softmax(dim=1).cpu().numpy())
        return np.concatenate(ctx.ranks.gather_objects(np.concatenate(found)))


def unlike(taken: Sequence[str], name: str) -> str:
    """`name`, with a mark if a class is called so."""
    return name if name not in taken else f"{name}*"


@contextlib.contextmanager
def main_rank_first(ctx: Context) -> Iterator[None]:
    """The main rank converts files into the cache, the others then find them there."""
    if not ctx.ranks.is_main:
        ctx.ranks.barrier()
    yield
    if ctx.ranks.is_main:
        ctx.ranks.barrier()


def require_same_shapes(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    """Raise UserError naming the first tensor that is missing, unknown or of another shape."""
    for name in sorted(found.keys() ^ wanted.keys()):
        where = "the checkpoint" if name in wanted else "the model"
        raise UserError(f"{where} has no tensor {name!r}: the model options are not the same")
    for name, tensor in wanted.items():
        if found[name].shape != tensor.shape:
            raise UserError(
                f"tensor {name!r} has shape {tuple(found[name].shape)} in the checkpoint and "
                f"{tuple(tensor.shape)} in the model: the model options are not the same"
            )

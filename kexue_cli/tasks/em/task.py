"""Task em in the runner: data, fit, scores, predictions, files, pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from omegaconf import DictConfig

from kexue_cli.config import build
from kexue_cli.errors import UserError
from kexue_cli.run.context import Context
from kexue_cli.submission import Submission
from kexue_cli.tasks.base import Predictions, Task
from kexue_cli.tasks.em import data, results
from kexue_cli.tasks.em.config import component_numbers
from kexue_cli.tasks.em.data import Table
from kexue_cli.tasks.em.scores import against_classes
from kexue_cli.tasks.em.session import Session

FINGERPRINT_ROWS = 100_000  # of a large table: its first rows


class EmTask(Task):
    """Mixtures and topics, fitted by EM; `model` does the work, `tables` are its splits."""

    modes = ("train", "evaluate", "predict", "generate")

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__(cfg)
        self.model: Any = build(cfg.model, "model")
        self.primary = self.model.primary
        self.tables: dict[str, Table] = {}
        self.session: Session
        self.fitted_here = False

    def prepare(self, ctx: Context) -> None:
        """Load every split; say their sizes."""
        limit = self.cfg.limit.rows
        mode = self.cfg.mode.name
        loaded = data.load(self.cfg.data, fitted=mode != "train", whole=mode == "predict")
        self.tables = {name: t.limited(limit) for name, t in loaded.items()}
        self.session = Session.of(ctx)
        if self.cfg.mode.name == "train" and self.model.needs_variance:
            self._leave_out_constant_pixels(ctx)
        for name, table in self.tables.items():
            weight = "" if table.weights is None else f", total weight {table.weights.sum():g}"
            classes = f", {len(table.classes)} classes" if table.labels is not None else ""
            ctx.console.say(
                f"{table.name} {name}: {len(table)} rows x {len(table.columns)} columns"
                f"{weight}{classes}"
            )
            self._fingerprint(ctx, table)
            if table.weights is None and self.cfg.data.get("weight") is not None:
                ctx.console.warn(
                    f"{table.name} has no column {self.cfg.data.weight!r}: every row weighs 1"
                )
            unlabelled = 0 if table.labels is None else int((table.labels < 0).sum())
            if unlabelled:
                ctx.console.warn(f"{table.name} {name}: {unlabelled} rows without a label")

    def _leave_out_constant_pixels(self, ctx: Context) -> None:
        """Of images, whose columns the user does not choose."""
        train = self.tables["train"]
        if train.shape is None:
            return
        names = train.varying()
        constant = len(train.columns) - len(names)
        if constant and names:
            self.tables = {name: t.with_columns(names) for name, t in self.tables.items()}
            ctx.console.warn(
                f"{train.name}: {constant} of {len(train.columns)} pixels are the same in all "
                "images and left out: a Gaussian has no density there"
            )

    def _fingerprint(self, ctx: Context, table: Table) -> None:
        values = table.values
        if isinstance(values, np.ndarray):
            ctx.fingerprint(np.asarray(values[:FINGERPRINT_ROWS]))
        else:
            ctx.fingerprint(values.data, values.indices, values.indptr)
        for extra in (table.weights, table.labels):
            if extra is not None:
                ctx.fingerprint(extra)

    def fit(self, ctx: Context) -> None:
        """Let the model fit itself to the training rows; keep it and write what it found."""
        with ctx.stop.deferred():
            self.model.fit(self.tables["train"], self.session)
            self.session.save(self.state_dict())
        ctx.stop.raise_if_requested()
        self.fitted_here = True
        results.write(self.model, self.tables["train"], ctx.directory)

    def splits(self) -> tuple[str, ...]:
        """Every split there is."""
        return tuple(self.tables)

    def evaluate(self, ctx: Context, split: str) -> dict[str, float]:
        """Fit of the rows, and agreement with known classes where there are some."""
        table = self.tables[split]
        fitted = self.fitted_here and split == "train"
        metrics: dict[str, float] = self.model.evaluate(table, self.session, fitted)
        if table.labels is not None:
            labels = table.labels
            hidden = getattr(self.model, "hidden_labels", None)
            if fitted and hidden is not None:  # only rows whose label the fit did not know
                labels = hidden
            clusters = self.model.responsibilities(table).argmax(axis=1)
            metrics |= against_classes(clusters, labels)
        return metrics

    def _predicted(self) -> Table:
        """The rows to be assigned: the test split where there is one."""
        return self.tables.get("test", self.tables["train"])

    def predict(self, ctx: Context) -> Predictions | None:
        """Cluster and probabilities of every row."""
        table = self._predicted()
        if len(table) > self.cfg.task.max_predictions:
            ctx.console.warn(
                f"no predictions.csv: {len(table)} rows, task.max_predictions is "
                f"{self.cfg.task.max_predictions}"
            )
            return None
        probabilities = self.model.responsibilities(table)
        columns = {f"probability_{k}": probabilities[:, k] for k in range(probabilities.shape[1])}
        return Predictions(table.ids, probabilities.argmax(axis=1), columns)

    def submission(self, predictions: Predictions) -> Submission:
        """id, cluster, probability_0, probability_1, ..."""
        columns: dict[str, Any] = {
            "id": predictions.ids,
            "cluster": predictions.prediction,
            **predictions.columns,
        }
        return Submission(columns, expected_ids=self._predicted().ids)

    def plots(self, ctx: Context) -> None:
        """Pictures of data, components, the climb, and the choice among models."""
        if self.cfg.task.plots:
            from kexue_cli.tasks.em import plots

            plots.draw(self.model, self.tables["train"], self.session, ctx.directory.plots)

    def generate(self, ctx: Context) -> None:
        """Draw from the fitted mixture: samples.csv."""
        generator = ctx.seeds.numpy("samples")
        rows, components = self.model.sample(int(self.cfg.task.n_samples), generator)
        names = self.tables["train"].columns
        if rows.shape[1] != len(names):
            names = [str(j) for j in range(rows.shape[1])]
        columns: dict[str, Any] = {name: rows[:, j] for j, name in enumerate(names)}
        ctx.directory.write_table("samples.csv", columns | {"component": components})
        ctx.console.say(f"{len(rows)} rows drawn: {ctx.directory.path / 'samples.csv'}")

    def state_dict(self) -> dict[str, Any]:
        """The model's, and what its columns are called."""
        state: dict[str, Any] = self.model.state_dict()
        return state | {"columns": list(self.tables["train"].columns)}

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """The model's."""
        if state is None:
            raise UserError(
                "checkpoint: that run was stopped before its fit had ended; finish it by "
                "resume=<its directory> first"
            )
        self.model.load_state_dict(state)
        self._warn_of_other_settings()
        width = self.model.means().shape[1]
        names = state.get("columns") or [str(j) for j in range(width)]  # older fits have none
        self.tables = {name: t.with_columns(names) for name, t in self.tables.items()}

    def _warn_of_other_settings(self) -> None:
        """Say where the fit that was loaded is not the one that the options ask for."""
        asked, found = self.cfg.model, len(self.model.means())
        wrong = {}
        if found not in component_numbers(asked.n_components):
            wrong[f"model.n_components={asked.n_components}"] = f"{found} components"
        covariance = getattr(self.model, "covariance", "")
        if covariance and covariance not in {c.covariance for c in self.model.candidates()}:
            wrong[f"model.covariance={asked.covariance}"] = f"covariance {covariance}"
        for word, has in wrong.items():
            self.session.ctx.console.warn(
                f"{word} has no effect: the fit of the checkpoint has {has}; another needs "
                "mode=train"
            )

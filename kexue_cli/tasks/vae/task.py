"""task=vae: one auto-encoder, or a study of several, from data to numbers and pictures."""

from __future__ import annotations

import functools
import importlib
from typing import Any, ClassVar

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor

from kexue_cli.config import build
from kexue_cli.errors import ConfigError, UserError
from kexue_cli.native.memory import keep_freed_memory
from kexue_cli.run.context import Context
from kexue_cli.submission import Submission
from kexue_cli.tasks.base import Metric, Predictions, Task
from kexue_cli.tasks.common.images import SPLITS
from kexue_cli.tasks.vae import dense, memory, numbers, predictions, schedule
from kexue_cli.tasks.vae.builders import Images
from kexue_cli.tasks.vae.cells import Batches, Group, Recipe, Temperature, Workbench, one_hot
from kexue_cli.tasks.vae.data import class_numbers, images_of
from kexue_cli.tasks.vae.model import Vae
from kexue_cli.tasks.vae.pixels import PixelView, Protocol, evenly, mean_image, protocol_for
from kexue_cli.train.loop import fit

JUDGED_STUDIES = ("beta", "conditional")  # by a classifier of the images
TEMPERATURES = ("temperature", "temperature_end", "temperature_decay")


class VaeTask(Task):
    """See docs/vae.md. The primary metric is the validation bound, in nats per image."""

    table: list[dict[str, Any]]
    modes: ClassVar[tuple[str, ...]] = ("train", "evaluate", "predict", "generate")

    def prepare(self, ctx: Context) -> None:
        """Read the images, make the model or the study's models."""
        self.ctx = ctx
        self.images = images_of(ctx)
        self.device = ctx.device.torch_device
        likelihood = self.cfg.model.get("likelihood", "gaussian" if self._linear else "bernoulli")
        self.protocol = self.protocol_of(likelihood)
        self.batches = Batches(
            ctx.seeds,
            len(self.images.train),
            self.cfg.task.batch_size,
            self.cfg.task.shuffle,
            ctx.ranks.rank,
            ctx.ranks.size,
            self.device,
        )
        groups = self._groups()
        pixels = int(np.prod(self.images.shape))
        memory.check(groups, self.cfg.task.batch_size, pixels, self.images.classes, self.device)
        views = {group.protocol.view: self.view("train", group.protocol.view) for group in groups}
        labels = self._checked_labels(groups)
        self.bench = Workbench(groups, views, labels).to(self.device)
        self.primary = Metric(self.protocol.name("neg_elbo"), mode="min", split="valid")
        if self.cfg.task.study is not None:
            self.primary = Metric("mean_bound_loss", mode="min", split="valid")
        self._say_sizes(ctx)

    def _checked_labels(self, groups: list[Group]) -> Tensor | None:
        """Those of training, where a model needs some; all splits must have theirs by then."""
        needed = any(group.model.needs_labels for group in groups)
        if needed or self.cfg.task.study in JUDGED_STUDIES:
            for split in SPLITS:
                self.labels(split)
        return self.labels("train") if needed else None

    @property
    def rows_in_flight(self) -> int:
        """Decoder rows at once while evaluating.

        What a core's cache holds, what the kernels need to share out, or what keeps a GPU busy.
        """
        usual = 100_000 if self.device.type == "cuda" else 5_000 if self.native else 500
        return int(self.cfg.task.rows_in_flight or usual)

    @functools.cached_property
    def native(self) -> bool:
        """Whether dense layers are computed by the kernels of `dense`."""
        asked = self.cfg.task.engine
        if asked == "plain" or self.device.type != "cpu":
            return False
        missing = dense.obstacle()
        if missing is not None:
            if asked == "native":
                raise ConfigError("task.engine", f"native cannot be had: {missing}")
            self.ctx.console.say(f"dense layers are computed by plain torch: {missing}")
            return False
        keep_freed_memory()
        torch.set_flush_denormal(True)  # what torch computes between the kernels, as they do
        return True

    @property
    def _linear(self) -> bool:
        return bool(self.cfg.model.name == "vae_linear")

    def _say_sizes(self, ctx: Context) -> None:
        images, bench = self.images, self.bench
        parameters = sum(p.numel() for p in bench.parameters())
        ctx.console.say(
            f"{images.name}: {len(images.train)} train, {len(images.valid)} valid, "
            f"{len(images.test)} test images of {images.shape[0]} x {images.shape[1]}, "
            f"pixels {self.protocol.view}; "
            f"{bench.cell_count} model(s), {parameters:,} parameters"
        )
        if not self.protocol.is_likelihood:
            ctx.console.warn(
                "cross-entropy of gray pixels is no log-likelihood: it is reported as gray_bce, "
                "and no NLL is given. For a likelihood use task.pixels=dynamic or "
                "model.likelihood=continuous_bernoulli"
            )

    # ---- what studies use too

    def protocol_of(self, likelihood: str, view: str | None = None) -> Protocol:
        """How pixels are shown to a model of that likelihood, and what its numbers are called."""
        pixels = int(np.prod(self.images.shape))
        return protocol_for(view or self.cfg.task.pixels, likelihood, self.images.levels, pixels)

    def view(self, split: str, name: str) -> PixelView:
        """One split as the view `name` shows it, on the run's device."""
        return PixelView(self.images.split(split), self.images.levels, name, self.device)

    def labels(self, split: str) -> Tensor:
        """One-hot labels (1, n, classes) of a split.

        Raises UserError where it has none, or a class that no training image has.
        """
        study = self.cfg.task.study
        asking = f"model={self.cfg.model.name}" if study is None else f"task.study={study}"
        numbers = class_numbers(self.images, split, asking, self.cfg)
        return one_hot(numbers, self.images.classes, self.device)

    def build(self, seeds: list[str], **changes: Any) -> Vae:
        """The configured model with `changes`; a cell for each name in `seeds`, its own stream."""
        configured = OmegaConf.to_container(self.cfg.model, resolve=True)
        assert isinstance(configured, dict)
        settings = {str(key): value for key, value in configured.items()} | changes
        node = OmegaConf.create(
            {key: value for key, value in settings.items() if key not in TEMPERATURES}
        )
        generators = [self.ctx.seeds.torch(name) for name in seeds]
        known = Images(
            self.images.shape, self.images.levels, self.images.classes, mean_image(self.images)
        )
        if (changes.get("class_mean_prior") or node.get("class_mean_prior")) and known.classes == 0:
            self.labels("train")
        model: Vae = build(node, "model", images=known, generators=generators)
        return model.use_native(self.native)

    def recipe(self, **changes: Any) -> Recipe:
        """How the configuration trains, with `changes`."""
        task = self.cfg.task
        settings = {
            "objective": task.objective,
            "samples": task.samples,
            "kl": task.kl,
            "beta": task.beta,
            "warmup_steps": task.kl_warmup_epochs * self.batches.per_epoch,
            "free_bits": task.free_bits,
        }
        return Recipe(**{**settings, **changes})

    def _groups(self) -> list[Group]:
        if self.cfg.task.study is None:
            model = self.build(["init"])
            return [Group(model, self.recipe(), self.protocol, temperature=self._temperature())]
        groups: list[Group] = self._study.groups(self)
        return groups

    def _temperature(self) -> Temperature | None:
        model = self.cfg.model
        if model.name != "vae_gumbel":
            return None
        return Temperature(model.temperature, model.temperature_end, model.temperature_decay)

    @property
    def _study(self) -> Any:
        return importlib.import_module(f"kexue_cli.tasks.vae.studies.{self.cfg.task.study}")

    # ---- training

    @property
    def epochs(self) -> int:
        """Epochs of all stages."""
        return schedule.epochs(self.cfg.task)

    def fit(self, ctx: Context) -> None:
        """One stage, or Burda et al.'s stages with their learning rates."""
        stages = schedule.stages(self.cfg, self.bench, self.batches)
        fit(ctx, self, self.bench, stages, self._validate)

    def _validate(self) -> dict[str, float]:
        self.bench.eval()
        if self.cfg.task.study is None:
            return numbers.bound_numbers(self, self.bench.groups[0], "valid")[0]
        bounds = [
            found[group.protocol.name("neg_elbo")]
            for group in self.bench.groups
            for found in numbers.bound_numbers(self, group, "valid")
        ]
        return {"mean_bound_loss": float(np.mean(bounds))}

    # ---- numbers

    def splits(self) -> tuple[str, ...]:
        """Validation and test."""
        return ("valid", "test") if self.cfg.task.study is None else ("test",)

    def evaluate(self, ctx: Context, split: str) -> dict[str, float]:
        """Named numbers in nats per image; a study prints and writes its table."""
        self.bench.eval()
        ctx.seeds.seed_global(f"evaluate {split}")
        if self.cfg.task.study is None:
            group = self.bench.groups[0]
            found = numbers.bound_numbers(self, group, split)[0]
            if split == "test":
                found |= numbers.sampled_numbers(self, group, split)[0]
            return found
        rows: list[dict[str, Any]] = self._study.rows(self, split)
        self.table = rows
        title = f"{self.cfg.task.study} on {self.images.name}, {split}, nats per image"
        ctx.console.table(title, numbers.as_printed(rows))
        ctx.directory.write_table("table.csv", rows)
        return numbers.flattened(rows)

    def evaluated(
        self, group: Group, split: str, limit: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Images (n, pixels) and labels (1, n, classes) or None that `group` is evaluated on."""
        x = self.view(split, group.protocol.view).for_evaluation(limit)
        if not group.model.needs_labels:
            return x, None
        labels = self.labels(split)
        if len(x) < labels.shape[1]:
            labels = labels[:, evenly(labels.shape[1], len(x))]
        return x, labels

    # ---- predictions, state, pictures

    def predict(self, ctx: Context) -> Predictions | None:
        """Latent means and the bound of every test image; of a study nothing."""
        if self.cfg.task.study is not None:
            return None
        self.bench.eval()
        ctx.seeds.seed_global("predict")
        return predictions.of_test_images(self)

    def submission(self, predictions: Predictions) -> Submission:
        """id, latent means, bound."""
        columns = {name: list(values) for name, values in predictions.columns.items()}
        return Submission({"id": list(predictions.ids), **columns})

    def state_dict(self) -> dict[str, Any]:
        """Weights of all models."""
        return {"weights": self.bench.models.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take weights; UserError names the first that does not fit."""
        own = self.bench.models.state_dict()
        for name, tensor in own.items():
            given = state["weights"].get(name)
            if given is None or given.shape != tensor.shape:
                found = "missing" if given is None else tuple(given.shape)
                raise UserError(
                    f"checkpoint: {name} is {found}, this model has {tuple(tensor.shape)}. Give "
                    "the model.* and data options the run was trained with"
                )
        self.bench.models.load_state_dict(state["weights"])

    def plots(self, ctx: Context) -> None:
        """Pictures of the trained model, or the study's own."""
        from kexue_cli.tasks.vae import pictures

        self.bench.eval()
        if self.cfg.task.study is None:
            pictures.training_pictures(self, ctx)
        elif hasattr(self._study, "plots"):
            self._study.plots(self, ctx)

    def generate(self, ctx: Context) -> None:
        """Samples, reconstructions, latent pictures: PNG in plots/, arrays in generated.npz."""
        from kexue_cli.tasks.vae import pictures

        if self.cfg.task.study is not None:
            raise ConfigError("mode", "generate is for a single model, not for a study")
        self.bench.eval()
        pictures.generate(self, ctx)

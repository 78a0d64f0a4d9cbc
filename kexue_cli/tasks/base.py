"""What a task is: the six steps that the runner calls, in this order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from omegaconf import DictConfig

if TYPE_CHECKING:
    import numpy as np

    from kexue_cli.run.context import Context
    from kexue_cli.submission import Submission


@dataclass(frozen=True)
class Metric:
    """The number a task is judged by: its name in `evaluate`, its better direction, its split."""

    name: str
    mode: Literal["max", "min"] = "max"
    split: str = "valid"

    def is_better(self, value: float, best: float | None) -> bool:
        """Whether `value` beats `best`; the first value always does, NaN never."""
        if value != value:
            return False
        if best is None:
            return True
        return value > best if self.mode == "max" else value < best


@dataclass
class Predictions:
    """One row per input, ids beside values: written as predictions.csv.

    Attributes:
        ids: one id per row, strings or integers.
        prediction: the answer per row.
        columns: further columns of the same length, probabilities or scores.
    """

    ids: np.ndarray | list[Any]
    prediction: np.ndarray | list[Any]
    columns: dict[str, np.ndarray | list[Any]] = field(default_factory=dict)

    def as_columns(self) -> dict[str, Any]:
        """All columns in the order of predictions.csv: id, prediction, the rest."""
        return {"id": self.ids, "prediction": self.prediction, **self.columns}


class Task(ABC):
    """Base of every task. A subclass overrides what it has; the runner calls nothing else.

    `cfg` is the whole checked configuration.
    """

    modes: ClassVar[tuple[str, ...]] = ("train", "evaluate", "predict")
    primary: Metric
    # Set where bfloat16 on the CPU has been measured to be faster and to score the same.
    bf16_on_cpu: ClassVar[bool] = False

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg

    @abstractmethod
    def prepare(self, ctx: Context) -> None:
        """Load the data, build vocabulary and splits and model; say sizes, give the fingerprint."""

    @abstractmethod
    def fit(self, ctx: Context) -> None:
        """Train, or go on from `ctx.resume`; at the end the task holds its best state."""

    def splits(self) -> tuple[str, ...]:
        """The splits that have answers, in the order they are reported."""
        return ("valid",)

    @abstractmethod
    def evaluate(self, ctx: Context, split: str) -> dict[str, float]:
        """Metrics of one split; names are fixed and documented."""

    def predict(self, ctx: Context) -> Predictions | None:
        """Predictions of the set to be predicted: every row, ids beside values."""
        return None

    def validation_predictions(self, ctx: Context) -> Predictions | None:
        """Predictions of the validation rows with a column "target", for blending and for scores
        over all folds.
        """
        return None

    def submission(self, predictions: Predictions) -> Submission | None:
        """The task's competition-style table, made from predictions."""
        return None

    def plots(self, ctx: Context) -> None:
        """Write pictures into `ctx.directory.plots`."""

    def generate(self, ctx: Context) -> None:
        """mode=generate, for tasks that list it in `modes`."""

    def load(self, ctx: Context, place: str) -> None:
        """Take the state of `checkpoint=<place>`: a run directory or a checkpoint file of ours."""
        from kexue_cli.run import checkpoint

        path = checkpoint.find(place)
        state = checkpoint.load(path, self.cfg.task.name, self.cfg.model.name)
        self.load_state_dict(state["task"])
        ctx.console.say(f"loaded {path}")

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything `predict` needs: tensors, numbers, strings, lists and dicts only."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what `state_dict` gave; raise UserError where it does not fit."""

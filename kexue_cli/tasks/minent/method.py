"""What a method of the task minent is: it learns from a corpus, and cuts text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kexue_cli.tasks.minent.data import Corpus
from kexue_cli.tasks.minent.lexicon import Lexicon

if TYPE_CHECKING:
    from kexue_cli.run.context import Context


class Method(Protocol):
    """A model of the task; built from its configuration, empty until `fit` or `load_state_dict`."""

    def fit(self, ctx: Context, corpus: Corpus) -> None:
        """Learn. Logs its curve by `ctx.log`, says what it chose, polls `ctx.stop`."""

    def lexicon(self) -> Lexicon:
        """The words found, with their counts."""

    def cut(self, code_points: NDArray[np.uint32], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Word ends (characters,) of pieces that begin at `starts` (pieces + 1)."""

    def training_ends(self) -> NDArray[np.bool_] | None:
        """Word ends of the free pieces of the text learned from, if `fit` itself segmented it."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers, strings, lists and dicts that `load_state_dict` takes."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become what `state_dict` described."""

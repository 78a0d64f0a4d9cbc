"""What the iteration, the starts and the choice among models need to know of a mixture."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from kexue_cli.tasks.em.natural import MeanRow, Natural, Parameters, Statistics


class Family(Protocol):
    """What the iteration needs to know of a mixture."""

    n_components: int

    @property
    def n_parameters(self) -> int:
        """Free parameters."""

    @property
    def columns(self) -> int:
        """Number of columns, d."""

    def second_shape(self) -> tuple[int, ...] | None:
        """Shape after (R, K) of the second moments it needs; None: none."""

    def maximise(self, sums: Statistics, previous: Parameters | None = None) -> Parameters:
        """M-step."""

    def from_centres(self, centres: np.ndarray, mean_row: MeanRow | None) -> Parameters | None:
        """Start parameters from centres (R, K, d), if centres are enough to say."""

    def natural(self, parameters: Parameters, reduced: bool = True) -> Natural:
        """What the E-step needs."""

    def log_prior(self, parameters: Parameters) -> np.ndarray:
        """Log of the prior's terms that depend on parameters, (R,)."""

    def nudged(self, parameters: Parameters, noise: np.ndarray) -> Parameters:
        """Means moved by the standard normal `noise` (R, K, d) times something small."""

    def collapsed(self, parameters: Parameters, count: np.ndarray) -> np.ndarray:
        """Which components are spikes of density, (R, K)."""

    def sample(
        self, parameters: Parameters, n: int, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw n rows of the first restart, and their components."""

"""Mixtures of independent Bernoulli bits and of multinomial counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kexue_cli.tasks.em.natural import MeanRow, Natural, Parameters, Statistics

NUDGE = 0.01  # of annealing, relative
BLEND = 0.8  # share of a start's own row in its component; the rest is the mean of all rows


def _log(values: np.ndarray) -> np.ndarray:
    """Log with a finite floor, so that 0 * log 0 is 0."""
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(values), -1e300)


@dataclass
class BernoulliMixture:
    """p(y | k) = prod_j p_kj^y_j (1 - p_kj)^(1 - y_j); parameters weights (R, K), means (R, K, d).

    Attributes:
        ones, zeros: pseudo-counts of a Beta prior, added to each component's count of ones and of
            zeros. Without them a bit never seen on in a component gives a test row with that bit
            on probability 0.
    """

    n_components: int
    columns: int
    ones: float = 0.05
    zeros: float = 0.2

    @property
    def n_parameters(self) -> int:
        """Free weights and means."""
        return self.n_components - 1 + self.n_components * self.columns

    def second_shape(self) -> tuple[int, ...] | None:
        """Bits need no second moments."""
        return None

    def maximise(self, sums: Statistics, previous: Parameters | None = None) -> Parameters:
        """M-step: means with their pseudo-counts, weights as they are counted."""
        count = np.maximum(sums.count, 10 * np.finfo(float).eps)
        means = (sums.first + self.ones) / (count[:, :, None] + self.ones + self.zeros)
        return {
            "weights": count / count.sum(axis=1, keepdims=True),
            "means": np.clip(means, 0.0, 1.0),
        }

    def from_centres(self, centres: np.ndarray, mean_row: MeanRow | None) -> Parameters:
        """Equal weights; means (R, K, d) blended with the mean of all rows (d,), where given."""
        means = centres if mean_row is None else BLEND * centres + (1 - BLEND) * mean_row()
        weights = np.full(centres.shape[:2], 1.0 / self.n_components)
        return {"weights": weights, "means": np.clip(means, 1e-6, 1 - 1e-6)}

    def natural(self, parameters: Parameters, reduced: bool = True) -> Natural:
        """Log odds of the bits."""
        log_ones, log_zeros = _log(parameters["means"]), _log(1.0 - parameters["means"])
        # a bound on log odds, not on the product: exp(-1e5) is 0 in any later use
        log_ones, log_zeros = np.maximum(log_ones, -1e5), np.maximum(log_zeros, -1e5)
        constant = _log(parameters["weights"]) + log_zeros.sum(axis=2)
        return Natural(constant, log_ones - log_zeros, None, np.zeros(len(constant)))

    def log_prior(self, parameters: Parameters) -> np.ndarray:
        """Log of the Beta terms that the pseudo-counts stand for; (R,)."""
        means = parameters["means"]
        total = np.zeros(len(means))
        if self.ones > 0:
            total += self.ones * np.log(means).sum(axis=(1, 2))
        if self.zeros > 0:
            total += self.zeros * np.log1p(-means).sum(axis=(1, 2))
        return total

    def nudged(self, parameters: Parameters, noise: np.ndarray) -> Parameters:
        """Means moved by about one per cent."""
        means = parameters["means"]
        return parameters | {"means": means + NUDGE * noise * means * (1.0 - means)}

    def collapsed(self, parameters: Parameters, count: np.ndarray) -> np.ndarray:
        """Discrete probabilities are at most 1: no spikes."""
        return np.zeros(count.shape, dtype=bool)

    def sample(
        self, parameters: Parameters, n: int, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw n rows: bits (n, d), labels (n,)."""
        weights = parameters["weights"][0]
        labels = generator.choice(self.n_components, size=n, p=weights / weights.sum())
        means = parameters["means"][0][labels]
        return (generator.random(means.shape) < means).astype(np.float64), labels


@dataclass
class MultinomialMixture:
    """A row of counts comes from one of K word distributions; parameters weights, means (R, K, d).

    Likelihoods are those of the word sequence: the multinomial coefficient, the same for all
    parameters, is left out.

    Attributes:
        pseudo_count: of every word in every component (Dirichlet smoothing).
        fixed_weights: keep the weights equal, as the two coins of Do and Batzoglou (2008) are.
    """

    n_components: int
    columns: int
    pseudo_count: float = 0.01
    fixed_weights: bool = False

    @property
    def n_parameters(self) -> int:
        """Free weights and word probabilities."""
        weights = 0 if self.fixed_weights else self.n_components - 1
        return weights + self.n_components * (self.columns - 1)

    def second_shape(self) -> tuple[int, ...] | None:
        """Counts need no second moments."""
        return None

    def maximise(self, sums: Statistics, previous: Parameters | None = None) -> Parameters:
        """M-step: word frequencies of each component."""
        words = sums.first + self.pseudo_count
        totals = words.sum(axis=2, keepdims=True)
        means = np.where(totals > 0, words / np.maximum(totals, 1e-300), 1.0 / self.columns)
        weights = sums.count / sums.count.sum(axis=1, keepdims=True)
        if self.fixed_weights:
            weights = np.full_like(weights, 1.0 / self.n_components)
        return {"weights": weights, "means": means}

    def from_centres(self, centres: np.ndarray, mean_row: MeanRow | None) -> Parameters:
        """Equal weights; word frequencies (R, K, d) of rows, blended with those of all (d,)."""
        means = centres / centres.sum(axis=2, keepdims=True)
        if mean_row is not None:
            overall = mean_row()
            means = BLEND * means + (1 - BLEND) * overall / overall.sum()
        means = (means + 1e-9) / (1 + 1e-9 * self.columns)  # words of no document stay possible
        return {"weights": np.full(centres.shape[:2], 1.0 / self.n_components), "means": means}

    def natural(self, parameters: Parameters, reduced: bool = True) -> Natural:
        """Log weights and log word probabilities."""
        linear = np.maximum(_log(parameters["means"]), -1e5)
        constant = _log(parameters["weights"])
        return Natural(constant, linear, None, np.zeros(len(constant)))

    def log_prior(self, parameters: Parameters) -> np.ndarray:
        """Log of the Dirichlet term that the pseudo-count stands for; (R,)."""
        if self.pseudo_count == 0:
            return np.zeros(len(parameters["means"]))
        total: np.ndarray = self.pseudo_count * np.log(parameters["means"]).sum(axis=(1, 2))
        return total

    def nudged(self, parameters: Parameters, noise: np.ndarray) -> Parameters:
        """Means moved by about one per cent, then made to sum to 1."""
        means = parameters["means"] * np.exp(NUDGE * noise)
        return parameters | {"means": means / means.sum(axis=2, keepdims=True)}

    def collapsed(self, parameters: Parameters, count: np.ndarray) -> np.ndarray:
        """Discrete probabilities are at most 1: no spikes."""
        return np.zeros(count.shape, dtype=bool)

    def sample(
        self, parameters: Parameters, n: int, generator: np.random.Generator, words: int = 100
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw `n` rows of `words` words each: counts (n, d), labels (n,)."""
        weights = parameters["weights"][0]
        labels = generator.choice(self.n_components, size=n, p=weights / weights.sum())
        rows = np.zeros((n, self.columns))
        for row, label in enumerate(labels):
            rows[row] = generator.multinomial(words, parameters["means"][0, label])
        return rows, labels

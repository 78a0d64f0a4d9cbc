"""Gaussian mixtures: sufficient statistics to parameters and back, for all covariance models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kexue_cli.errors import UserError
from kexue_cli.tasks.em.covariance import (
    AXIS_PARALLEL,
    POOLED,
    covariances,
    n_covariance_parameters,
)
from kexue_cli.tasks.em.natural import MeanRow, Natural, Parameters, Statistics

LOG_2PI = float(np.log(2 * np.pi))
NUDGE = 0.01  # of annealing, in standard deviations of the columns
COLLAPSED = 1e-7  # smallest eigenvalue of a covariance in units of the columns' variances


@dataclass
class GaussianMixture:
    """The family of K Gaussians with one of the fourteen covariance models.

    Parameters are weights (R, K), means (R, K, d) relative to the rows' shift, and covariances
    (R, K, d, d), or (R, K, d) for axis-parallel models.

    Attributes:
        model: EII ... VVV.
        column_scatter: (d, d) or (d,), sum over rows of weight times y y^T: what the pooled models
            need beside means.
        variances: (d,), of the columns: the scale of the prior.
        prior: pseudo-observations of that variance per component. The M-step maximises the
            likelihood times this inverse-Wishart term, so the penalised likelihood never falls,
            no component gets singular, and units of measurement do not matter.
        reduces: the rows are those `column_scatter` was summed over, all without gaps, so that
            pooled models may leave the term that all components share out of the E-step.
        rows_per_weight: rows of some weight over their total weight, at least 1: with weights that
            sum to 1, say, a component of a hundred rows counts far less than 1.
        reg_covar: added to all variances after the M-step, in squared units of the data, as in
            scikit-learn; breaks strict monotonicity, 0 by default.
    """

    model: str
    n_components: int
    column_scatter: np.ndarray
    variances: np.ndarray
    prior: float = 1e-6
    reg_covar: float = 0.0
    reduces: bool = True
    rows_per_weight: float = 1.0

    @property
    def columns(self) -> int:
        """Number of columns, d."""
        return len(self.variances)

    @property
    def n_parameters(self) -> int:
        """Free weights, means and covariance parameters."""
        k, d = self.n_components, self.columns
        return k - 1 + k * d + n_covariance_parameters(self.model, k, d)

    def second_shape(self) -> tuple[int, ...] | None:
        """Shape after (R, K) of the second moments this model needs; None: none at all."""
        if self.model in POOLED and self.reduces:
            return None
        if self.model == "VII":
            return ()
        return (self.columns,) * (1 if self.model in AXIS_PARALLEL else 2)

    def maximise(self, sums: Statistics, previous: Parameters | None = None) -> Parameters:
        """M-step: the parameters that maximise expected log joint plus log prior."""
        count = np.maximum(sums.count, 10 * np.finfo(float).eps)
        means = sums.first / count[:, :, None]
        scatter = self._scatter(sums, count, means)
        start = None if previous is None else previous.get("orientation")
        if self.model in POOLED:
            pooled_count = count.sum(axis=1, keepdims=True)
            found, axes = covariances(self.model, scatter, pooled_count)
        else:
            found, axes = covariances(self.model, scatter, count, start)
        found = self._ridge(self._spread(found))
        weights = count / count.sum(axis=1, keepdims=True)
        parameters = {"weights": weights, "means": means, "covariances": found}
        return parameters if axes is None else {**parameters, "orientation": axes}

    def from_centres(self, centres: np.ndarray, mean_row: MeanRow | None) -> None:
        """Centres alone say nothing of covariances: the start's hard assignment does."""
        return None

    def _scatter(self, sums: Statistics, count: np.ndarray, means: np.ndarray) -> np.ndarray:
        """W_k plus its prior: (R, K, d, d), (R, K, d), (R, K, 1) for VII, (R, 1, ...) if pooled."""
        axis_parallel = self.model in AXIS_PARALLEL
        second = self._second(sums)
        if self.model in POOLED:
            outer = np.einsum("rk,rki,rkj->rij", count, means, means)
            outer = np.einsum("rii->ri", outer) if axis_parallel else outer
            scatter, copies = (second - outer)[:, None], self.n_components
        elif self.model == "VII":
            scatter = (second - count * np.sum(means**2, axis=2))[:, :, None] / self.columns
            return np.maximum(scatter, 0.0) + self.prior * self.variances.mean()
        elif axis_parallel:
            scatter, copies = second - count[:, :, None] * means**2, 1
        else:
            outer = count[:, :, None, None] * means[:, :, :, None] * means[:, :, None, :]
            scatter, copies = second - outer, 1
        prior = copies * self.prior * self.variances
        if axis_parallel:
            return np.maximum(scatter, 0.0) + prior
        scatter = (scatter + np.swapaxes(scatter, -1, -2)) / 2
        return scatter + np.diag(prior)

    def _second(self, sums: Statistics) -> np.ndarray:
        """Second moments in the shape the model needs; richer ones, of rows with gaps, shrink."""
        if sums.second is None:
            return self.column_scatter[None]
        second = sums.second
        if second.ndim == 4 and self.model in AXIS_PARALLEL:
            second = np.einsum("rkii->rki", second)
        if self.model in POOLED:
            return second.sum(axis=1)
        return second.sum(axis=2) if self.model == "VII" and second.ndim == 3 else second

    def _spread(self, found: np.ndarray) -> np.ndarray:
        """Repeat what components or columns have in common, up to (R, K, d) or (R, K, d, d)."""
        tail = (self.columns,) * (found.ndim - 2)
        return np.broadcast_to(found, (len(found), self.n_components, *tail)).copy()

    def _ridge(self, found: np.ndarray) -> np.ndarray:
        if self.reg_covar == 0:
            return found
        return found + self.reg_covar * (np.eye(self.columns) if found.ndim == 4 else 1.0)

    def natural(self, parameters: Parameters, reduced: bool = True) -> Natural:
        """Natural parameters.

        Args:
            reduced: leave the quadratic term that all components of a pooled model share out of
                the E-step; its total goes to `offset`. Only for the rows the family was made for.

        Raises:
            UserError: a covariance is not positive definite.
        """
        weights, means = parameters["weights"], parameters["means"]
        precisions, log_determinant = self._precisions(parameters["covariances"])
        diagonal = precisions.ndim == 3
        linear = precisions * means if diagonal else np.einsum("rkij,rkj->rki", precisions, means)
        with np.errstate(divide="ignore"):
            log_weights = np.maximum(np.log(weights), -1e300)
        constant = log_weights - 0.5 * (
            self.columns * LOG_2PI + log_determinant + np.sum(linear * means, axis=2)
        )
        offset = np.zeros(len(weights))
        quadratic: np.ndarray | None = -0.5 * precisions
        if reduced and self.reduces and self.model in POOLED:
            product = precisions[:, 0] * self.column_scatter
            offset = -0.5 * product.reshape(len(product), -1).sum(axis=1)
            quadratic = None
        elif self.model == "VII":
            quadratic = -0.5 * precisions[:, :, 0]
        return Natural(constant, linear, quadratic, offset)

    def _precisions(self, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Inverse covariances in the same shape, and log determinants (R, K)."""
        if found.ndim == 3:
            return 1.0 / found, np.log(found).sum(axis=2)
        distinct = found[:, :1] if self.model in POOLED else found
        try:
            triangle = np.linalg.cholesky(distinct)
        except np.linalg.LinAlgError as error:
            raise UserError(
                "A covariance is not positive definite: a component sits on too few distinct "
                "rows, or columns depend on each other. Use fewer components, a simpler "
                "model.covariance, or a larger model.regularisation"
            ) from error
        inverse = np.linalg.inv(triangle)
        precisions = np.swapaxes(inverse, -1, -2) @ inverse
        log_determinant = 2 * np.log(np.einsum("rkii->rki", triangle)).sum(axis=2)
        shape = found.shape[:2]
        return (
            np.broadcast_to(precisions, found.shape),
            np.broadcast_to(log_determinant, shape),
        )

    def log_prior(self, parameters: Parameters) -> np.ndarray:
        """What the penalised likelihood adds to the likelihood; (R,), at most 0."""
        if self.prior == 0:
            return np.zeros(len(parameters["weights"]))
        precisions, _ = self._precisions(parameters["covariances"])
        if precisions.ndim == 4:
            precisions = np.einsum("rkii->rki", precisions)
        return -0.5 * self.prior * np.einsum("rkd,d->r", precisions, self.variances)

    def nudged(self, parameters: Parameters, noise: np.ndarray) -> Parameters:
        """Means moved by about a hundredth of the columns' standard deviations."""
        means = parameters["means"] + NUDGE * np.sqrt(self.variances) * noise
        return parameters | {"means": means}

    def collapsed(self, parameters: Parameters, count: np.ndarray) -> np.ndarray:
        """Components that explain a few rows by a spike of density instead of a cluster; (R, K).

        Either the covariance has shrunk to nothing in some direction (duplicated rows), or a
        component with a covariance of its own holds fewer rows than determine it.
        """
        found = parameters["covariances"]
        if found.ndim == 3:
            smallest = (found / self.variances).min(axis=2)
        else:
            scale = np.sqrt(self.variances)
            smallest = np.linalg.eigvalsh(found / np.multiply.outer(scale, scale)).min(axis=2)
        few = self.columns + 1.5 if self.model in ("VVV", "EVV", "VEV", "EEV", "VVE") else 1.5
        own = self.model[0] == "V" or self.model[1] == "V" or self.model[2] == "V"
        return (smallest < COLLAPSED) | (own & (count * self.rows_per_weight < few))

    def sample(
        self, parameters: Parameters, n: int, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw n rows of the first restart: (n, d) relative to the shift, and their components."""
        weights = parameters["weights"][0]
        labels = generator.choice(self.n_components, size=n, p=weights / weights.sum())
        rows = generator.standard_normal((n, self.columns))
        for k in range(self.n_components):
            chosen = labels == k
            found = parameters["covariances"][0, k]
            root = np.linalg.cholesky(found) if found.ndim == 2 else np.diag(np.sqrt(found))
            rows[chosen] = rows[chosen] @ root.T + parameters["means"][0, k]
        return rows, labels

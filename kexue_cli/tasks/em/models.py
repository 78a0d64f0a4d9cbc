"""Gaussian, Bernoulli and multinomial mixtures and the two coins, as `model=` names them."""

from __future__ import annotations

from typing import Any

import numpy as np

from kexue_cli.errors import UserError
from kexue_cli.tasks.em.checks import (
    check_columns_differ,
    check_counts,
    check_moments,
    check_values,
)
from kexue_cli.tasks.em.config import covariance_names
from kexue_cli.tasks.em.covariance import ALIASES, AXIS_PARALLEL
from kexue_cli.tasks.em.data import Table, column_moments
from kexue_cli.tasks.em.discrete import BernoulliMixture, MultinomialMixture
from kexue_cli.tasks.em.fitting import Settings
from kexue_cli.tasks.em.gaussian import GaussianMixture
from kexue_cli.tasks.em.mixture_models import Candidate, MixtureModel
from kexue_cli.tasks.em.rows import Rows, release_pages
from kexue_cli.tasks.em.session import Session


class Gmm(MixtureModel):
    """Gaussian mixture; the only model that takes rows with gaps."""

    needs_variance = True
    variances: np.ndarray
    column_scatter: np.ndarray
    known_values: Any = None  # those that the three above belong to
    has_gaps: bool = False

    def takes_gaps(self) -> bool:
        """NaN is a hidden value."""
        return True

    def values(self, table: Table) -> Any:
        """Any numbers, as they are."""
        if not isinstance(table.values, np.ndarray):
            raise UserError(f"model=gmm needs a table of numbers; {table.name} holds word counts")
        return table.values

    def candidates(self) -> list[Candidate]:
        """Every number of components with every covariance model."""
        names = [ALIASES.get(n, n) for n in covariance_names(self.settings.covariance)]
        if len(getattr(self, "shift", ())) == 1:  # one column: only the variance differs
            names = ["EII" if name[0] == "E" else "VII" for name in names]
        names = list(dict.fromkeys(names))
        return [Candidate(base.components, name) for base in super().candidates() for name in names]

    def learn_columns(self, table: Table, rows: Rows) -> None:
        """Means, variances and total scatter of the columns, for all families of this table."""
        rows.shift, self.variances = column_moments(table)
        check_moments(table, rows.shift, self.variances)
        self.column_scatter = total_scatter(rows)
        self.has_gaps = bool(np.isnan(self.column_scatter).any())
        self.shift, self.known_values = rows.shift, rows.values
        if any(candidate.covariance not in AXIS_PARALLEL for candidate in self.candidates()):
            check_columns_differ(table, self.column_scatter)

    def family(self, candidate: Candidate, rows: Rows) -> GaussianMixture:
        """The Gaussian family; fresh rows (a bootstrap's) bring their own scatter."""
        model = ALIASES.get(candidate.covariance, candidate.covariance)
        if rows.values is self.known_values:
            variances, scatter = self.variances, self.column_scatter
        else:
            scatter = total_scatter(rows)
            variances = np.diag(scatter) / rows.total_weight
        if model in AXIS_PARALLEL:
            scatter = np.diag(scatter)
        return GaussianMixture(
            model,
            candidate.components,
            scatter,
            variances,
            self.settings.regularisation,
            self.settings.reg_covar,
            not self.has_gaps,
            rows.rows_per_weight,
        )

    def start_scale(self) -> np.ndarray:
        """Standard deviations."""
        scale: np.ndarray = np.sqrt(self.variances)
        return scale


def total_scatter(rows: Rows) -> np.ndarray:
    """Sum over rows of weight times y y^T, (d, d); NaN where rows have gaps."""
    columns = rows.values.shape[1]
    total = np.zeros((columns, columns))
    for start, stop in rows.slices():
        part = rows.part(start, stop)
        y = part.centred()
        total += y.T @ (y if part.weights is None else y * part.weights[:, None])
        release_pages(rows.values)
    return total


class Bernoulli(MixtureModel):
    """Mixture of independent bits."""

    def values(self, table: Table) -> Any:
        """Values in [0, 1], cut at `threshold` where there is one."""
        values = table.values
        if not isinstance(values, np.ndarray):
            raise UserError(f"model=bernoulli_mixture needs a table; {table.name} holds counts")
        check_values(table, gaps_allowed=False)
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):
            raise UserError(
                f"model=bernoulli_mixture needs values from 0 to 1; {table.name} has {low:g} to "
                f"{high:g}. Scale them by data.divide_by"
            )
        if self.settings.threshold is None or values.dtype == np.uint8:
            return values
        return (values > self.settings.threshold).astype(np.uint8)

    def family(self, candidate: Candidate, rows: Rows) -> BernoulliMixture:
        """Bits with Beta pseudo-counts."""
        columns = rows.values.shape[1]
        return BernoulliMixture(
            candidate.components, columns, self.settings.ones, self.settings.zeros
        )


class Multinomial(MixtureModel):
    """Mixture of word distributions."""

    means_are_shares = True  # of a row's total, while rows are counts

    def values(self, table: Table) -> Any:
        """Counts: whole numbers, none negative, no empty row."""
        check_counts(table)
        return table.values

    def family(self, candidate: Candidate, rows: Rows) -> MultinomialMixture:
        """Words with a Dirichlet pseudo-count."""
        return MultinomialMixture(
            candidate.components, rows.values.shape[1], self.settings.pseudo_count
        )


class Coins(Multinomial):
    """Coins tossed in sets; all coins equally often, as in Do and Batzoglou (2008)."""

    def family(self, candidate: Candidate, rows: Rows) -> MultinomialMixture:
        """Two words, heads and tails; weights stay equal."""
        return MultinomialMixture(candidate.components, 2, 0.0, fixed_weights=True)

    def evaluate(self, table: Table, session: Session, fitted_rows: bool) -> dict[str, float]:
        """And the coins themselves."""
        heads = self.means()[:, 0]
        coins = {f"head_probability_{k}": float(heads[k]) for k in range(len(heads))}
        return super().evaluate(table, session, fitted_rows) | coins

    def fit_settings(self, session: Session, rows: Rows, components: int) -> Settings:
        """Start from the given biases."""
        settings = super().fit_settings(session, rows, components)
        heads = np.asarray(self.settings.biases, dtype=np.float64)
        settings.start_means = np.column_stack([heads, 1 - heads])
        return settings

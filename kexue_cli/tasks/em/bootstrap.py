"""Is one more component worth it? Likelihood ratios of resamples from the smaller fit."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from kexue_cli.tasks.em.family import Family
from kexue_cli.tasks.em.fitting import Outcome
from kexue_cli.tasks.em.session import Session
from kexue_cli.tasks.em.stage import Stage

FitAgain = Callable[[Family, np.ndarray, int], Outcome]  # family, rows (n, d), number of resample


def bootstrap_tests(
    outcomes: dict[int, Outcome], fit_again: FitAgain, resamples: int, session: Session
) -> list[dict[str, float]]:
    """Every number of components (the keys) against the next; shown and written, too."""
    generator = session.ctx.seeds.numpy("bootstrap")
    tests = []
    for small, large in pairwise(sorted(outcomes)):
        stage = session.stage(f"bootstrap {small} against {large}")
        pair = outcomes[small], outcomes[large]
        tests.append(bootstrap_test(*pair, fit_again, resamples, generator, stage))
    session.ctx.console.table("bootstrap likelihood-ratio tests", tests)
    session.ctx.directory.write_table("bootstrap_tests.csv", tests)
    return tests


def bootstrap_test(
    small: Outcome,
    large: Outcome,
    fit_again: FitAgain,
    resamples: int,
    generator: np.random.Generator,
    stage: Stage | None = None,
) -> dict[str, float]:
    """Parametric bootstrap of the likelihood ratio of two fits to the same rows.

    Args:
        fit_again: fits a family of the same kind to fresh rows (n, d), relative to the shift.

    Source: McLachlan, "On bootstrapping the likelihood ratio test statistic for the number of
    components in a normal mixture", 1987.
    """
    stage = stage or Stage()
    observed = 2 * (large.log_likelihood - small.log_likelihood)
    ratios: list[float] = list((stage.state or {"ratios": []})["ratios"])
    for resample in range(resamples):
        rows, _ = small.family.sample(small.parameters, round(small.n), generator)
        if resample < len(ratios):  # known from before the stop
            continue
        few, more = (fit_again(o.family, rows, resample).log_likelihood for o in (small, large))
        ratios.append(2 * (more - few))
        stage.keep({"ratios": ratios})
    exceeded = sum(ratio >= observed for ratio in ratios)
    return {
        "components": small.family.n_components,
        "against": large.family.n_components,
        "statistic": observed,
        "p_value": (exceeded + 1) / (resamples + 1),
        "resamples": resamples,
    }

"""Post II: what the decoder's distribution does to one and the same network.

Numbers of one unit share a column: nats per image of 8-bit (or n-level) gray values for the
continuous densities on dequantised pixels and the discretised logistic; binary pixels have their
own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kexue_cli.tasks.vae.cells import Group
from kexue_cli.tasks.vae.numbers import bound_numbers
from kexue_cli.tasks.vae.studies import common

if TYPE_CHECKING:
    from kexue_cli.tasks.vae.task import VaeTask

GAUSSIANS = (
    ("gaussian, sigma = 1 (MSE/2)", "fixed", 1.0),
    ("gaussian, sigma = 0.3", "fixed", 0.3),
    ("gaussian, sigma = 0.1", "fixed", 0.1),
    ("gaussian, one learned sigma", "learned", 1.0),
    ("gaussian, optimal sigma", "optimal", 1.0),
    ("gaussian, sigma per pixel, floor 0.01", "pixel", 1.0),
)


def groups(task: VaeTask) -> list[Group]:
    """One group per decoder; all see the same minibatches."""
    made = [
        _group(task, "bernoulli, binarised pixels", "bernoulli", "dynamic"),
        _group(task, "bernoulli, gray pixels (no likelihood)", "bernoulli", "gray"),
        _group(task, "continuous bernoulli", "continuous_bernoulli", "dequantised"),
    ]
    for name, sigma, value in GAUSSIANS:
        made.append(_group(task, name, "gaussian", "dequantised", sigma=sigma, sigma_value=value))
    made.append(_group(task, "discretised logistic", "discretised_logistic", "gray"))
    return made


def _group(task: VaeTask, name: str, likelihood: str, view: str, **model: Any) -> Group:
    group = common.single(task, {"decoder": name}, task.recipe(), likelihood=likelihood, **model)
    group.protocol = task.protocol_of(likelihood, view)
    return group


def rows(task: VaeTask, split: str) -> list[dict[str, Any]]:
    """Decoder, unit, bound, KL, active units, and the decoder's sigma where it is one number."""
    found = []
    for group in task.bench.groups:
        numbers = bound_numbers(task, group, split)[0]
        likelihood = group.model.likelihood
        sigma = getattr(likelihood, "log_sigma", None)
        shared = sigma is not None and likelihood.how != "pixel"
        found.append(
            {
                **group.cells[0],
                "unit": _unit(group),
                "neg_elbo": numbers[group.protocol.name("neg_elbo")],
                "kl": numbers["kl"],
                "active_units": numbers["active_units"],
                "sigma": f"{float(sigma.exp()):.4f}" if shared and sigma is not None else "",
            }
        )
    return found


def _unit(group: Group) -> str:
    if not group.protocol.is_likelihood:
        return "gray cross-entropy + KL: no likelihood"
    if group.protocol.view == "dequantised" or group.protocol.suffix == "discrete":
        return "nats of gray levels"
    return f"nats of binary pixels, {group.protocol.suffix}"

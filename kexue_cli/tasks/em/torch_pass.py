"""The same pass as the compiled kernel in whole-slice torch operations: GPUs, many components."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch

from kexue_cli.tasks.em.natural import Natural, Statistics
from kexue_cli.tasks.em.rows import Mode, Rows


def torch_step(
    natural: Natural, device: str, dtype: Literal["float64", "float32"]
) -> Callable[[Rows, Mode, np.ndarray], Statistics]:
    """A function from a slice of rows (and its random numbers) to its sums."""
    number = torch.float32 if dtype == "float32" else torch.float64

    def moved(array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(array, device=device, dtype=number)

    constant, linear = moved(natural.constant), moved(natural.linear)
    quadratic = None if natural.quadratic is None else moved(natural.quadratic)
    restarts, components, columns = natural.linear.shape

    def step(rows: Rows, mode: Mode, noise: np.ndarray) -> Statistics:
        y = moved(rows.centred())
        logits = _log_joint(y, constant, linear, quadratic).view(-1, restarts, components)
        r, marginal, entropy = _posterior(logits, mode, rows.labels, moved(noise))
        if rows.weights is not None:
            weight = moved(rows.weights)
            r = r * weight[:, None, None]
            marginal, entropy = marginal * weight[:, None], entropy * weight[:, None]
        return Statistics(
            _sum64(r).cpu().numpy(),
            _restored((r.flatten(1).T @ y).view(restarts, components, columns)),
            None if quadratic is None else _restored(_second(y, r, quadratic)),
            _restored(_sum64(marginal)),
            _restored(_sum64(entropy)),
        )

    return step


def _sum64(values: torch.Tensor) -> torch.Tensor:
    return values.sum(0) if values.device.type == "mps" else values.sum(0, dtype=torch.float64)


def _restored(values: torch.Tensor) -> np.ndarray:
    return values.cpu().numpy().astype(np.float64)


def _log_joint(
    y: torch.Tensor, constant: torch.Tensor, linear: torch.Tensor, quadratic: torch.Tensor | None
) -> torch.Tensor:
    """(rows, restarts * components)."""
    logits = torch.addmm(constant.flatten(), y, linear.flatten(0, 1).T)
    if quadratic is None:
        return logits
    if quadratic.ndim == 2:
        return logits + (y * y).sum(1, keepdim=True) * quadratic.flatten()
    if quadratic.ndim == 3:
        return logits.addmm_(y * y, quadratic.flatten(0, 1).T)
    for c, matrix in enumerate(quadratic.flatten(0, 1)):
        logits[:, c] += ((y @ matrix) * y).sum(1)
    return logits


def _posterior(
    logits: torch.Tensor, mode: Mode, labels: np.ndarray | None, noise: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Responsibilities (rows, R, K), log p(y) (rows, R), entropies (rows, R)."""
    marginal = torch.logsumexp(logits, dim=2)
    r = torch.softmax(logits, dim=2)
    entropy = marginal - (r * logits.clamp_min(-1e30)).sum(2)
    if mode == "hard":
        marginal, chosen = logits.max(2)
        r, entropy = _one_hot(chosen, logits), torch.zeros_like(marginal)
    elif mode == "stochastic":
        passed = torch.cumsum(r, 2) < noise[:, :, None]
        chosen = passed.sum(2).clamp_max(logits.shape[2] - 1)
        r, entropy = _one_hot(chosen, logits), torch.zeros_like(marginal)
    if labels is not None:
        label = torch.as_tensor(labels, device=logits.device)
        known = (label >= 0)[:, None]
        chosen = label.clamp_min(0)[:, None].expand(-1, logits.shape[1])
        r = torch.where(known[:, :, None], _one_hot(chosen, logits), r)
        at_label = logits.gather(2, chosen[:, :, None])[..., 0]
        marginal = torch.where(known, at_label, marginal)
        entropy = torch.where(known, torch.zeros_like(entropy), entropy)
    return r, marginal, entropy


def _one_hot(chosen: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(logits).scatter_(2, chosen[:, :, None], 1.0)


def _second(y: torch.Tensor, r: torch.Tensor, quadratic: torch.Tensor) -> torch.Tensor:
    flat = r.flatten(1)  # (rows, restarts * components)
    if quadratic.ndim == 2:
        return (flat.T @ (y * y).sum(1)).view(quadratic.shape)
    if quadratic.ndim == 3:
        return (flat.T @ (y * y)).view(quadratic.shape)
    columns = flat.unbind(1)
    return torch.stack([(y * column[:, None]).T @ y for column in columns]).view(quadratic.shape)

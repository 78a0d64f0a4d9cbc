"""M-steps of the fourteen covariance models of Celeux and Govaert (1995), as mclust names them.

Sigma_k = lambda_k D_k A_k D_k^T: three letters say whether volume lambda, shape A (determinant 1)
and orientation D are Equal over components, Variable, or the Identity. Everything is batched over
restarts: `scatter` W_k = sum of r (y - mean_k)(y - mean_k)^T is (R, K, d, d), of the axis-parallel
models only its diagonal (R, K, d).

Source: Celeux and Govaert, "Gaussian parsimonious clustering models", Pattern Recognition 28, 1995.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

AXIS_PARALLEL = ("EII", "VII", "EEI", "VEI", "EVI", "VVI")
MODELS = (*AXIS_PARALLEL, "EEE", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV", "VVV")
POOLED = ("EII", "EEI", "EEE")  # one covariance for all components: total scatter is enough
ALIASES = {
    "full": "VVV",
    "tied": "EEE",
    "diag": "VVI",
    "diagonal": "VVI",
    "spherical": "VII",
    "E": "EII",
    "V": "VII",
}
INNER_ITERATIONS = 1000
INNER_TOLERANCE = 1e-11  # relative change of the inner objective


def n_covariance_parameters(model: str, components: int, columns: int) -> int:
    """Free parameters of the covariances alone."""
    volume = {"E": 1, "V": components}[model[0]]
    if columns == 1:
        return volume
    shapes = {"I": 0, "E": 1, "V": components}[model[1]]
    turns = {"I": 0, "E": 1, "V": components}[model[2]]
    return volume + shapes * (columns - 1) + turns * columns * (columns - 1) // 2


def covariances(
    model: str, scatter: np.ndarray, count: np.ndarray, orientation: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """The covariances that maximise sum_k -1/2 (n_k log|Sigma_k| + tr(W_k Sigma_k^-1)).

    Args:
        model: one of MODELS.
        scatter: W_k, (R, K, d, d), or (R, K, d) for the axis-parallel models.
        count: n_k, (R, K), all above 0.
        orientation: (R, d, d), where EVE and VVE start; the axes of the pooled scatter by default.

    Returns:
        (R, K, d, d) or (R, K, d), and the common orientation of EVE and VVE, else None.
    """
    if model in ("EVE", "VVE"):
        return _common_orientation(model, scatter, count, orientation)
    return _M_STEPS[model](scatter, count), None


def _normalised(diagonal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split positive (..., d) into its geometric mean (..., 1) and a rest of product 1."""
    mean = np.exp(np.log(diagonal).mean(axis=-1, keepdims=True))
    return mean, diagonal / mean


def _settled(new: np.ndarray, old: np.ndarray) -> bool:
    return bool(np.all(np.abs(new - old) <= INNER_TOLERANCE * np.abs(new)))


def _eii(scatter: np.ndarray, count: np.ndarray) -> np.ndarray:
    volume = scatter.sum(axis=(1, 2)) / (count.sum(axis=1) * scatter.shape[2])
    return np.broadcast_to(volume[:, None, None], scatter.shape).copy()


def _vii(scatter: np.ndarray, count: np.ndarray) -> np.ndarray:
    volume = scatter.mean(axis=2) / count
    return np.broadcast_to(volume[:, :, None], scatter.shape).copy()


def _eei(scatter: np.ndarray, count: np.ndarray) -> np.ndarray:
    pooled = scatter.sum(axis=1) / count.sum(axis=1)[:, None]
    return np.broadcast_to(pooled[:, None], scatter.shape).copy()


def _vvi(scatter: np.ndarray, count: np.ndarray) -> np.ndarray:
    return scatter / count[:, :, None]


def _evi(scatter: np.ndarray, count: np.ndarray) -> np.ndarray:
    size, shape = _normalised(scatter)
    volume = size.sum(axis=1) / count.sum(axis=1)[:, None]
    return volume[:, None] * shape


def _vei(scatter: np.ndarray, count: np.ndarray) -> np.ndarray:
    return _variable_volume_equal_shape(scatter, count)


def _variable_volume_equal_shape(diagonal: np.ndarray, count: np.ndarray) -> np.ndarray:
    """lambda_k B with |B| = 1 by turns; diagonal (R, K, d) in the axes of each component."""
    volume = diagonal.mean(axis=2) / count  # (R, K)
    for _ in range(INNER_ITERATIONS):
        _, shape = _normalised((diagonal / volume[:, :, None]).sum(axis=1))  # (R, d)
        previous = volume
        volume = (diagonal / shape[:, None]).mean(axis=2) / count
        if _settled(volume, previous):
            break
    return volume[:, :, None] * shape[:, None]


def _eee(scatter: np.ndarray, count: np.ndarray) -> np.ndarray:
    pooled = scatter.sum(axis=1) / count.sum(axis=1)[:, None, None]
    return np.broadcast_to(pooled[:, None], scatter.shape).copy()


def _vvv(scatter: np.ndarray, count: np.ndarray) -> np.ndarray:
    return scatter / count[:, :, None, None]


def _geometric_size(matrices: np.ndarray) -> np.ndarray:
    """|W|^(1/d), (...)."""
    return np.exp(np.linalg.slogdet(matrices)[1] / matrices.shape[-1])


def _evv(scatter: np.ndarray, count: np.ndarray) -> np.ndarray:
    size = _geometric_size(scatter)  # (R, K)
    volume = size.sum(axis=1) / count.sum(axis=1)
    return volume[:, None, None, None] * scatter / size[:, :, None, None]


def _vee(scatter: np.ndarray, count: np.ndarray) -> np.ndarray:
    columns = scatter.shape[-1]
    volume = np.trace(scatter, axis1=2, axis2=3) / (columns * count)
    for _ in range(INNER_ITERATIONS):
        pooled = (scatter / volume[:, :, None, None]).sum(axis=1)
        shape = pooled / _geometric_size(pooled)[:, None, None]
        previous = volume
        inverse = np.linalg.inv(shape)
        volume = np.einsum("rkij,rji->rk", scatter, inverse) / (columns * count)
        if _settled(volume, previous):
            break
    return volume[:, :, None, None] * shape[:, None]


def _turned(diagonal: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """D diag D^T."""
    turned: np.ndarray = (axes * diagonal[..., None, :]) @ np.swapaxes(axes, -1, -2)
    return turned


def _eev(scatter: np.ndarray, count: np.ndarray) -> np.ndarray:
    eigenvalues, axes = np.linalg.eigh(scatter)
    pooled = eigenvalues.sum(axis=1) / count.sum(axis=1)[:, None]  # (R, d)
    return _turned(np.broadcast_to(pooled[:, None], eigenvalues.shape), axes)


def _vev(scatter: np.ndarray, count: np.ndarray) -> np.ndarray:
    eigenvalues, axes = np.linalg.eigh(scatter)
    return _turned(_variable_volume_equal_shape(eigenvalues, count), axes)


_M_STEPS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "EII": _eii,
    "VII": _vii,
    "EEI": _eei,
    "VEI": _vei,
    "EVI": _evi,
    "VVI": _vvi,
    "EEE": _eee,
    "VEE": _vee,
    "EEV": _eev,
    "VEV": _vev,
    "EVV": _evv,
    "VVV": _vvv,
}


def _common_orientation(
    model: str, scatter: np.ndarray, count: np.ndarray, orientation: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """EVE and VVE: one set of axes, shapes of their own.

    Given the axes, the variances along them are EVI's or VVI's; given the variances, each pair of
    axes is turned in its plane by the closed-form best angle, as in Flury and Gautschi's algorithm.
    """
    shapes = _evi if model == "EVE" else _vvi
    if orientation is None:
        orientation = np.linalg.eigh(scatter.sum(axis=1))[1]
    axes = orientation.copy()
    variances = np.empty(scatter.shape[:3])
    previous = np.full(len(scatter), np.inf)
    turning = np.arange(len(scatter))  # restarts whose axes still turn
    for _ in range(INNER_ITERATIONS):
        own_scatter, own_count, own_axes = scatter[turning], count[turning], axes[turning]
        along = np.einsum("rji,rkjl,rli->rki", own_axes, own_scatter, own_axes)  # diag(D^T W_k D)
        own = shapes(along, own_count)
        variances[turning] = own
        objective = np.sum(own_count[:, :, None] * np.log(own) + along / own, axis=(1, 2))
        gain = previous[turning] - objective
        previous[turning] = objective
        falling = gain > INNER_TOLERANCE * own_count.sum(axis=1)
        if not falling.any():
            break
        turning = turning[falling]
        axes[turning] = _turned_in_pairs(axes[turning], scatter[turning], variances[turning])
    return _turned(variances, np.broadcast_to(axes[:, None], scatter.shape)), axes


def _turned_in_pairs(axes: np.ndarray, scatter: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Turn each pair of axes once, to minimise sum_k tr(D diag(variances_k)^-1 D^T W_k)."""
    axes = axes.copy()
    precisions = 1.0 / variances  # (R, K, d)
    columns = axes.shape[-1]
    for i in range(columns):
        for j in range(i + 1, columns):
            contrast = precisions[:, :, i] - precisions[:, :, j]
            weighted = np.einsum("rk,rkab->rab", contrast, scatter)
            pair = axes[:, :, [i, j]]  # (R, d, 2)
            in_plane = np.swapaxes(pair, 1, 2) @ weighted @ pair
            turn = np.linalg.eigh(in_plane)[1]  # the lowest direction becomes axis i
            axes[:, :, [i, j]] = pair @ turn
    return axes

"""What a fit leaves behind: parameters for programs and for eyes, restarts, topics."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import numpy as np
import torch

from kexue_cli.run.directory import RunDirectory
from kexue_cli.tasks.em.data import Table


def write(model: Any, table: Table, directory: RunDirectory) -> None:
    """components.csv, restarts.csv and topics.csv where there are some, parameters.safetensors."""
    directory.write_table("components.csv", component_rows(model, table))
    chosen = getattr(model, "chosen", None)
    if chosen is not None:
        directory.write_table("restarts.csv", chosen.restarts)
        _write_covariances(chosen.parameters.get("covariances"), table, directory)
    if hasattr(model, "topic_rows"):
        directory.write_table("topics.csv", model.topic_rows())
    _write_safetensors(model.state_dict(), directory)


def component_rows(model: Any, table: Table) -> list[dict[str, Any]]:
    """One row per component: weight, rows, mean of every column."""
    means = model.means()
    chosen = getattr(model, "chosen", None)
    rows = []
    for k, mean in enumerate(means):
        row: dict[str, Any] = {"component": k}
        if chosen is not None:
            row["weight"] = float(chosen.parameters["weights"][0, k])
            row["expected_rows"] = float(chosen.count[k])
        row |= {
            f"mean_{name}": float(value) for name, value in zip(table.columns, mean, strict=True)
        }
        rows.append(row)
    return rows


def _write_covariances(
    covariances: np.ndarray | None, table: Table, directory: RunDirectory
) -> None:
    """covariances.csv: component, row, one column per column; variances where that is all."""
    if covariances is None:
        return
    rows: list[dict[str, Any]] = []
    for k, found in enumerate(covariances[0]):
        if found.ndim == 1:
            rows.append({"component": k} | dict(zip(table.columns, found.tolist(), strict=True)))
            continue
        for name, line in zip(table.columns, found.tolist(), strict=True):
            rows.append(
                {"component": k, "row": name, **dict(zip(table.columns, line, strict=True))}
            )
    directory.write_table("covariances.csv", rows)


def _write_safetensors(state: dict[str, Any], directory: RunDirectory) -> None:
    """All tensors of a state, flat; left out where the package is not installed."""
    if not directory.writable or importlib.util.find_spec("safetensors") is None:
        return
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        items = value.items() if isinstance(value, dict) else [(name, value)]
        tensors |= {key: v.contiguous() for key, v in items if isinstance(v, torch.Tensor)}
    path = directory.path / "parameters.safetensors"
    unfinished = path.with_suffix(".unfinished")
    save_file(tensors, unfinished)
    os.replace(unfinished, path)

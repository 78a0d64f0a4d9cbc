"""Keys and values of the tokens that were already read."""

from __future__ import annotations

import torch
from torch import Tensor

from kexue_cli.tasks.gpt2.architecture import Architecture


class KeyValueCache:
    """Pre-allocated keys and values, each (layer, row, head, capacity, head width).

    `length` positions are filled; the model moves it on after each call.
    """

    def __init__(
        self,
        arch: Architecture,
        rows: int,
        capacity: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        shape = (arch.layers, rows, arch.heads, capacity, arch.head_width)
        self.keys = torch.empty(shape, dtype=dtype, device=device)
        self.values = torch.empty(shape, dtype=dtype, device=device)
        self.length = 0

    @property
    def capacity(self) -> int:
        """Positions there is room for."""
        return self.keys.shape[3]

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values (row, head, time, head width); return all so far."""
        end = self.length + key.shape[2]
        self.keys[layer, :, :, self.length : end] = key
        self.values[layer, :, :, self.length : end] = value
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def take_rows(self, rows: Tensor) -> None:
        """Keep these rows, in this order, with repeats: beams that were continued."""
        self.keys = _taken(self.keys, rows, self.length)
        self.values = _taken(self.values, rows, self.length)


def _taken(stored: Tensor, rows: Tensor, length: int) -> Tensor:
    layers, _, heads, capacity, width = stored.shape
    taken = stored.new_empty(layers, len(rows), heads, capacity, width)
    taken[:, :, :, :length] = stored[:, rows, :, :length]
    return taken


def bytes_per_token(arch: Architecture, itemsize: int) -> int:
    """Memory of one cached token."""
    return 2 * arch.layers * arch.width * itemsize

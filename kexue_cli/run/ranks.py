"""Data-parallel processes started by torchrun; a single process is rank 0 of 1."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")
COLLECTIVE_TIMEOUT = datetime.timedelta(minutes=30)


class Ranks:
    """Who this process is among its peers, and the sums over all of them."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size

    @property
    def is_main(self) -> bool:
        """The one rank that writes and prints."""
        return self.rank == 0

    def all_reduce_(self, tensor: torch.Tensor, op: str = "sum") -> torch.Tensor:
        """Sum (or "max") a tensor over all ranks, in place; returns it."""
        if self.size > 1:
            dist.all_reduce(tensor, op=dist.ReduceOp.SUM if op == "sum" else dist.ReduceOp.MAX)
        return tensor

    def broadcast_(self, tensor: torch.Tensor) -> torch.Tensor:
        """Give every rank the main rank's tensor, in place; returns it."""
        if self.size > 1:
            dist.broadcast(tensor, src=0)
        return tensor

    def broadcast_object(self, value: T) -> T:
        """Give every rank the main rank's Python value."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gather_objects(self, value: T) -> list[T]:
        """Every rank's Python value, in order of rank, on every rank."""
        if self.size == 1:
            return [value]
        box: list[T | None] = [None] * self.size
        dist.all_gather_object(box, value)
        return [item for item in box if item is not None]

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            dist.barrier()

    def slice(self, n: int) -> slice:
        """This rank's share of n rows: contiguous, sizes differing by at most one."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)


@contextlib.contextmanager
def joined(device_type: str) -> Iterator[Ranks]:
    """Join the other processes if torchrun started this one, and leave them at the end."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        yield Ranks()
        return
    if device_type == "cuda":
        torch.cuda.set_device(local_rank())
    backend = "nccl" if device_type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=COLLECTIVE_TIMEOUT)
    try:
        yield Ranks(int(os.environ["RANK"]), size)
    finally:
        dist.destroy_process_group()


def local_rank() -> int:
    """Number of this process on its own machine."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def is_main_process() -> bool:
    """Whether this process is the one that writes, known before joining."""
    return os.environ.get("RANK", "0") == "0"

"""What a training step will hold in memory, told before anything runs."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from kexue_cli.errors import ConfigError
from kexue_cli.tasks.vae.cells import Group
from kexue_cli.tasks.vae.model import Vae

BACKWARD = 1.5  # gradients on their way, beside what the forward pass has saved


def check(
    groups: list[Group], batch_size: int, pixels: int, classes: int, device: torch.device
) -> None:
    """Refuse k x batch that cannot fit on `device`.

    Raises:
        ConfigError: the need, what is free, and the batch size that would fit.
    """
    free = available_bytes(device)
    needed, rows = 0.0, 0
    for group in groups:
        shared = group.recipe.objective == "prior_sampling"  # draws that all images share
        draws = group.recipe.samples * (1 if shared else batch_size)
        rows += draws * len(group.cells)
        needed += BACKWARD * draws * bytes_per_row(group.model, pixels, classes)
    if free is None or needed <= free:
        return
    fitting = int(batch_size * free / needed / 2)
    if fitting > 0:
        pieces = -(-batch_size // fitting)
        advice = f"Split the batch: task.batch_size={fitting} optim.accumulate={pieces}"
    else:
        samples = max(group.recipe.samples for group in groups)
        fewer = max(1, int(samples * batch_size * free / needed / 2))
        advice = f"Not even one image fits: give task.batch_size=1 and at most {fewer} samples"
    raise ConfigError(
        "task.samples",
        f"{rows} decoder rows per step (samples x batch x models) need about "
        f"{needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free. {advice}",
    )


def bytes_per_row(model: Vae, pixels: int, classes: int) -> float:
    """What one more draw makes the forward pass save for the backward pass, all cells."""
    weight = next(model.parameters())
    x = torch.zeros(1, 1, pixels, device=weight.device)
    labels = torch.zeros(1, 1, classes, device=weight.device) if model.needs_labels else None
    native = model.native
    model.use_native(False).eval()  # the kernels keep less; nothing that learns while training
    saved = [saved_bytes(model, x, labels, k) for k in (1, 9)]
    model.use_native(native).train()
    return (saved[1] - saved[0]) / 8


def saved_bytes(model: Vae, x: Tensor, labels: Tensor | None, k: int) -> int:
    """Of all tensors that autograd keeps, each storage once."""
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.random.fork_rng(), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        kept = model(x, labels, k).log_weights  # alive until counted: no address twice
    del kept
    return sum(sizes.values())


def available_bytes(device: torch.device) -> int | None:
    """Free memory of the device, None where it cannot be known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return None

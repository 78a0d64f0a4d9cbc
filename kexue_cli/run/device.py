"""Where and in which number format a run computes, and why that was chosen."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import Any

import torch
from omegaconf import DictConfig

from kexue_cli.config import Precision
from kexue_cli.errors import ConfigError
from kexue_cli.run.cores import available_cores
from kexue_cli.run.ranks import local_rank

DTYPES = {
    Precision.fp32: torch.float32,
    Precision.bf16: torch.bfloat16,
    Precision.fp16: torch.float16,
}


@dataclass(frozen=True)
class Device:
    """The chosen device; `reason` says in words why it was chosen."""

    torch_device: torch.device
    precision: Precision
    threads: int
    reason: str

    @property
    def type(self) -> str:
        """cpu, cuda or mps."""
        return self.torch_device.type

    @property
    def dtype(self) -> torch.dtype:
        """The format of the heavy arithmetic."""
        return DTYPES[self.precision]

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Run matrix products in the chosen format; nothing to do for float32."""
        if self.precision is Precision.fp32:
            return contextlib.nullcontext()
        return torch.autocast(self.type, dtype=self.dtype)

    def describe(self) -> dict[str, Any]:
        """What run.json keeps."""
        name = torch.cuda.get_device_name(self.torch_device) if self.type == "cuda" else self.type
        return {
            "device": str(self.torch_device),
            "device_name": name,
            "precision": self.precision.name,
            "threads": self.threads,
        }


def choose(cfg: DictConfig, bf16_on_cpu: bool = False, saved_threads: int | None = None) -> Device:
    """Pick device, precision and threads, and set torch up for them.

    `bf16_on_cpu` is the task's word that bfloat16 scores the same there; `saved_threads` is the
    number a run that is being resumed had, since sums depend on it in their last bits.

    Raises:
        ConfigError: a device that does not exist here, or a precision it does not have.
    """
    torch_device, device_reason = _choose_device(str(cfg.device.name))
    precision, precision_reason = _choose_precision(cfg.precision, torch_device, bf16_on_cpu)
    threads, threads_reason = _choose_threads(cfg.device.threads or saved_threads)
    torch.set_num_threads(threads)
    _set_determinism(bool(cfg.device.deterministic), bool(cfg.device.compile))
    reason = "; ".join(part for part in (device_reason, precision_reason, threads_reason) if part)
    return Device(torch_device, precision, threads, reason)


def _choose_device(name: str) -> tuple[torch.device, str]:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", local_rank()), "CUDA is there"
        if torch.backends.mps.is_available():
            return torch.device("mps"), "Apple's GPU is there"
        return torch.device("cpu"), "no GPU is there"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise ConfigError("device.name", f"expected auto, cpu, cuda, cuda:N or mps, found {name!r}")
    if kind == "cuda":
        count = torch.cuda.device_count()
        number = int(index) if index else local_rank()
        if number >= count:
            raise ConfigError(
                "device", f"{name!r} asked for, but torch sees {count} CUDA devices. Use device=cpu"
            )
        return torch.device("cuda", number), ""
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device", "'mps' asked for, but there is none here. Use device=cpu")
    return torch.device(kind), ""


def _choose_precision(
    asked: Precision, device: torch.device, bf16_on_cpu: bool
) -> tuple[Precision, str]:
    if asked is Precision.fp16 and device.type == "cpu":
        raise ConfigError("precision", "fp16 needs a GPU; on the CPU use fp32 or bf16")
    if asked is Precision.bf16 and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise ConfigError("precision", "this GPU has no bf16; use fp16 or fp32")
    if asked is not Precision.auto:
        return asked, ""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return Precision.bf16, "bf16 since the GPU has it"
    if device.type == "cpu" and bf16_on_cpu and cpu_has_bf16():
        return Precision.bf16, "bf16 since the processor multiplies it natively"
    return Precision.fp32, ""


def cpu_has_bf16() -> bool:
    """Whether the processor has bfloat16 products (AVX512-BF16 or AMX)."""
    capabilities = torch.backends.cpu.get_cpu_capability()
    if capabilities not in ("AVX512", "AVX512_BF16", "AVX512_VNNI", "AMX"):
        return False
    return bool(torch.cpu._is_avx512_bf16_supported())


def _choose_threads(asked: int | None) -> tuple[int, str]:
    """Idle cores: threads that wait for a busy core are slower than fewer threads."""
    if asked:
        return asked, ""
    cores = available_cores()
    if "OMP_NUM_THREADS" in os.environ:
        return torch.get_num_threads(), "threads by OMP_NUM_THREADS"
    busy = round(os.getloadavg()[0]) if hasattr(os, "getloadavg") else 0
    local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    threads = max(1, (cores - min(busy, cores - 1)) // local_processes)
    if threads < cores:
        return threads, f"{threads} of {cores} cores were idle (device.threads={cores} for all)"
    return threads, ""


def _set_determinism(deterministic: bool, compiles: bool) -> None:
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if compiles:  # tells the compiler, too, whose import takes longer than all the rest of torch
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
    else:
        torch.set_deterministic_debug_mode("warn" if deterministic else "default")
    # filling what will be overwritten is a second pass over every buffer
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic

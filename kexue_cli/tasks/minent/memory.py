"""How much memory there is and how much this process takes."""

from __future__ import annotations

import os
from pathlib import Path

from kexue_cli.errors import ConfigError

MIB = 1 << 20
# Beyond what the process takes before it counts: compiled code (75 MiB), what is left of choosing
# a threshold on a sample (up to 50), the smallest buffers (17).
LEAST_MIB = 144
MARGIN_MIB = 16  # of the advice, at least: another run of the program takes a little more or less


def resident_mib() -> int:
    """Memory that this process holds now, MiB (0 where the system does not tell)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // MIB


def available_mib() -> int | None:
    """Memory that programs can still get, MiB: of the machine and of the container's limit."""
    limits = [_machine_mib(), _container_mib()]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


def _machine_mib() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields["MemAvailable"].split()[0]) >> 10 if "MemAvailable" in fields else None


def _container_mib() -> int | None:
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
    except (OSError, ValueError):
        return None
    return None if limit == "max" else max(0, int(limit) - used) // MIB


def check_memory(memory_mib: int, key: str = "model.memory_mib") -> None:
    """Whether one can count n-grams within the user's `memory_mib`; asked once, before counting.

    Raises ConfigError where more is asked than there is, or too little to work with.
    """
    available, resident = available_mib(), resident_mib()
    if available is not None and memory_mib > available + resident:
        raise ConfigError(
            key, f"{memory_mib} MiB asked, {available + resident} MiB are there; ask for less"
        )
    least = resident + LEAST_MIB
    if memory_mib < least:
        advised = -(-(least + MARGIN_MIB) // MARGIN_MIB) * MARGIN_MIB
        raise ConfigError(
            key,
            f"{memory_mib} MiB asked, the program alone takes {resident} MiB and counting with it "
            f"{LEAST_MIB} MiB more; give {advised} or more",
        )


def working_mib(memory_mib: int) -> int:
    """What is left of `memory_mib` for buffers after what the process holds now."""
    return max(0, memory_mib - resident_mib())

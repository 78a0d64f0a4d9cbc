"""How much is counted at a time, so that a process stays within the memory it was given."""

from __future__ import annotations

from dataclasses import dataclass

from kexue_cli.run.cores import available_cores
from kexue_cli.tasks.minent.memory import MIB, working_mib
from kexue_cli.tasks.minent.ngram_runs import RECORD_BYTES

BYTES_PER_SYMBOL = 36  # symbols (4), keys and room to sort them (16), a run (12), waste
RESERVE_MIB = 88  # the compiled code and what loads it, a block of text being decoded
MERGE_COPIES = 5  # of a range: as read, two levels of the tree of merges, handed on, waste
LEAST_JOB, LEAST_MERGE = 1 << 16, 1 << 14
JOB_IN_MEMORY = 1 << 20  # symbols: fresh memory costs more than merging a few more runs
MERGE_IN_MEMORY = 1 << 17  # records: they stay in the second-level cache
LEAST_ROOM = LEAST_JOB * BYTES_PER_SYMBOL + LEAST_MERGE * MERGE_COPIES * RECORD_BYTES  # of a job
LEAST_BUFFER = 1 << 12  # records
BYTES_PER_RECORD = 14  # of a run in memory; a line's end is a symbol, too


@dataclass(frozen=True)
class CountPlan:
    """How much is counted at a time.

    workers        threads that sort
    job_symbols    symbols of one sort
    memory_bytes   runs that are kept in memory; when they take more, all go to disk
    merge_records  records of one merge step
    buffer_bytes   what is read at a time of all runs on disk together
    """

    workers: int
    job_symbols: int
    memory_bytes: int
    merge_records: int
    buffer_bytes: int

    @staticmethod
    def within(memory_mib: int, workers: int | None, symbols: int) -> CountPlan:
        """A plan for about `symbols` symbols that stays within `memory_mib` in all.

        It has the smallest buffers where the process has come to hold more than that already.
        """
        room = max(working_mib(memory_mib) - RESERVE_MIB, RESERVE_MIB // 4) * MIB
        workers = min(workers or available_cores(), max(1, room // LEAST_ROOM - 2))
        jobs = workers + 2  # one is being filled, one waits, while the others are sorted
        merge_records = room // 2 // (jobs * MERGE_COPIES * RECORD_BYTES)
        if symbols * BYTES_PER_RECORD > room // 2:  # sorted runs as long as can be, on disk
            job_symbols, memory_bytes = room // (jobs * BYTES_PER_SYMBOL), 0
        else:
            job_symbols = min(room // 2 // (jobs * BYTES_PER_SYMBOL), symbols // workers + 1)
            job_symbols, memory_bytes = min(job_symbols, JOB_IN_MEMORY), room // 2
            merge_records = min(merge_records, MERGE_IN_MEMORY)
        return CountPlan(
            workers, max(job_symbols, LEAST_JOB), memory_bytes, max(merge_records, LEAST_MERGE),
            room // 4,
        )  # fmt: skip

    def buffer_records(self, runs: int) -> int:
        """Records that are read at a time from each of so many runs on disk."""
        return max(self.buffer_bytes // (RECORD_BYTES * max(1, runs)), LEAST_BUFFER)

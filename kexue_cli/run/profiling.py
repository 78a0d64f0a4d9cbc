"""profile=true: where the time of a training goes, by torch operation and by Python function."""

from __future__ import annotations

import contextlib
import cProfile
import io
import pstats
from collections.abc import Iterator

import torch
from torch.profiler import ProfilerActivity

from kexue_cli.run.context import Context

ROWS = 30


@contextlib.contextmanager
def profiled(ctx: Context) -> Iterator[None]:
    """Profile the body if the configuration asks for it; limit.steps keeps the trace small.

    Writes profile/trace.json (open it in ui.perfetto.dev), profile/operations.txt, and
    profile/python.txt, which also tells about tasks that do not use torch.
    """
    if not ctx.cfg.profile or not ctx.ranks.is_main:
        yield
        return
    activities = [ProfilerActivity.CPU]
    if ctx.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    python = cProfile.Profile()
    with torch.profiler.profile(activities=activities, profile_memory=True) as operations, python:
        yield
    folder = ctx.directory.path / "profile"
    folder.mkdir(exist_ok=True)
    operations.export_chrome_trace(str(folder / "trace.json"))
    by = "self_cuda_time_total" if ctx.device.type == "cuda" else "self_cpu_time_total"
    table = operations.key_averages().table(sort_by=by, row_limit=ROWS)
    ctx.directory.write_text("profile/operations.txt", table)
    ctx.directory.write_text("profile/python.txt", _slowest(python))
    ctx.console.say(f"profile: {folder}")


def _slowest(python: cProfile.Profile) -> str:
    out = io.StringIO()
    pstats.Stats(python, stream=out).sort_stats("tottime").print_stats(ROWS)
    return out.getvalue()

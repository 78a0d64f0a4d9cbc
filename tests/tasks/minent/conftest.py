"""What tests of this room share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kexue_cli.tasks.minent import memory

FRESH_PROCESS_MIB = 400


@pytest.fixture(autouse=True)
def _fresh_process() -> Iterator[None]:
    """Memory limits count what the process holds; here that is what other rooms' tests left."""
    resident_mib = memory.resident_mib
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "resident_mib", lambda: min(resident_mib(), FRESH_PROCESS_MIB))
        yield

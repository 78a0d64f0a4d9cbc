"""Ctrl-C and SIGTERM: stop at the next safe place, with a whole checkpoint."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from kexue_cli.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopFlag:
    """Set by a signal. Outside `deferred()` a signal raises Interrupted at once; inside it only
    sets the flag, which loops poll where they can save. A second signal always raises.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._deferred = 0

    @property
    def requested(self) -> bool:
        """Whether somebody asked the run to stop."""
        return self.signal_number is not None

    def request(self, signal_number: int) -> None:
        """Ask the run to stop, as a signal does (another rank received one)."""
        self.signal_number = self.signal_number or signal_number

    def raise_if_requested(self) -> None:
        """Raise Interrupted if a stop was asked for."""
        if self.signal_number is not None:
            raise Interrupted(self.signal_number)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Within this, a first signal only sets the flag."""
        self._deferred += 1
        try:
            yield
        finally:
            self._deferred -= 1

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals in here; the former handlers come back afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former: dict[signal.Signals, Any] = {s: signal.getsignal(s) for s in SIGNALS}
        for number in SIGNALS:
            signal.signal(number, self._handle)
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        second = self.requested
        self.request(number)
        if second or not self._deferred:
            raise Interrupted(number)

"""Errors that a user can mend; they are shown without a traceback."""

from __future__ import annotations


class UserError(Exception):
    """Bad input: the message names the file or key, what was expected, what was found, a remedy."""


class ConfigError(UserError):
    """A bad configuration value; `key` is its dotted path as typed on the command line."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}")
        self.key = key


class Interrupted(Exception):
    """The user or the system asked the run to stop; the last checkpoint is whole.

    `signal_number` is the signal that asked (2 for Ctrl-C, 15 for SIGTERM).
    """

    def __init__(self, signal_number: int = 2) -> None:
        super().__init__(f"stopped by signal {signal_number}")
        self.signal_number = signal_number

"""What can be wrong with what the notifier is given.

NotificationError
├── SilenceError      a silence, or an acknowledgement, that can't be obeyed
└── StateError        entries of the notifier's state that it did not write
"""

from dataclasses import dataclass


class NotificationError(Exception):
    """Anything of this package."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with what was given, where, and what would be right."""

    where: str
    message: str


class SilenceError(NotificationError):
    """A silence, or an acknowledgement, that can't be obeyed; `faults` says why, one by one."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join(f"{fault.where}: {fault.message}" for fault in faults))
        self.faults = faults


class StateError(NotificationError):
    """Entries of the notifier's state that it did not write."""

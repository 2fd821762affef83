"""One part that runs under supervision, and how it is."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from infra.process import Child

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
STEADY_AFTER = 30.0
"""A part that has run so many seconds had a good start; what ends it then is a new trouble."""
FAILURES_TOLD = 5


class State(StrEnum):
    """In the order a part goes through them."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    FAILING = "keeps failing"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass
class Part:
    """A process to keep running.

    `prepare` checks what it needs and returns the process to start; `ready` tells whether it serves.
    Both block, and are called in a thread. `start_within` is how many seconds it may show no progress
    before it serves, `grace` how many it gets to stop by itself. `health` is the port on which it says how
    it is, if it does.
    `storage` parts hold data, and get a moment to close it even when everything is in a hurry.
    """

    name: str
    about: str
    prepare: Callable[[], Child]
    ready: Callable[[], bool]
    start_within: float = 60.0
    grace: float = 10.0
    storage: bool = False
    health: int | None = None
    state: State = State.WAITING
    detail: str = ""
    failures: int = 0
    child: Child | None = None
    since: float = field(default_factory=time.monotonic)

    def enter(self, state: State, detail: str = "") -> None:
        self.state, self.detail, self.since = state, detail, time.monotonic()

    @property
    def running(self) -> bool:
        return self.child is not None and self.child.running


def pause_after(failures: int) -> float:
    """Seconds to wait before the next start: twice as long each time."""
    return float(min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (failures - 1)))


def failures_after(failures: int, ran: float) -> int:
    """The count of failures in a row, when the part has ended once more after `ran` seconds."""
    return 1 if ran >= STEADY_AFTER else failures + 1

"""Ends a task of a running part from inside, and looks what becomes of the part."""

import re
import time
from dataclasses import dataclass
from typing import Final

from tests.end_to_end.stack import wait_until
from tests.liveness.stack import Listed, Part

BACK_WITHIN_S: Final = 60.0
_LONG_LIVED_S: Final = 5.0
_LOOK_EVERY_S: Final = 0.1
_LATE_S: Final = 8.0
"""Within so long a part has noticed that a task has ended."""
_STARTED_WITHIN_S: Final = 180.0
_REASON: Final = re.compile(r"CRITICAL \S+: \w+ ends: .+")


@dataclass(frozen=True)
class Outcome:
    """What became of a part when one of its tasks was ended."""

    task: Listed
    how: str
    said: str | None
    """The last line of its log; None when it went on by itself."""
    gives_reason: bool
    back_after_s: float
    """Until it was in its groups again and had worked off what was published after the end."""

    @property
    def well(self) -> bool:
        """Whether it was back in time, and ended with its reason if it ended."""
        return self.gives_reason and self.back_after_s <= BACK_WITHIN_S

    def __str__(self) -> str:
        what = f"ended: {self.said}" if self.said is not None else "went on"
        sign = "ok " if self.well else "BAD"
        took = f"back after {self.back_after_s:.1f} s"
        return f"{sign} {self.how:6} {self.task.kind} ({self.task.name}): {took}; {what}"


def long_lived(part: Part) -> list[Listed]:
    """The tasks that live for longer than a few seconds."""
    first = {task.id for task in part.tasks()}
    time.sleep(_LONG_LIVED_S)  # what lives on is what is asked for
    return [task for task in part.tasks() if task.id in first]


def one_of_each_kind(tasks: list[Listed]) -> list[Listed]:
    """The first task of each kind."""
    return sorted({task.kind: task for task in reversed(tasks)}.values(), key=lambda task: task.kind)


def works(part: Part) -> None:
    """Returns when the part has worked off something new; fails when that takes minutes."""
    ends = part.feed()
    wait_until(f"{part.name} works", lambda: part.has_done(ends), _STARTED_WITHIN_S)


def ended(part: Part, task: Listed, how: str) -> Outcome | None:
    """Ends the task, starts the part again if that ends it, and waits until it works. None when the task
    could not be ended so."""
    if not part.end(task, how):
        return None
    begun = time.monotonic()
    ends = part.feed()
    said: str | None = None
    gives_reason = True
    looked_again = False
    while time.monotonic() < begun + 3 * BACK_WITHIN_S:
        if not part.child.running:
            said = part.child.tail(1)
            gives_reason = gives_reason and _REASON.search(said) is not None
            part.child.start()
        elif part.has_done(ends):
            if said is not None or looked_again:
                return Outcome(task, how, said, gives_reason, time.monotonic() - begun)
            if time.monotonic() > begun + _LATE_S:  # it goes on, or has not noticed yet
                ends, looked_again = part.feed(), True
        time.sleep(_LOOK_EVERY_S)
    return Outcome(task, how, said, gives_reason, time.monotonic() - begun)

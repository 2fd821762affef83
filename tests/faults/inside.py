"""Faults inside a part: what ends it, with a reason in its log, and has it started again."""

import re
import time

from tests.faults import part as points
from tests.faults.process import End
from tests.faults.registry import fault
from tests.faults.scene import Course, Scene, Until
from tests.faults.schedule import EVERYTHING
from tests.liveness.part import CANCEL, WAYS

_NEEDED = ("Fetcher._fetch_requests_routine", "GroupCoordinator._coordination_routine", "Sink._report")
"""Tasks that live as long as their part, which can't do without them."""
_NOTICED_WITHIN_S = 10.0
_REASON = re.compile(r"CRITICAL \S+: \w+ ends: .+")


def _reason(end: End) -> str:
    """The last line of its log. AssertionError if that is none."""
    last = (end.said.splitlines() or [""])[-1]
    assert _REASON.search(last), f"{end.name} ended with status {end.status} and gave no reason: {last}"
    return last


@fault("task-ended", EVERYTHING, within_s=60, either=True)
def _(scene: Scene) -> Course:
    """A task that a part needs is cancelled from inside, or what it waits for fails."""
    process, known = scene.process, len(scene.stack.ended)
    found = yield from scene.asking(process, {"do": "list"})
    tasks = [task for task in found if task["kind"].partition(":")[2] in _NEEDED]
    assert tasks, f"{process.name} has none of the tasks {_NEEDED}: {found}"
    task, how = scene.chance.choice(tasks), scene.chance.choice(WAYS)
    if not (yield from scene.asking(process, {"do": "end", "task": task["id"], "how": how})):
        how = CANCEL  # what it waits for can't be made to fail
        yield from scene.asking(process, {"do": "end", "task": task["id"], "how": how})
    late = time.monotonic() + _NOTICED_WITHIN_S
    yield Until("it has noticed", lambda: bool(scene.ended(process, known)) or time.monotonic() > late)
    end = scene.ended(process, known)
    scene.notes.append(f"{how} {task['kind']}: {'went on' if end is None else _reason(end)}")
    yield from scene.recovered()


@fault("part-stalled", EVERYTHING, within_s=60, either=True)
def _(scene: Scene) -> Course:
    """A step of a part waits for ever, with work there: the part ends itself."""
    process, known = scene.process, len(scene.stack.ended)
    process.arm(points.IN_A_STEP)
    yield from scene.reaching(process, points.IN_A_STEP)
    yield Until(f"{process.name} ends itself", lambda: bool(scene.ended(process, known)))
    end = scene.ended(process, known)
    assert end is not None
    reason = _reason(end)
    assert "ends: stalled: " in reason, reason
    scene.notes.append(reason)
    yield from scene.recovered()

"""Runs a part of the product, by its own command line, so that it can be stopped at a chosen point.

    python part.py DIRECTORY worker rollup

The harness arms a point by making a file of its name in DIRECTORY. When the process comes by, it takes
the file away, leaves its process id in `<point>.reached`, and stops itself (SIGSTOP): there it can be
killed, or left until its sessions have ended and then continued. Armed with the word `raise`, it raises.
Points that are not armed cost a look for a file, and change nothing. At `in-a-step` a step waits for ever
instead, and the watchdog of that process has less patience.

Its tasks can be listed and ended too, as in `tests.liveness.part`.
"""

import asyncio
import functools
import inspect
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.liveness.part import listen

BEFORE_INSERT = "before-insert"
AFTER_INSERT = "after-insert"
AFTER_COMMIT = "after-commit"
BEFORE_WRITE = "before-write"
BEFORE_ACKNOWLEDGING = "before-acknowledging"
IN_RECOVERY = "in-recovery"
IN_THE_BODY = "in-the-body"
IN_A_STEP = "in-a-step"
RAISE = "raise"
STALLED_AFTER_S = 5.0
"""Seconds without progress, in place of CHATGAUGE_LIVENESS_STALL_AFTER, once a step waits for ever."""


class DeliberateError(Exception):
    """What an armed point raises."""


class Points:
    """The points of one process."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def reach(self, name: str) -> str | None:
        """The word that the point is armed with, which it then no longer is; None if it isn't armed."""
        armed = self._directory / name
        try:
            word = armed.read_text(encoding="utf-8")
            armed.unlink()
        except FileNotFoundError:
            return None
        reached = self._directory / f"{name}.reached"
        reached.with_suffix(".new").write_text(str(os.getpid()), encoding="utf-8")
        reached.with_suffix(".new").rename(reached)
        return word

    def pass_by(self, name: str) -> None:
        """Go on; or stop, if the point is armed."""
        word = self.reach(name)
        if word is None:
            return
        if word == RAISE:
            raise DeliberateError(name)
        os.kill(os.getpid(), signal.SIGSTOP)


def around(
    owner: Any,
    method: str,
    *,
    before: Callable[..., None] = lambda *_: None,
    after: Callable[..., None] = lambda *_: None,
) -> None:
    """Have a method of the product pass by points, called with its arguments."""
    original = getattr(owner, method)

    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def awaited(*args: Any, **kwargs: Any) -> Any:
            before(*args)
            result = await original(*args, **kwargs)
            after(*args)
            return result

        setattr(owner, method, awaited)
        return

    @functools.wraps(original)
    def called(*args: Any, **kwargs: Any) -> Any:
        before(*args)
        result = original(*args, **kwargs)
        after(*args)
        return result

    setattr(owner, method, called)


def stalling(owner: Any, method: str, points: Points) -> None:
    """Have a step of the product, an `async` method, wait for ever if that is armed."""
    from infra.liveness.watchdog import Watchdog

    original, watchdogs = getattr(owner, method), list[Watchdog]()

    @functools.wraps(original)
    async def step(*args: Any, **kwargs: Any) -> Any:
        if points.reach(IN_A_STEP) is not None:
            for watchdog in watchdogs:
                watchdog._stall_after = STALLED_AFTER_S
            await asyncio.Event().wait()
        return await original(*args, **kwargs)

    setattr(owner, method, step)
    around(Watchdog, "start", before=watchdogs.append)


def in_a_sink(points: Points) -> None:
    """Of the events of requests alone; any step of a sink stalls."""
    from schemas.topics import REQUESTS
    from sinks.consumer import TopicConsumer
    from sinks.insert import Store
    from sinks.sink import Sink

    def of_events(name: str) -> Callable[..., None]:
        return lambda _, insert, *__: points.pass_by(name) if insert.table == "events" else None

    def of_requests(consumer: TopicConsumer, *_: object) -> None:
        if consumer._topic is REQUESTS:
            points.pass_by(AFTER_COMMIT)

    around(Store, "insert", before=of_events(BEFORE_INSERT), after=of_events(AFTER_INSERT))
    around(TopicConsumer, "commit", after=of_requests)
    stalling(Sink, "_write_all", points)


def in_a_worker(points: Points) -> None:
    """In the midst of a step, and of a recovery."""
    from schemas.topics import REQUESTS
    from streams.counting.agent import Counting
    from streams.runtime.changelog import Changelog
    from streams.runtime.transport import BatchConsumer

    def of_requests(_: object, message: Any) -> None:
        if message.topic == REQUESTS.name:
            points.pass_by(BEFORE_ACKNOWLEDGING)

    around(Counting, "step", before=lambda *_: points.pass_by(IN_THE_BODY))
    around(Changelog, "write", before=lambda *_: points.pass_by(BEFORE_WRITE))
    around(BatchConsumer, "ack", before=of_requests)
    around(Changelog, "recover", after=lambda *_: points.pass_by(IN_RECOVERY))
    stalling(Counting, "step", points)


def in_deliveries(points: Points) -> None:
    """Of the delivery agent, not of the notifier beside it."""
    from schemas.topics import OUTBOX
    from streams.deliveries.agent import DeliveryAgent
    from streams.runtime.changelog import Changelog

    def of_outbox(changelog: Changelog, *_: object) -> None:
        if changelog.topic == OUTBOX.name:
            points.pass_by(BEFORE_WRITE)

    around(Changelog, "write", before=of_outbox)
    stalling(DeliveryAgent, "step", points)


_POINTS = {"rollup": in_a_worker, "usage": in_a_worker, "deliveries": in_deliveries, "sink": in_a_sink}


def main() -> None:
    directory, *arguments = sys.argv[1:]
    points = Points(Path(directory))
    _POINTS[arguments[1] if arguments[0] == "worker" else arguments[0]](points)
    listen(Path(directory))
    sys.argv = ["chatgauge", *arguments]

    from cli.main import main as chatgauge

    chatgauge()


if __name__ == "__main__":
    main()

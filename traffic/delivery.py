"""Sending messages when they are due, or as fast as Kafka takes them."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from traffic.messages import Messages
from traffic.publish import Publisher

_TICK = 0.02
"""Seconds between two rounds: what falls due in between is sent at once."""


@dataclass(frozen=True)
class Pace:
    """`speed` seconds of the messages' time pass in one second, from `since_us` on (microseconds)."""

    since_us: int
    speed: float = 1.0


@dataclass
class Tally:
    """What was sent so far."""

    kinds: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    behind: float = 0.0
    """By how many seconds the last messages were sent after they were due."""

    @property
    def messages(self) -> int:
        return self.kinds.total()


async def deliver(
    blocks: Iterable[list[Messages]],
    publisher: Publisher,
    pace: Pace | None,
    stop: asyncio.Event,
    on_sent: Callable[[Tally], None] = lambda tally: None,
) -> Tally:
    """Sends the messages of one block after the other until all are sent or `stop` is set.

    With a pace, each is sent when it is due, and never before; without one, at once. Raises
    KafkaUnavailableError.
    """
    tally = Tally()
    began = time.monotonic()
    for block in blocks:
        if stop.is_set():
            break
        if pace is None:
            for part in block:
                await _send(publisher, part, tally)
            await asyncio.sleep(0)  # lets the producer's own task run
            tally.seconds = time.monotonic() - began
            on_sent(tally)
        else:
            await _deliver_due(block, publisher, pace, began, stop, tally, on_sent)
    await publisher.flush()
    tally.seconds = time.monotonic() - began
    return tally


async def _deliver_due(
    block: list[Messages],
    publisher: Publisher,
    pace: Pace,
    began: float,
    stop: asyncio.Event,
    tally: Tally,
    on_sent: Callable[[Tally], None],
) -> None:
    rest = [part for part in block if len(part)]
    while rest and not stop.is_set():
        next_us = min(int(part.due_us[0]) for part in rest)
        wait = began + (next_us - pace.since_us) / 1e6 / pace.speed - time.monotonic()
        tally.behind = max(0.0, -wait - _TICK)
        if await _stopped_within(stop, max(_TICK, wait)):
            return
        now_us = pace.since_us + int((time.monotonic() - began) * pace.speed * 1e6)
        for place, part in enumerate(rest):
            due = int(np.searchsorted(part.due_us, now_us, side="right"))
            await _send(publisher, part[:due], tally)
            rest[place] = part[due:]
        rest = [part for part in rest if len(part)]
        tally.seconds = time.monotonic() - began
        on_sent(tally)


async def _send(publisher: Publisher, part: Messages, tally: Tally) -> None:
    if len(part):
        await publisher.send(part.topic, part.keys, part.values)
        tally.kinds.update(part.kinds)


async def _stopped_within(stop: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return False
    return True

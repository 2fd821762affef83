"""Events on their way, held in a bounded number of bytes; what doesn't fit is counted."""

import threading
from collections import deque
from dataclasses import dataclass
from sys import getsizeof
from typing import Any

from chatgauge.transport import TOPICS, EncodedMessage

# The queues' slots, the charge, and later the EncodedMessage with its two headers of bytes.
_ENTRY_BYTES = 200


def held_bytes(record: dict[str, Any]) -> int:
    """What an event holds of memory: the dict, its values, and its place in the queue.

    Once encoded it holds less; the charge stays until it has left, so the bound is never exceeded.
    """
    total = _ENTRY_BYTES + getsizeof(record)
    for value in record.values():
        total += getsizeof(value)
        if type(value) is list:
            total += sum(map(getsizeof, value))
    return total


@dataclass(frozen=True)
class Stats:
    """What became of the events of this process so far.

    Always, `offered == queued + sent + failed + dropped`: every event is in exactly one of them.
    """

    offered: int = 0
    """Measured: starts and finishes of requests and spans, and samples."""
    queued: int = 0
    """Waiting, or under way."""
    sent: int = 0
    """Acknowledged by Kafka."""
    failed: int = 0
    """Given up: Kafka will never take them, or they could not be encoded."""
    dropped: int = 0
    """Not taken, because the buffer was full or closed, or still unacknowledged when it was closed."""
    buffered_bytes: int = 0
    """Memory held by the events queued."""
    invalid: int = 0
    """Arguments that could not be used. The events went without them."""
    dropped_attributes: int = 0
    """Attributes left out: not allowed, too many, too long."""


class Lane:
    """The events of one topic, in order: first noted, then encoded and under way."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        # Dicts of plain values are nothing to the garbage collector; pairs with dicts in them would be,
        # and tens of thousands of those would cost the service a long pause now and then.
        self.noted: deque[dict[str, Any]] = deque()
        self.charges: deque[int] = deque()
        self.under_way: list[EncodedMessage] = []
        self.accepted = 0
        self.settled = 0
        self.retry_at = 0.0
        """Not to be tried before, by the monotonic clock. The sending thread's, as is `pause`."""
        self.pause = 0.0
        """Seconds between the last two attempts."""

    @property
    def waiting(self) -> int:
        """Events accepted and neither delivered nor given up."""
        return self.accepted - self.settled


class Buffer:
    """The lanes, what they hold together, and the counts of what became of it all.

    `offer` is for any thread and holds the lock for a few instructions only; taking events out is
    for the sending thread. The lock can be taken again by the thread that has it: a signal handler
    may interrupt `offer`, and call it.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.reset()

    def reset(self) -> None:
        """Empty, all counts 0: a new process."""
        self._lock = threading.RLock()
        self.lanes = {topic: Lane(topic) for topic in TOPICS}
        self._bytes = 0
        self._offered = 0
        self._sent = 0
        self._failed = 0
        self._dropped = 0
        self._reported = 0
        self._own = 0
        self._shut = False
        self._given_up = False

    def offer(self, topic: str, record: dict[str, Any]) -> bool:
        """Take an event, or count it as dropped when there is no room. The record is the buffer's now."""
        charge = held_bytes(record)
        with self._lock:
            self._offered += 1
            if self._shut or self._bytes + charge > self.limit_bytes:
                self._dropped += 1
                return False
            self._bytes += charge
            lane = self.lanes[topic]
            lane.accepted += 1
            lane.noted.append(record)
            lane.charges.append(charge)
            return True

    def take(self, lane: Lane) -> tuple[dict[str, Any], int] | None:
        """The lane's oldest event that is not yet under way, and its charge. Sending thread only."""
        with self._lock:
            return (lane.noted.popleft(), lane.charges.popleft()) if lane.noted else None

    def admit(self, message: EncodedMessage) -> None:
        """Put a message of the library's own under way, room or not."""
        with self._lock:
            self._own += 1
            lane = self.lanes[message.topic]
            lane.accepted += 1
            lane.under_way.append(message)

    def settle(self, lane: Lane, *, charge: int, sent: int = 0, failed: int = 0, own: int = 0) -> None:
        """Events of the lane are done with and give `charge` bytes back; `own` ones are not counted."""
        with self._lock:
            if self._given_up:
                return
            self._bytes -= charge
            self._sent += sent
            self._failed += failed
            self._own -= own
            lane.settled += sent + failed + own

    @property
    def crowded(self) -> bool:
        """More than half full: time to be quick."""
        return 2 * self._bytes > self.limit_bytes

    def unreported_drops(self) -> int:
        """How many events were dropped since this was last asked."""
        with self._lock:
            fresh = self._dropped - self._reported
            self._reported = self._dropped
            return fresh

    def shut(self) -> None:
        """Take nothing more."""
        with self._lock:
            self._shut = True

    def give_up(self) -> int:
        """Let go of what still waits; it counts as dropped. Returns how many events that were."""
        with self._lock:
            self._shut = True
            left = self._waiting()
            self._given_up = True
            self._own = 0
            self._dropped += left
            self._bytes = 0
            for lane in self.lanes.values():
                lane.noted.clear()
                lane.charges.clear()
                lane.settled = lane.accepted
            return left

    def stats(self) -> Stats:
        """The counts, all of one moment."""
        with self._lock:
            return Stats(
                offered=self._offered,
                queued=self._waiting(),
                sent=self._sent,
                failed=self._failed,
                dropped=self._dropped,
                buffered_bytes=self._bytes,
            )

    def _waiting(self) -> int:
        return sum(lane.waiting for lane in self.lanes.values()) - self._own

"""What requests, spans and samples share: where events go, what may be in them, and the clocks."""

import time
from collections.abc import Callable
from typing import Any

from chatgauge.arguments import AttributeList
from chatgauge.buffer import Buffer
from chatgauge.failures import FailureTypes
from chatgauge.notices import Notices
from chatgauge.sender import DROPPED, Sender

FAULT = "a measurement failed inside the library"


class Recorder:
    """Takes events off the caller's hands. No method raises, and none waits."""

    __slots__ = ("_buffer", "_sender", "attributes", "failures", "notices", "ticks_ns", "wall_ns")

    def __init__(
        self,
        buffer: Buffer,
        sender: Sender,
        attributes: AttributeList,
        failures: FailureTypes,
        notices: Notices,
        *,
        ticks_ns: Callable[[], int] = time.perf_counter_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._buffer = buffer
        self._sender = sender
        self.attributes = attributes
        self.failures = failures
        self.notices = notices
        self.ticks_ns = ticks_ns
        self.wall_ns = wall_ns

    def note(self, topic: str, record: dict[str, Any]) -> None:
        """Queue an event; when there is no room it is dropped, and counted."""
        if not self._buffer.offer(topic, record):
            self.notices.count(DROPPED)
        self._sender.nudge()

    def fault(self, error: Exception) -> None:
        """Count an error of the library's own, instead of handing it to the chat."""
        self.notices.count(FAULT, type(error).__name__)

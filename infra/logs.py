"""How the parts log: to standard error, with time and place, and without repeating themselves."""

import logging
import time
from collections.abc import Callable
from typing import Final

_CLIENT: Final = (
    "aiokafka",
    "aiokafka.cluster",
    "aiokafka.conn",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.group_coordinator",
    "aiokafka.producer.sender",
)
_EVERY_S: Final = 10.0
_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class NoRepetition(logging.Filter):
    """Lets a message of a kind pass once in `every_s` seconds, and says then how many did not.

    A kind is a message before its arguments are filled in, of a logger and a level.
    """

    def __init__(self, every_s: float = _EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every_s = every_s
        self._clock = clock
        self._passed: dict[tuple[str, int, str], float] = {}
        self._held: dict[tuple[str, int, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record passes."""
        kind, now = (record.name, record.levelno, str(record.msg)), self._clock()
        if now - self._passed.get(kind, -self._every_s) < self._every_s:
            self._held[kind] = self._held.get(kind, 0) + 1
            return False
        self._passed[kind] = now
        if held := self._held.pop(kind, 0):
            record.msg, record.args = f"{record.getMessage()} (and {held:,} like it before)", ()
        return True


def begin() -> None:
    """Log to standard error. Kafka's client says each thing once in ten seconds: while Kafka is away it
    would do so a hundred times in one."""
    logging.basicConfig(level=logging.INFO, format=_FORMAT)
    once = NoRepetition()
    for name in _CLIENT:
        logging.getLogger(name).addFilter(once)

"""The fetches of an application's source, taken in order and without a hole."""

import logging
from typing import cast

import faust
from faust.types import TP

from streams.runtime import metrics
from streams.runtime.continuity import Continuity, Verdict
from streams.runtime.transport import BatchConsumer

log = logging.getLogger(__name__)


class Following:
    """Says which fetches are to be taken; if one got lost, it and those behind it are fetched again.

    `name` is what the metrics call the application.
    """

    def __init__(self, app: faust.App, name: str) -> None:
        self._app = app
        self._name = name
        self._continuities: dict[TP, Continuity] = {}

    def begin_anew(self) -> None:
        """The partitions are sought anew: what comes next is where each begins."""
        self._continuities = {}

    async def takes(self, tp: TP, first: int, last: int) -> bool:
        """Whether the fetch of these offsets is to be taken."""
        consumer = cast("BatchConsumer", self._app.consumer)
        continuity = self._continuities.get(tp)
        if continuity is None:
            begin = consumer.begun_at(tp)
            if begin is None:
                return False  # fetched before a rebalance that is not over; it comes again
            continuity = self._continuities[tp] = Continuity(begin)
        verdict = continuity.judge(first, last)
        if verdict is Verdict.REWIND:
            expected = continuity.expected
            log.warning("%s: a fetch before offset %d got lost; from %d again", tp, first, expected)
            metrics.REWINDS.labels(self._name).inc()
            await consumer.seek(tp, expected)
        return verdict is Verdict.TAKE

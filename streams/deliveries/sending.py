"""Makes the attempts, each in a task of its own, and records what came of them at once.

A process that is killed between an answer and its durable record makes that attempt again. So nothing comes
between them: the entry is written first, then the log.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from schemas import topics
from schemas.time import SECOND, Micros, clock
from streams.deliveries import metrics
from streams.deliveries.bodies import Bodies
from streams.deliveries.channel import Channel, Response
from streams.deliveries.concurrency_limit import ConcurrencyLimit
from streams.deliveries.delivery import Delivery
from streams.deliveries.errors import BodyGoneError
from streams.deliveries.outbox import Conclusion, Outbox
from streams.deliveries.outcome import Outcome, Verdict
from streams.endpoints.endpoint import Endpoint
from streams.runtime.errors import MovedError
from streams.runtime.ledger import Ledger

log = logging.getLogger(__name__)

_GRACE_S: Final = 2.0
"""A channel keeps to the endpoint's timeout by itself; after so much more it is given up."""


class _Flight(NamedTuple):
    task: asyncio.Task[None]
    attempt: int


class Sending:
    """Of one worker. It works while it has an outbox: from `take_over` to `pause`, any number of times."""

    def __init__(
        self,
        channels: Mapping[str, Channel],
        bodies: Bodies,
        ledger: Ledger,
        limit: ConcurrencyLimit | None = None,
    ) -> None:
        self._channels = channels
        self._bodies = bodies
        self._ledger = ledger
        self._limit = limit or ConcurrencyLimit()
        self._outbox: Outbox | None = None
        self._working = asyncio.Event()
        self._wake = asyncio.Event()
        self._flights: dict[int, _Flight] = {}
        self._stopping = False
        self._failure: BaseException | None = None
        self._dispatching = asyncio.create_task(self._dispatch())
        self._dispatching.add_done_callback(self._ended)

    @property
    def limit(self) -> int:
        """How many attempts may be begun lately, or be answered and not recorded."""
        return self._limit.limit

    @property
    def under_way(self) -> dict[int, int]:
        """The number of the attempt of each delivery that one is being made for, by digest."""
        return {digest: flight.attempt for digest, flight in self._flights.items()}

    def take_over(self, outbox: Outbox) -> None:
        """These are the deliveries by now. Attempts for others, that belong elsewhere, are broken off."""
        self._outbox = outbox
        for digest, flight in self._flights.items():
            if outbox.find(digest) is None:
                flight.task.cancel()
        self._working.set()
        self._wake.set()

    def pause(self) -> None:
        """Begin nothing, and write nothing; what is under way goes on, and waits with its result."""
        self._working.clear()

    def wake(self) -> None:
        """Something has come, or changed."""
        self._wake.set()

    def check(self) -> None:
        """Raises what has gone wrong in a task."""
        if self._failure is not None:
            raise self._failure

    async def record(self, outbox: Outbox, conclusions: Sequence[Conclusion]) -> None:
        """Make them durable, and tell the log. Raises MovedError when they are others' by now."""
        by_partition: dict[int, dict[bytes, bytes | None]] = {}
        for each in conclusions:
            by_partition.setdefault(each.delivery.partition, {})[each.delivery.key] = each.entry
        for partition, entries in by_partition.items():
            await self._ledger.write(partition, entries)
        await self.tell(outbox, conclusions)

    async def tell(self, outbox: Outbox, conclusions: Sequence[Conclusion]) -> None:
        """They are durable: tell the log."""
        now = clock()
        for each in conclusions:
            outbox.settled(each, now)
            if each.over:
                self._bodies.drop((each.delivery.partition, each.delivery.offset))
            metrics.ATTEMPTS.labels(each.record["channel"] or "unknown", each.record["outcome"]).inc()
        self._wake.set()
        await self._ledger.send(
            topics.DELIVERIES, [(each.delivery.endpoint_id, each.record) for each in conclusions]
        )
        for each in conclusions:
            outbox.logged(each)
        self._wake.set()

    async def stop(self, patience_s: float) -> None:
        """Begin nothing more, and wait for what is under way, for so long at most."""
        self._stopping = True
        flights = [flight.task for flight in self._flights.values()]
        if flights and self._working.is_set():
            log.info("waiting for %d attempts under way", len(flights))
            await asyncio.wait(flights, timeout=patience_s)
        left = [task for task in [*flights, self._dispatching] if not task.done()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _dispatch(self) -> None:
        while True:
            self._wake.clear()
            at: Micros | None = None
            now = clock()
            outbox = self._outbox
            if outbox is not None and self._working.is_set() and not self._stopping:
                for delivery in outbox.begin(now, *self._limit.room(now)):
                    self._limit.begun(delivery.digest, now)
                    self._begin(outbox, delivery)
                at = outbox.next_at()
                if outbox.behind or (at is not None and at <= now):
                    at = min(each for each in (self._limit.room_at(), at, sys.maxsize) if each and each > now)
            wait = None if at is None or at == sys.maxsize else max(0.0, (at - now) / SECOND)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()

    def _begin(self, outbox: Outbox, delivery: Delivery) -> None:
        endpoint = outbox.queues[delivery.endpoint_id].target.endpoint
        if endpoint is None:
            raise RuntimeError(f"an attempt was begun at {delivery.endpoint_id}, which is no endpoint")
        number = delivery.attempts + 1
        task = asyncio.create_task(self._attempt(delivery, endpoint, number))
        flight = self._flights[delivery.digest] = _Flight(task, number)

        def landed(_: asyncio.Task[None]) -> None:
            if self._flights.get(delivery.digest) is flight:
                del self._flights[delivery.digest]
                self._limit.gone(delivery.digest)
            self._ended(task)

        task.add_done_callback(landed)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._failure or error

    async def _attempt(self, delivery: Delivery, endpoint: Endpoint, number: int) -> None:
        started = clock()
        response = await self._try(delivery, endpoint, number, started)
        ended = clock()
        self._limit.answered(delivery.digest)
        metrics.ATTEMPT_SECONDS.labels(endpoint.channel).observe((ended - started) / SECOND)
        while True:
            await self._working.wait()
            outbox = self._outbox
            current = outbox.find(delivery.digest) if outbox is not None else None
            if outbox is None or current is None or current.attempts + 1 != number:
                return  # the partition has moved, or what was written before it did has been read back
            conclusion = outbox.conclude(current, endpoint.channel, response, started, ended)
            with contextlib.suppress(MovedError):
                await self._ledger.write(current.partition, {current.key: conclusion.entry})
                self._observe(conclusion, ended)
                await self.tell(outbox, [conclusion])
            if self._outbox is outbox and self._working.is_set():
                return

    def _observe(self, conclusion: Conclusion, ended: Micros) -> None:
        record, delivery = conclusion.record, conclusion.delivery
        now = clock()
        self._limit.recorded(delivery.digest, now - ended, now)
        metrics.RECORD_SECONDS.observe((now - ended) / SECOND)
        if record["outcome"] == Outcome.DELIVERED and delivery.attempts == 1 and not delivery.redriven:
            waited = (ended - delivery.created_at) / SECOND
            metrics.DELIVERED_AFTER.labels(record["channel"]).observe(max(0.0, waited))

    async def _try(self, delivery: Delivery, endpoint: Endpoint, number: int, now: Micros) -> Response:
        channel = self._channels.get(endpoint.channel)
        if channel is None:
            return Response(Verdict.REFUSED, error=f"this worker has no channel «{endpoint.channel}»")
        try:
            notification = await self._bodies.get((delivery.partition, delivery.offset))
        except BodyGoneError as gone:
            return Response(Verdict.REJECTED, error=str(gone))
        try:
            async with asyncio.timeout(endpoint.timeout + _GRACE_S):
                return await channel.send(endpoint, notification, number, now / SECOND)
        except TimeoutError:
            return Response(Verdict.FAILED, error=f"no answer within {endpoint.timeout:g} s")
        except Exception as error:
            log.exception("%s: the channel %s failed", endpoint.id, endpoint.channel)
            return Response(Verdict.FAILED, error=f"{type(error).__name__}: {error}")

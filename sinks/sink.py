"""One topic's way from Kafka to ClickHouse, step by step."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Final

from infra.settings import SinkSettings
from schemas.errors import RegistryUnavailableError
from schemas.topics import Topic
from sinks.consumer import TopicConsumer
from sinks.insert import Abandoned, Store
from sinks.letters import DeadLetterBox, Unsent
from sinks.metrics import SinkMetrics
from sinks.writer import Fetch, Insert, Step, Tenure, Writer

_GRACE_S: Final = 8.0
"""How long an insert may still take when the sink stops or the partition goes to another."""
_REGISTRY_PAUSE_S: Final = 2.0
_LAG_EVERY_S: Final = 5.0
_LOG: Final = logging.getLogger(__name__)


class Sink:
    """Runs the steps of one topic.

    A step:

    1. records are gathered, from all partitions, for `linger` or until there are many;
    2. the writer turns them into inserts and dead letters, while the step before is still written;
    3. the dead letters are sent, and acknowledged by Kafka;
    4. the inserts are made, one block each, in the order of the offsets, as often as it takes;
       partitions side by side;
    5. the offsets are committed.

    Killed before 4, a step is done again, and its dead letters, sent twice, are one row in the end.
    Killed before 5, ClickHouse says how far it came. At most one step waits while another is written:
    when ClickHouse is away, memory stays flat and the lag grows.
    """

    def __init__(
        self,
        topic: Topic,
        writer: Writer,
        *,
        bootstrap: str,
        store: Store,
        box: DeadLetterBox,
        metrics: SinkMetrics,
        settings: SinkSettings,
    ) -> None:
        self._topic = topic
        self._writer = writer
        self._store = store
        self._box = box
        self._metrics = metrics
        self._settings = settings
        self._giving_up = asyncio.Event()
        self._stopping = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self._consumer = TopicConsumer(
            topic, bootstrap, metrics, stored_offset=self._stored_offset, before_leaving=self._wind_up
        )

    async def run(self, stopping: asyncio.Event) -> None:
        """Until `stopping` is set. Raises a SinkError when a person has to act."""
        self._stopping = stopping
        await self._consumer.start()
        reporter = asyncio.create_task(self._report())
        try:
            await self._steps()
        finally:
            self._giving_up.set()
            reporter.cancel()
            await asyncio.gather(reporter, *filter(None, [self._writing]), return_exceptions=True)
            await self._consumer.stop()

    async def _steps(self) -> None:
        waiting: Step | None = None
        while not self._stopping.is_set():
            if self._consumer.has_unplaced:
                if not await self._settled():
                    break
                await self._place()
            fetches = await self._consumer.gather(
                self._settings.linger.total_seconds(), self._settings.max_rows, self._stopping
            )
            waiting = await self._taken(fetches)
            if not await self._settled():
                break
            self._write(waiting)
            waiting = None
        await self._finish(waiting)

    async def _finish(self, waiting: Step | None) -> None:
        """Writes what is taken and what was held back, if ClickHouse takes it soon; else gives up."""
        if await self._ends_soon():
            self._write(waiting)
            if await self._ends_soon():
                self._write(await self._taken([], last=True))
                await self._ends_soon()
        self._giving_up.set()
        if self._writing is not None:
            await self._writing

    def _write(self, step: Step | None) -> None:
        if step is not None:
            self._writing = asyncio.create_task(self._carry_out(step))

    async def _settled(self) -> bool:
        """Waits until nothing is being written; False when told to stop before that."""
        if self._writing is not None:
            told = asyncio.create_task(self._stopping.wait())
            await asyncio.wait({self._writing, told}, return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
        return self._has_ended()

    async def _ends_soon(self) -> bool:
        await self._wind_up()
        return self._has_ended()

    def _has_ended(self) -> bool:
        """Whether nothing is being written. Raises what the step that was written raised."""
        if self._writing is None:
            return True
        if not self._writing.done():
            return False
        ended, self._writing = self._writing, None
        ended.result()
        return True

    async def _place(self) -> None:
        try:
            await self._consumer.place()
        except Abandoned:
            _LOG.info("%s: the partition went away before it was placed", self._topic.name)

    async def _stored_offset(self, tenure: Tenure) -> int | None:
        if not self._writer.stores_every_offset:
            return None
        return await self._store.highest_offset(
            self._writer.table, tenure.partition, lambda: not self._stopping.is_set() and self._holds(tenure)
        )

    async def _taken(self, fetches: Sequence[Fetch], *, last: bool = False) -> Step | None:
        if not fetches and self._writer.stores_every_offset:
            return None
        while True:
            try:
                return await asyncio.to_thread(
                    self._writer.take, fetches, self._consumer.held, time.monotonic(), last=last
                )
            except RegistryUnavailableError as error:
                if self._stopping.is_set():
                    return None
                _LOG.warning("%s: %s; reading the batch again", self._topic.name, error)
                await asyncio.sleep(_REGISTRY_PAUSE_S)

    async def _carry_out(self, step: Step) -> None:
        try:
            await self._box.send(step.letters, lambda: not self._giving_up.is_set())
        except Unsent:
            return
        in_order: dict[Tenure | None, list[Insert]] = {}
        for insert in step.inserts:
            in_order.setdefault(insert.tenure, []).append(insert)
        made = await asyncio.gather(*map(self._insert, in_order.values()), return_exceptions=True)
        for outcome in made:
            if isinstance(outcome, BaseException):
                raise outcome
        if all(made):
            await self._consumer.commit(step.positions)
            self._metrics.last_progress.labels(self._topic.name).set_to_current_time()

    async def _insert(self, inserts: Sequence[Insert]) -> bool:
        """Makes one partition's inserts, one after the other. False when the sink gives up before the end."""
        for insert in inserts:
            try:
                await self._store.insert(insert, lambda insert=insert: self._wants(insert))  # type: ignore[misc]
            except Abandoned:
                self._metrics.abandoned.labels(self._topic.name).inc()
                if self._giving_up.is_set():
                    return False
            else:
                self._metrics.rows.labels(self._topic.name, insert.table).inc(insert.rows.num_rows)
        return True

    def _wants(self, insert: Insert) -> bool:
        return not self._giving_up.is_set() and (insert.tenure is None or self._holds(insert.tenure))

    def _holds(self, tenure: Tenure) -> bool:
        return tenure in self._consumer.held

    async def _wind_up(self) -> None:
        """Lets what is being written end, if it does so soon."""
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=_GRACE_S)

    async def _report(self) -> None:
        while True:
            await self._consumer.report_lag()
            await asyncio.sleep(_LAG_EVERY_S)

"""One topic's way from Kafka to ClickHouse, step by step."""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from aiokafka.errors import KafkaError

from clients.kafka.notes import halted
from clients.retry import GivenUp, retrying
from infra.liveness import Part
from infra.settings import SinkSettings
from infra.tasks import ended
from schemas.errors import RegistryUnavailableError
from schemas.topics import Topic
from sinks.consumer import TopicConsumer
from sinks.dead_letter_producer import DeadLetterProducer, Unsent
from sinks.dlq_limit import WHAT_TO_DO
from sinks.insert import Abandoned, Store
from sinks.metrics import SinkMetrics
from sinks.writer import Assignment, Fetch, Insert, Step, Writer

_GRACE_S: Final = 6.0
"""How long an insert may still take when the sink stops or the partition goes to another."""
_REGISTRY_PAUSE_S: Final = 2.0
_LAG_EVERY_S: Final = 5.0
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Claim:
    """Holds while the partition is this sink's. Rows of no partition may always be written."""

    consumer: TopicConsumer
    assignment: Assignment | None
    giving_up: asyncio.Event

    def wanted(self) -> bool:
        return not self.giving_up.is_set() and (
            self.assignment is None or self.assignment in self.consumer.held
        )

    def is_fresh(self) -> bool:
        return self.wanted() and (self.assignment is None or self.consumer.is_fresh())

    async def confirm(self) -> None:
        if self.assignment is not None:
            await self.consumer.confirm(self.assignment)


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

    A partition of which nearly everything is refused is halted: nothing more of it is read, written,
    dead-lettered or committed until the sink is started again.
    """

    def __init__(
        self,
        topic: Topic,
        writer: Writer,
        *,
        bootstrap: str,
        store: Store,
        box: DeadLetterProducer,
        metrics: SinkMetrics,
        settings: SinkSettings,
        part: Part | None = None,
    ) -> None:
        self._part = part or Part("sink")
        self._unit = self._part.unit(topic.name)
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
            topic,
            bootstrap,
            metrics,
            stored_offset=self._stored_offset,
            before_leaving=self._wind_up,
            unit=self._unit,
        )

    async def run(self, stopping: asyncio.Event) -> None:
        """Until `stopping` is set, and a grace after it. Raises a SinkError when a person has to act."""
        self._stopping = stopping
        aides: list[asyncio.Task[None]] = []
        needed = ExitStack()
        try:
            async with asyncio.timeout(None) as patience:
                hurrying = asyncio.create_task(self._hurry(patience), name=f"{self._topic.name} end")
                needed.callback(self._part.need(hurrying, hurrying.get_name(), may_return=True))
                aides.append(hurrying)
                if await self._started():
                    name = f"the consumer of {self._topic.name}"
                    needed.enter_context(self._part.guarding(name, self._consumer.ended_task))
                    reporting = asyncio.create_task(self._report(), name=f"{self._topic.name} lag")
                    needed.callback(self._part.need(reporting, reporting.get_name()))
                    aides.append(reporting)
                    await self._steps()
        except TimeoutError:
            if not patience.expired():
                raise
            _LOG.warning("%s: what is being written is left to the next start", self._topic.name)
        finally:
            needed.close()
            self._giving_up.set()
            aides += filter(None, [self._writing])
            for task in aides:
                task.cancel()
            await asyncio.gather(*aides, return_exceptions=True)
            await self._consumer.stop()

    def holds(self, partition: int) -> bool:
        """Whether this sink reads the partition now. For any thread."""
        return any(assignment.partition == partition for assignment in self._consumer.held)

    async def _started(self) -> bool:
        """Waits for Kafka. False when told to stop before it answers."""

        def failed(error: Exception, number: int, wait: float) -> None:
            name = self._topic.name
            _LOG.warning("%s: Kafka does not answer yet: %s; attempt %d in %.1f s", name, error, number, wait)

        with self._unit.waiting("Kafka"):
            try:
                await retrying(
                    self._consumer.start,
                    passes=lambda error: isinstance(error, KafkaError),
                    failed=failed,
                    wanted=lambda: not self._stopping.is_set(),
                )
            except GivenUp:
                return False
        return True

    async def _hurry(self, patience: asyncio.Timeout) -> None:
        await self._stopping.wait()
        patience.reschedule(asyncio.get_running_loop().time() + _GRACE_S)

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
            await self._halt(waiting)
            self._write(waiting)
            waiting = None
        await self._finish(waiting)

    async def _finish(self, waiting: Step | None) -> None:
        """Writes what is taken and what was held back, as long as there is patience."""
        await self._ended()
        self._write(waiting)
        await self._ended()
        self._write(await self._taken([], last=True))
        await self._ended()

    async def _ended(self) -> None:
        if self._writing is not None:
            await asyncio.wait([self._writing])
        self._has_ended()

    def _write(self, step: Step | None) -> None:
        if step is not None:
            self._writing = asyncio.create_task(self._carry_out(step))

    async def _settled(self) -> bool:
        """Waits until nothing is being written; False when told to stop before that."""
        if self._writing is not None:
            await ended(self._writing, self._stopping)
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

    async def _halt(self, step: Step | None) -> None:
        if step is None or not step.halts:
            return
        for assignment, halt in step.halts.items():
            _LOG.error("%s: halted: %s %s", self._topic.name, halt.found, WHAT_TO_DO)
            self._consumer.halt(assignment, halted(f"{halt.found} {WHAT_TO_DO}"))
        await self._consumer.make_up()

    async def _place(self) -> None:
        try:
            await self._consumer.place()
        except Abandoned:
            _LOG.info("%s: the partition went away before it was placed", self._topic.name)

    async def _stored_offset(self, assignment: Assignment) -> int | None:
        if not self._writer.stores_every_offset:
            return None
        return await self._store.highest_offset(
            self._writer.table,
            assignment.partition,
            lambda: not self._stopping.is_set() and self._holds(assignment),
            self._unit,
        )

    async def _taken(self, fetches: Sequence[Fetch], *, last: bool = False) -> Step | None:
        if not fetches and self._writer.stores_every_offset:
            return None
        with ExitStack() as outage, self._unit.step("records are read"):
            failed = False
            while True:
                try:
                    return await self._unit.compute(
                        self._writer.take, fetches, self._consumer.held, time.monotonic(), last=last
                    )
                except RegistryUnavailableError as error:
                    if self._stopping.is_set():
                        return None
                    if not failed:
                        outage.enter_context(self._unit.waiting(f"the schema registry: {error}"))
                        failed = True
                    _LOG.warning("%s: %s; reading the batch again", self._topic.name, error)
                    await asyncio.sleep(_REGISTRY_PAUSE_S)

    async def _carry_out(self, step: Step) -> None:
        with self._unit.step("rows are inserted"):
            await self._write_all(step)

    async def _write_all(self, step: Step) -> None:
        try:
            await self._box.send(step.letters, lambda: not self._giving_up.is_set(), self._unit)
        except Unsent:
            return
        in_order: dict[Assignment | None, list[Insert]] = {}
        for insert in step.inserts:
            in_order.setdefault(insert.assignment, []).append(insert)
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
                claim = _Claim(self._consumer, insert.assignment, self._giving_up)
                await self._store.insert(insert, claim, self._unit)
            except Abandoned:
                self._metrics.abandoned.labels(self._topic.name).inc()
                if self._giving_up.is_set():
                    return False
            else:
                self._metrics.rows.labels(self._topic.name, insert.table).inc(insert.rows.num_rows)
        return True

    def _holds(self, assignment: Assignment) -> bool:
        return assignment in self._consumer.held

    async def _wind_up(self) -> None:
        """Lets what is being written end, if it does so soon."""
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=_GRACE_S)

    async def _report(self) -> None:
        while True:
            await self._consumer.report_lag()
            await self._consumer.make_up()
            await asyncio.sleep(_LAG_EVERY_S)

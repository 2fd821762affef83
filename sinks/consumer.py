"""A topic as the sinks read it: where to start, what to fetch, how far it is written."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError, KafkaTimeoutError

from clients.kafka.consumers import high_watermarks, leave, new_consumer
from clients.kafka.fetched import Budget, Fetched, joined, leave_packed
from clients.kafka.tasks import ended_task
from infra.liveness import Unit
from schemas.topics import Topic
from sinks.errors import TopicRecreatedError
from sinks.metrics import SinkMetrics
from sinks.writer import Assignment, Fetch

_LOG: Final = logging.getLogger(__name__)
_POLL_MS: Final = 200
_GLANCE_MS: Final = 20
_WORTH_AN_INSERT: Final = 10_000
_DAY_MS: Final = 24 * 3600 * 1000
_MOST_BYTES: Final = 48 * 1024 * 1024
"""Per step, as fetched. What they unpack to is bounded by the number of records, and batch by batch."""
_PARTITION_BYTES: Final = 16 * 1024 * 1024
_SESSION_S: Final = 15.0
"""After so long without a sign of life, another sink gets the partitions."""
_FRESH_S: Final = 10.0
"""How long a partition is taken as still ours after Kafka has last said so: less than a session."""
_ASK_AGAIN_S: Final = 5.0
_CONFIRMED_WITHIN_S: Final = 5.0
_STARTED_WITHIN_S: Final = 60.0
_ANSWERED_WITHIN_S: Final = 30.0
_ASSIGNMENT: Final = "the group, to say which partitions are ours"
_SETTINGS: Final[Mapping[str, Any]] = {
    "fetch_max_bytes": _MOST_BYTES,
    "max_partition_fetch_bytes": _PARTITION_BYTES,
    # Records gather for a second anyway. A broker that answers as soon as there is one is asked hundreds of
    # times a second, which took half of the sink's CPU.
    "fetch_min_bytes": 1024 * 1024,
    "fetch_max_wait_ms": 200,
    "session_timeout_ms": int(_SESSION_S * 1000),
    "heartbeat_interval_ms": 3_000,
    "rebalance_timeout_ms": 30_000,
    # While ClickHouse is away nothing is polled: leaving the group for that would help nobody.
    "max_poll_interval_ms": _DAY_MS,
}

StoredOffset = Callable[[Assignment], Awaitable[int | None]]
"""The highest offset that ClickHouse has of a partition; None when it has none, or can't say."""


def group_of(topic: Topic) -> str:
    """The consumer group that reads a topic for the sinks."""
    return f"chatgauge-sink-{topic.name}"


class TopicConsumer(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """One topic's consumer. Offsets are committed by hand, after what they stand for is written."""

    def __init__(
        self,
        topic: Topic,
        bootstrap: str,
        metrics: SinkMetrics,
        *,
        stored_offset: StoredOffset,
        before_leaving: Callable[[], Awaitable[None]],
        unit: Unit | None = None,
    ) -> None:
        self._unit = unit or Unit(topic.name)
        self._topic = topic
        self._metrics = metrics
        self._stored_offset = stored_offset
        self._before_leaving = before_leaving
        self._budget = Budget()
        self._consumer = new_consumer(bootstrap, group_id=group_of(topic), **_SETTINGS)
        self._epoch = 0
        self._held: frozenset[Assignment] = frozenset()
        self._unplaced: set[Assignment] = set()
        self._next: dict[Assignment, int] = {}
        self._written: dict[Assignment, int] = {}
        self._committed: dict[Assignment, tuple[int, str]] = {}
        self._halted: dict[Assignment, str] = {}
        self._committing = asyncio.Lock()
        self._confirmed = -math.inf

    @property
    def held(self) -> frozenset[Assignment]:
        """The present assignments."""
        return self._held

    @property
    def has_unplaced(self) -> bool:
        """Whether partitions wait for `place`."""
        return bool(self._unplaced)

    async def start(self) -> None:
        """Joins the group. Raises KafkaError when Kafka does not answer; it may be called again."""
        try:
            async with self._unit.bounded("the connection to Kafka", _STARTED_WITHIN_S):
                await self._consumer.start()
        except TimeoutError as error:
            raise KafkaTimeoutError(str(error)) from error
        self._consumer.subscribe([self._topic.name], listener=self)
        self._unit.wait_for(_ASSIGNMENT)

    def ended_task(self) -> str | None:
        """Which task of the client has ended, and how; for any thread."""
        return ended_task(self._consumer)

    async def stop(self) -> None:
        """Leaves the group, if Kafka answers; else it will notice by itself. Never raises."""
        await leave(self._consumer, self._topic.name)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Gives what is being written the chance to end, before another sink asks how far we came."""
        self._unit.wait_for(_ASSIGNMENT)
        self._unit.starts_anew()
        await self._before_leaving()
        for assignment in self._held:
            self._forget_gauges(assignment)
        self._held = frozenset()
        self._halted.clear()
        self._unit.resumed()
        self._unit.work(False)
        self._unplaced.clear()
        self._next.clear()
        self._written.clear()
        self._committed.clear()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Stops fetching until the new partitions are placed."""
        self._epoch += 1
        self._confirmed = time.monotonic()
        partitions = list(assigned)
        self._consumer.pause(*partitions)
        self._held = frozenset(Assignment(tp.partition, self._epoch) for tp in partitions)
        self._unplaced = set(self._held)
        self._unit.wait_for(None)
        self._tell_started()

    async def place(self) -> None:
        """Seeks each new partition to the first offset that is not yet done with.

        That is past the highest offset stored, or the committed offset where that is greater: retention
        may have emptied the table. Raises TopicRecreatedError when either lies beyond the partition's end.
        """
        for assignment in sorted(self._unplaced, key=lambda assignment: assignment.partition):
            tp = self._tp(assignment)
            stored = await self._stored_offset(assignment)
            if assignment not in self._held:
                return
            try:
                async with self._unit.bounded(f"the offsets of {tp}", _ANSWERED_WITHIN_S):
                    committed = await self._consumer.committed(tp)
                    begin = (await self._consumer.beginning_offsets([tp]))[tp]
                    end = (await high_watermarks(self._consumer, [tp]))[tp]
            except (IllegalStateError, KafkaError, TimeoutError) as error:
                _LOG.info("%s: %s; placing it again", tp, error)
                await asyncio.sleep(_POLL_MS / 1000)
                return
            start = self._start_of(assignment, stored, committed, begin, end)
            if assignment not in self._held:
                return
            self._consumer.seek(tp, start)
            self._consumer.resume(tp)
            self._unplaced.discard(assignment)
            self._next[assignment] = self._written[assignment] = start
        self._tell_started()

    def _tell_started(self) -> None:
        if not self._unplaced:
            self._unit.started()

    def _start_of(
        self, assignment: Assignment, stored: int | None, committed: int | None, begin: int, end: int
    ) -> int:
        reached = max((stored + 1) if stored is not None else 0, committed or 0)
        if reached > end:
            where = f"the consumer group {group_of(self._topic)}"
            if stored is not None and stored + 1 == reached:
                where = "ClickHouse"
            raise TopicRecreatedError(self._topic.name, assignment.partition, end, reached, where)
        if (stored is not None or committed is not None) and reached < begin:
            self._miss(assignment, reached, begin)
        return max(reached, begin)

    async def gather(self, linger: float, most_records: int, stopping: asyncio.Event) -> list[Fetch]:
        """What comes within `linger` seconds, or sooner when that is much; one Fetch per partition, of
        `most_records` at most, or one batch.

        Who has enough for an insert, and finds nothing more at hand, waits no longer.
        """
        until = time.monotonic() + linger
        found: dict[Assignment, list[Fetched]] = {}
        self._budget.fill(most_records, _MOST_BYTES)
        while not (self._budget.is_spent or stopping.is_set()):
            left = until - time.monotonic()
            if left <= 0 or self._unplaced:
                break
            is_worth_it = most_records - self._budget.records >= _WORTH_AN_INSERT
            fetched = await self._poll(min(left * 1000, _GLANCE_MS if is_worth_it else _POLL_MS))
            if not fetched and is_worth_it:
                break
            assignments = {assignment.partition: assignment for assignment in self._held}
            for tp, parts in fetched.items():
                assignment = assignments.get(tp.partition)
                if assignment is None or assignment in self._unplaced or assignment in self._halted:
                    continue
                # Whoever asks for what retention has deleted is sent to where the log begins now. Offsets of
                # no record (compaction, ends of transactions) lie within what is fetched.
                self._miss(assignment, self._next.get(assignment, parts[0].first), parts[0].first)
                found.setdefault(assignment, []).extend(parts)
                self._next[assignment] = parts[-1].next_offset
        if found:
            self._unit.progress()
        fetches = [Fetch(assignment, joined(parts)) for assignment, parts in found.items()]
        self._metrics.records.labels(self._topic.name).inc(sum(fetch.fetched.count for fetch in fetches))
        return fetches

    async def _poll(self, timeout_ms: float) -> dict[TopicPartition, list[Fetched]]:
        try:
            leave_packed(self._consumer, budget=self._budget)
            async with asyncio.timeout(2 * _POLL_MS / 1000 + timeout_ms / 1000):
                fetched: dict[TopicPartition, list[Fetched]] = await self._consumer.getmany(
                    timeout_ms=int(timeout_ms)
                )
                return fetched
        except TimeoutError:  # a rebalance is under way
            return {}
        except KafkaError as error:
            if not error.retriable:
                raise
            _LOG.warning("%s: %s; fetching again", self._topic.name, error)
            return {}

    def _miss(self, assignment: Assignment, expected: int, begin: int) -> None:
        if self._topic.config.get("cleanup.policy") == "delete" and begin > expected:
            self._metrics.missed.labels(self._topic.name).inc(begin - expected)
            _LOG.error(
                "%s/%d: offsets %d to %d were deleted by retention before they could be written",
                self._topic.name,
                assignment.partition,
                expected,
                begin - 1,
            )

    def halt(self, assignment: Assignment, why: str) -> None:
        """Reads no more of the partition. `why` goes with the next commit, for others to see."""
        if assignment in self._next:
            self._consumer.pause(self._tp(assignment))
            self._halted[assignment] = why
            self._unit.halted(assignment.partition, why)
            self._metrics.halted.labels(self._topic.name, str(assignment.partition)).set(1)

    async def commit(self, positions: Mapping[Assignment, int]) -> None:
        """Commits those of the partitions still held. One that fails is made up by `make_up`."""
        self._written.update(
            {assignment: at for assignment, at in positions.items() if assignment in self._held}
        )
        await self.make_up()

    async def make_up(self) -> None:
        """Commits what is written and halted, and not yet committed."""
        async with self._committing:
            wanted = {t: (at, self._halted.get(t, "")) for t, at in self._written.items() if t in self._next}
            fresh = {t: position for t, position in wanted.items() if self._committed.get(t) != position}
            if fresh:
                await self._commit(fresh)

    async def confirm(self, assignment: Assignment) -> None:
        """Returns once Kafka has confirmed that the partition is ours, or when it no longer is."""
        with self._unit.waiting(f"Kafka, to confirm that partition {assignment.partition} is ours"):
            while assignment in self._held and time.monotonic() > self._confirmed + _ASK_AGAIN_S:
                if not await self._asked(assignment):
                    await asyncio.sleep(_POLL_MS / 1000)

    async def _asked(self, assignment: Assignment) -> bool:
        async with self._committing:
            if time.monotonic() <= self._confirmed + _ASK_AGAIN_S:
                return True
            if assignment not in self._written:
                return False
            # A commit is what Kafka refuses to a sink that is no longer of the group.
            position = (self._written[assignment], self._halted.get(assignment, ""))
            try:
                async with asyncio.timeout(_CONFIRMED_WITHIN_S):
                    return await self._commit({assignment: position})
            except TimeoutError:
                return False

    def is_fresh(self) -> bool:
        """Whether Kafka has confirmed a moment ago that the partitions are ours. For any thread."""
        return time.monotonic() < self._confirmed + _FRESH_S

    async def _commit(self, positions: Mapping[Assignment, tuple[int, str]]) -> bool:
        asked = time.monotonic()
        try:
            async with self._unit.bounded("a commit", _ANSWERED_WITHIN_S):
                await self._consumer.commit(
                    {self._tp(assignment): position for assignment, position in positions.items()}
                )
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            self._metrics.commit_failures.labels(self._topic.name).inc()
            _LOG.warning("%s: the commit failed: %s", self._topic.name, error)
            return False
        self._confirmed = asked
        self._committed.update({t: position for t, position in positions.items() if t in self._held})
        return True

    async def report_lag(self) -> None:
        """Sets the lag of every partition held: what lies between what is written and as far as can be read.

        And tells whether records wait that have not been fetched.
        """
        held = self._held
        if not held:
            return
        try:
            async with self._unit.bounded("the end offsets", _ANSWERED_WITHIN_S, progress=False):
                ends = await self._consumer.end_offsets([self._tp(assignment) for assignment in held])
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            _LOG.info("%s: the lag is not known: %s", self._topic.name, error)
            if held == self._held and self._unit.is_started:
                self._unit.wait_for(f"Kafka: {error}")
            return
        if held != self._held or not self._unit.is_started:
            return
        self._unit.wait_for(None)
        for assignment in held:
            written = self._written.get(assignment)
            if written is not None:
                lag = max(0, ends[self._tp(assignment)] - written)
                self._metrics.lag.labels(self._topic.name, str(assignment.partition)).set(lag)
        self._unit.work(
            any([await self._awaits(assignment, ends[self._tp(assignment)]) for assignment in held])
        )

    async def _awaits(self, assignment: Assignment, end: int) -> bool:
        """Whether a partition that is taken has not been fetched to its end: by the position, which passes
        what is no record, such as the end of a transaction."""
        if assignment not in self._next or assignment in self._halted:
            return False
        try:
            async with asyncio.timeout(_POLL_MS / 1000):
                return bool(await self._consumer.position(self._tp(assignment)) < end)
        except (KafkaError, IllegalStateError, TimeoutError):
            return False

    def _forget_gauges(self, assignment: Assignment) -> None:
        for gauge in (self._metrics.lag, self._metrics.halted):
            gauge.remove(self._topic.name, str(assignment.partition))

    def _tp(self, assignment: Assignment) -> TopicPartition:
        return TopicPartition(self._topic.name, assignment.partition)

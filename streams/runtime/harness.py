"""Runs a stateful agent on Faust: a source that is read by the fetch, and a changelog that keeps its state.

An agent takes a fetch in this order, so that what it publishes is published at least once, and published
again it is the same:

1. it evaluates the fetch; what changes is state, and records to be published, which are a part of the state;
2. the entries of the state are written, and durable;
3. the records are published, and durable;
4. the fetch is acknowledged.

Killed before 2, nothing has happened; after it, the records are in the recovered state and published again.
"""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

import faust
from aiokafka.errors import KafkaError
from faust.types import TP, EventT

from clients.kafka.publisher import Message
from clients.retry import GivenUp, retrying
from infra.liveness import Part
from infra.settings import KafkaSettings
from schemas.codec import Codec
from schemas.contract import schema
from schemas.time import SECOND, Micros, clock
from schemas.topics import Topic
from streams.runtime import application, metrics
from streams.runtime.agent import Agent, OwnPace, Wiring
from streams.runtime.application import Acknowledge, attend, broker_urls, give_up, new_app
from streams.runtime.changelog import Changelog
from streams.runtime.consumer_thread import Batching
from streams.runtime.entries import Claim, SupersededError
from streams.runtime.errors import LogUnavailableError, MovedError
from streams.runtime.fetch import Fetch
from streams.runtime.following import Following
from streams.runtime.ledger import State, readable
from streams.runtime.publisher import PatientPublisher
from streams.runtime.table import ChangelogTable, add_table
from streams.runtime.topic_log import TopicLog
from streams.runtime.transport import BatchConsumer, BatchTransport

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_WATCH_EVERY: Final[Micros] = 10 * SECOND
"""How often a changelog is looked at for writes of others."""
_ENDS_WITHIN_S: Final = 30.0


@dataclass
class _Taken:
    """How far a partition that is ours has been read."""

    through: int
    committed: int = 0
    unacknowledged: deque[tuple[EventT[Any], Acknowledge]] = field(default_factory=deque)


class Harness:
    """One agent's partitions: which are ours, how far each is committed and taken. The agent's `Worker`."""

    def __init__(
        self,
        app: faust.App,
        agent: Agent | OwnPace,
        wiring: Wiring,
        table: ChangelogTable,
        bootstrap: str,
        part: Part,
    ) -> None:
        self._app = app
        self._agent = cast("Agent", agent)
        self._wiring = wiring
        self._part = part
        self._unit = table.unit = part.unit(wiring.name)
        self._unassigned = ExitStack()
        self._await_assignment()
        self._publisher = PatientPublisher(bootstrap, self._unit)
        self._changelog = table.changelog = Changelog(
            TopicLog(bootstrap, wiring.state, self._publisher, end=self._end_of, put_claim=self._put_claim)
        )
        self._codecs: dict[str, Codec] = {}
        self._taken: dict[int, _Taken] = {}
        self._following = Following(app, wiring.name)
        self._one_at_a_time = asyncio.Lock()
        self._begun = False
        self._watched_at: Micros = 0
        self._superseded: set[int] = set()

    async def expect(self, assigned: frozenset[int]) -> set[int]:
        """Partitions of the source are assigned; those of the changelog that have to be read whole."""
        self.forget()
        self._unassigned.close()
        places = {TP(self._wiring.source.name, partition) for partition in assigned}
        notes = await self._consumer.committed_notes(places)
        return self._changelog.expect({tp.partition: Claim.read(notes.get(tp, "")) for tp in places})

    async def restore(self) -> None:
        """Own the assigned partitions, and take up their state from the recovered changelog."""
        source = self._wiring.source.name
        async with self._one_at_a_time:
            if not self._begun:
                self._begun = True
                with self._unit.waiting(f"what {self._wiring.name} has to know to begin"):
                    await self._agent.begin(self)
            mine = sorted(tp.partition for tp in self._consumer.assignment() if tp.topic == source)
            if not await self._take_all_over(mine):
                return
            states = {partition: self._readable(partition) for partition in mine}
            self._taken = {
                partition: _Taken(max((state.offset for state in entries.values()), default=-1))
                for partition, entries in states.items()
            }
            metrics.KEPT_ENTRIES.labels(self._changelog.topic).set(len(self._changelog))
            self._agent.restore(states, clock())
            with contextlib.suppress(MovedError):
                await self._agent.resume(self)
            self._unit.started()

    async def _take_all_over(self, partitions: Sequence[int]) -> bool:
        """Whether they are ours now. If not, another rebalance is under way, and we are asked again."""
        try:
            async with asyncio.TaskGroup() as taking:
                for partition in partitions:
                    taking.create_task(self._take_over(partition))
        except* (MovedError, GivenUp) as errors:
            log.info("%s: %s; another rebalance is under way", self._wiring.name, errors.exceptions[0])
        return all(map(self._changelog.owns, partitions))

    async def _take_over(self, partition: int) -> None:
        generation = self._app.consumer_generation_id

        def failed(error: Exception, number: int, wait: float) -> None:
            where = f"{self._changelog.topic}/{partition}"
            log.warning("%s is not taken over yet: %s; attempt %d in %.1f s", where, error, number, wait)

        with self._unit.waiting(f"Kafka, to take over {self._changelog.topic}/{partition}"):
            await retrying(
                lambda: self._changelog.take_over(partition),
                passes=lambda error: isinstance(error, LogUnavailableError),
                failed=failed,
                wanted=lambda: self._app.consumer_generation_id == generation,
            )

    def _readable(self, partition: int) -> dict[bytes, State]:
        entries = self._changelog.entries(partition)
        return readable(self._wiring.format, self._changelog.topic, partition, entries)

    def reading_from(self, tp: TP, committed: int) -> int:
        """From which offset on a partition of the source is read, of which `committed` is acknowledged."""
        taken = self._taken.get(tp.partition)
        if taken is None:
            return committed
        taken.committed = committed
        return self._agent.reading_from(tp.partition, committed)

    def forget(self) -> None:
        """The partitions are going away."""
        self._await_assignment()
        self._following.begin_anew()
        self._superseded.clear()
        self._changelog.release()
        self._taken.clear()
        self._agent.forget()

    async def step(self, event: EventT[Any], acknowledge: Acknowledge) -> None:
        """Take one fetch, unless it is of no concern any more: its partition has moved."""
        message = event.message
        async with self._one_at_a_time:
            taken = self._taken.get(message.partition)
            if taken is None or message.generation_id != self._app.consumer_generation_id:
                return
            fetch = cast("Fetch", message.value)
            if not await self._following.takes(message.tp, fetch.first, message.offset):
                return
            taken.through = max(taken.through, message.offset)
            if message.offset >= taken.committed:
                taken.unacknowledged.append((event, acknowledge))
            with contextlib.suppress(MovedError), self._unit.step(f"a step of {message.tp}"):
                await self._agent.step(message.partition, fetch, taken.committed, self)
                if not self._wiring.own_pace:
                    await self.acknowledge(message.partition, message.offset)

    async def ticking(self) -> None:
        """Let the agent know that time passes, until the app stops."""
        while not self._app.should_stop:
            async with self._one_at_a_time:
                if self._taken:
                    with (
                        contextlib.suppress(MovedError),
                        self._unit.step("following the clock", progress=False),
                    ):
                        await self._agent.tick(clock(), self)
                        await self._watch(clock())
            await asyncio.sleep(self._wiring.tick_every.total_seconds())

    async def _watch(self, now: Micros) -> None:
        if now - self._watched_at >= _WATCH_EVERY:
            self._watched_at = now
            metrics.KEPT_ENTRIES.labels(self._changelog.topic).set(len(self._changelog))
            await self._changelog.watch()
            self._require_ownership()
            await self._look_for_work()

    def _require_ownership(self) -> None:
        """A partition that a later owner has begun to write is soon taken from us. If not, that was none."""
        superseded = {partition for partition in self._taken if not self._changelog.owns(partition)}
        if known := superseded & self._superseded:
            where = f"{self._changelog.topic}, partitions {sorted(known)}"
            raise SupersededError(f"{where}: a later owner has written, and they are assigned to us still")
        self._superseded = superseded

    async def _look_for_work(self) -> None:
        places = [TP(self._wiring.source.name, partition) for partition in self._taken]
        try:
            async with self._unit.bounded(
                f"the ends of {self._wiring.source.name}", _ENDS_WITHIN_S, progress=False
            ):
                self._unit.work(await self._consumer.has_work(places))
        except (KafkaError, TimeoutError) as error:
            log.info("%s: the ends are not known now: %s", self._wiring.source.name, error)

    def _await_assignment(self) -> None:
        """Until the group has given us partitions, there is nothing to do."""
        self._unit.starts_anew()
        self._unassigned.close()
        self._unassigned.enter_context(
            self._unit.waiting(f"the consumer group chatgauge-{self._wiring.name}, to be given partitions")
        )

    async def end(self) -> None:
        """The worker stops."""
        await self._agent.end()
        await self._publisher.stop()

    # What the agent has of it: see `streams.runtime.ledger.Worker`.

    @property
    def source_partitions(self) -> int:
        return self._consumer.topic_partitions(self._wiring.source.name) or 0

    async def write(self, partition: int, entries: Mapping[bytes, bytes | None]) -> None:
        taken, form = self._taken.get(partition), self._wiring.format
        if taken is None:
            raise MovedError(f"{self._changelog.topic}, partition {partition}")
        encoded = {
            form.key(partition, key): None if state is None else form.value(partition, taken.through, state)
            for key, state in entries.items()
        }
        await self._changelog.write(partition, encoded)

    async def send(self, topic: Topic, records: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        codec = self._codecs.setdefault(topic.name, Codec(schema(topic.record)))
        await self.publish(
            [Message(topic.name, codec.encode(record), key.encode()) for key, record in records]
        )

    async def publish(self, messages: Sequence[Message]) -> None:
        await self._publisher.publish(messages)

    def entry(self, partition: int, key: bytes) -> bytes | None:
        return self._changelog.entries(partition).get(key)

    def caught_up(self, partition: int) -> bool:
        return self._consumer.caught_up(TP(self._wiring.source.name, partition))

    async def acknowledge(self, partition: int, through: int) -> None:
        taken, last = self._taken.get(partition), None
        while taken and taken.unacknowledged and taken.unacknowledged[0][0].message.offset <= through:
            last = taken.unacknowledged.popleft()
        if last is not None:
            event, acknowledge = last
            await acknowledge(event)

    def waiting(self, what: str) -> AbstractContextManager[None]:
        return self._unit.waiting(what)

    async def compute(self, work: Callable[[], _T]) -> _T:
        return await self._unit.compute(work)

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        self._app.add_future(self._guarded(work))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            with self._unit.step("making a step durable"):
                await work
        except MovedError:
            return
        except Exception as error:
            give_up(self._app, self._part, f"a step of {self._wiring.name} failed", error)

    # What the changelog has of Kafka.

    async def _end_of(self, partition: int) -> int:
        tp = TP(self._changelog.topic, partition)
        return int((await self._consumer.highwaters(tp)).get(tp) or 0)

    async def _put_claim(self, partition: int, claim: Claim) -> None:
        tp = TP(self._wiring.source.name, partition)
        if not await self._consumer.commit_note(tp, claim.note()):
            raise MovedError(f"{tp.topic}, partition {partition}: the group has a newer generation")

    @property
    def _consumer(self) -> BatchConsumer:
        return cast("BatchConsumer", self._app.consumer)


def build(
    agent: Agent | OwnPace, wiring: Wiring, kafka: KafkaSettings, part: Part | None = None
) -> faust.App:
    """The application that runs `agent`, as a unit of `part`; without one, nobody watches over it."""
    part = part or Part(wiring.name)
    app = new_app(wiring.name, kafka, partitions=wiring.partitions, max_fetch=wiring.max_fetch)
    table = add_table(app, wiring.state, wiring.partitions)
    harness = Harness(app, agent, wiring, table, kafka.bootstrap, part)
    batching = Batching(
        frozenset({wiring.source.name}),
        frozenset({wiring.state.name}),
        wiring.linger,
        wiring.min_bytes,
        kafka.max_unpacked_bytes,
    )
    app.transport = BatchTransport(broker_urls(kafka), app, batching, harness, part)
    attend(app, part, wiring.name, wiring.source, table, harness)

    return app


def run(
    agents: Sequence[tuple[Agent | OwnPace, Wiring]], kafka: KafkaSettings, part: Part | None = None
) -> None:
    """Run agents in this process until SIGTERM or SIGINT; ends with SystemExit."""
    part = part or Part("agents")
    application.run(part, *[build(agent, wiring, kafka, part) for agent, wiring in agents])

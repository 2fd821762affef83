"""Runs a stateful agent on Faust: a source that is read by the fetch, and a table that keeps its state.

An agent takes a fetch in this order, so that what it says is said at least once, and said again it is
the same:

1. it evaluates the fetch; what changes is state, and records to be sent, which are a part of the state;
2. the entries of the state are written, and durable;
3. the records are sent, and durable;
4. the fetch is acknowledged.

Killed before 2, nothing has happened; after it, the records are in the recovered state and sent again.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol, cast

import faust
from faust.types import TP, EventT

from infra.settings import KafkaSettings
from schemas.time import Micros, clock
from schemas.topics import Topic
from streams.runtime import application
from streams.runtime.application import Acknowledge, add_table, attend, broker_url, give_up, new_app
from streams.runtime.following import Following
from streams.runtime.ledger import KafkaLedger, Ledger, MovedError, State, decode_key, decode_state, is_older
from streams.runtime.transport import Batching, BatchTransport

log = logging.getLogger(__name__)


class Record(Protocol):
    """What is read of a Kafka record; `timestamp` in milliseconds."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...


class Agent(Protocol):
    """A stateful agent. `step`, `tick`, `restore` and `resume` are never called side by side.

    A MovedError that the ledger raises is passed on: the fetch comes again, to whom the partition belongs.
    Any other error ends the process, and the next one repeats the step.
    """

    async def begin(self, ledger: Ledger) -> None:
        """Once, before anything else."""
        ...

    def restore(self, states: Mapping[int, Mapping[bytes, State]], now: Micros) -> None:
        """Take up the state of the partitions that are ours from now on, those without entries included.

        What was known before is void. Must not block.
        """
        ...

    async def resume(self, ledger: Ledger) -> None:
        """Send again what the restored state had still to send."""
        ...

    def reading_from(self, partition: int, committed: int) -> int:
        """The offset to read from, at most `committed`: earlier ones are to be remembered only."""
        ...

    def forget(self) -> None:
        """The partitions are going away: write nothing more for them. Must not block."""
        ...

    async def step(self, partition: int, records: Sequence[Record], committed: int, ledger: Ledger) -> None:
        """Take a fetch; when this returns, it is acknowledged. Those before `committed` are to be
        remembered only."""
        ...

    async def tick(self, now: Micros, ledger: Ledger) -> None:
        """Time has passed."""
        ...

    async def end(self) -> None:
        """Once, when the worker stops."""
        ...


@dataclass(frozen=True)
class Wiring:
    """What an agent reads, where its state is, and how it takes its steps."""

    name: str
    """The consumer group is `chatgauge-<name>`."""
    source: Topic
    state: Topic
    partitions: int
    """Of the source, and of the state."""
    linger: timedelta
    """How long records gather before a step; what has come is taken at once when it is `min_bytes`."""
    min_bytes: int = 64 * 1024
    max_fetch: int = 5_000
    """Most records in a step."""
    tick_every: timedelta = timedelta(milliseconds=100)


class _StateTable(faust.Table[bytes, bytes]):
    """Encoded entries by their encoded key. Its changelog is read by the fetch; the newest entry holds,
    not the last: a worker that was stopped and wakes when its partition has moved may write once more."""

    def apply_changelog_batch(self, batch: Iterable[EventT[Any]]) -> None:
        """Take up fetches of the changelog."""
        for event in batch:
            for record in cast("Sequence[Any]", event.value):
                if record.value is None:
                    self.data.pop(record.key, None)
                elif not is_older(record.value, self.data.get(record.key)):
                    self.data[record.key] = record.value

    def states(self, partitions: Iterable[int]) -> dict[int, dict[bytes, State]]:
        """The entries of these partitions; those of all others are dropped."""
        found: dict[int, dict[bytes, State]] = {partition: {} for partition in partitions}
        for encoded, value in list(self.data.items()):
            partition, key = decode_key(encoded)
            if partition in found:
                found[partition][key] = decode_state(value)
            else:
                del self.data[encoded]
        return found


class Harness:
    """One agent's partitions: what is ours, how far each is committed and taken."""

    def __init__(
        self, app: faust.App, agent: Agent, wiring: Wiring, table: _StateTable, bootstrap: str
    ) -> None:
        self._app = app
        self._agent = agent
        self._wiring = wiring
        self._table = table
        self._through: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._following = Following(app, wiring.name)
        self._one_at_a_time = asyncio.Lock()
        self._begun = False
        self._ledger = KafkaLedger(
            bootstrap, wiring.state, cast("dict[bytes, bytes]", table.data), self._through.get
        )

    async def restore(self) -> None:
        """Take up the state from the recovered table, for the partitions that are assigned now."""
        source = self._wiring.source.name
        async with self._one_at_a_time:
            if not self._begun:
                self._begun = True
                await self._agent.begin(self._ledger)
            mine = [tp.partition for tp in self._app.consumer.assignment() if tp.topic == source]
            states = self._table.states(mine)
            self._following.begin_anew()
            self._through.clear()
            for partition, entries in states.items():
                self._through[partition] = max((state.offset for state in entries.values()), default=-1)
            self._agent.restore(states, clock())
            with contextlib.suppress(MovedError):
                await self._agent.resume(self._ledger)

    def reading_from(self, tp: TP, committed: int) -> int:
        """From which offset on a partition of the source is read, of which `committed` is acknowledged."""
        if tp.partition not in self._through:
            return committed
        self._committed[tp.partition] = committed
        return self._agent.reading_from(tp.partition, committed)

    def forget(self) -> None:
        """The partitions are going away."""
        self._following.begin_anew()
        self._through.clear()
        self._agent.forget()

    async def step(self, event: EventT[Any], acknowledge: Acknowledge) -> None:
        """Take one fetch, unless it is of no concern any more: its partition has moved."""
        message = event.message
        async with self._one_at_a_time:
            partition = message.partition
            if partition not in self._through or message.generation_id != self._app.consumer_generation_id:
                return
            records = cast("list[Any]", message.value)
            if not await self._following.takes(message.tp, records[0].offset, message.offset):
                return
            committed = self._committed.get(partition, 0)
            self._through[partition] = max(self._through[partition], message.offset)
            with contextlib.suppress(MovedError):
                await self._agent.step(partition, records, committed, self._ledger)
                if message.offset >= committed:
                    await acknowledge(event)

    async def ticking(self) -> None:
        """Let the agent know that time passes, until the app stops."""
        while not self._app.should_stop:
            async with self._one_at_a_time:
                if self._through:
                    with contextlib.suppress(MovedError):
                        await self._agent.tick(clock(), self._ledger)
            await asyncio.sleep(self._wiring.tick_every.total_seconds())

    async def end(self) -> None:
        """The worker stops."""
        await self._agent.end()
        await self._ledger.stop()


def build(agent: Agent, wiring: Wiring, kafka: KafkaSettings) -> faust.App:
    """The application that runs `agent`."""
    app = new_app(wiring.name, kafka, partitions=wiring.partitions, max_fetch=wiring.max_fetch)
    table = add_table(app, _StateTable, wiring.state, wiring.partitions)
    harness = Harness(app, agent, wiring, table, kafka.bootstrap)
    batching = Batching(
        frozenset({wiring.source.name}), frozenset({wiring.state.name}), wiring.linger, wiring.min_bytes
    )
    app.transport = BatchTransport(broker_url(kafka), app, batching, harness.reading_from)

    async def end(*_: object, **__: object) -> None:
        await harness.end()

    attend(app, wiring.name, wiring.source, table, harness)
    app.on_before_shutdown.connect(end, weak=False)

    @app.task  # type: ignore[untyped-decorator]
    async def ticking() -> None:
        try:
            await harness.ticking()
        except Exception:
            give_up(app)
            raise

    return app


def run(agents: Sequence[tuple[Agent, Wiring]], kafka: KafkaSettings) -> None:
    """Run agents in this process until SIGTERM or SIGINT; ends with SystemExit."""
    application.run(*[build(agent, wiring, kafka) for agent, wiring in agents])

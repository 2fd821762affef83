"""The alert agents: closed panes, and samples, are judged by the rules, and what comes of it is published.

What is decided is pure (`judge`, `sampling`); here are Kafka, the clock, and ClickHouse's
history. A step's order is the harness's: the state, with what is to be published, then the publishing.
"""

import logging
import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Generic, Protocol, TypeVar

import numpy as np
import polars as pl

from clients.clickhouse.connection import connect
from infra.settings import AlertSettings, ClickHouseSettings, KafkaSettings, WindowSettings
from schemas.batch import refuse_future
from schemas.columnar import ColumnarReader
from schemas.contract import schema
from schemas.errors import SchemaError
from schemas.records import KafkaRecord
from schemas.registry import SchemaRegistry
from schemas.time import SECOND, Micros, clock, micros
from schemas.topics import ALERT_STATE, ALERTS, CLOSED, DECISIONS, SAMPLE_STATE, SAMPLES
from schemas.validity import refuse_invalid
from streams.alerts import metrics
from streams.alerts.closed_share import ClosedShare, read_share
from streams.alerts.history_client import Answer, HistoryClient
from streams.alerts.judge import Judge
from streams.alerts.judged import Judged, Question, RuleVersion
from streams.alerts.limits import Limits
from streams.alerts.rulebook import Rulebook
from streams.alerts.sampling import Sampling
from streams.runtime.agent import Agent, Wiring
from streams.runtime.fetch import Fetch
from streams.runtime.ledger import Ledger, State

log = logging.getLogger(__name__)

_ASK_EVERY: Final[Micros] = SECOND


class PartitionJudge(Protocol):
    """The rules in one partition of a source: `Judge` and `Sampling` say what these mean."""

    @property
    def forgotten(self) -> int: ...
    def set_rules(self, rules: Iterable[RuleVersion]) -> None: ...
    def restore(self, entries: Mapping[bytes, bytes]) -> None: ...
    def outbox(self) -> Judged: ...
    def reading_from(self, committed: int) -> int: ...
    def wanted(self, now: Micros) -> list[Question]: ...
    def tick(self, now: Micros) -> Judged: ...


J = TypeVar("J", bound=PartitionJudge)


class JudgingAgent(Agent, Generic[J]):
    """Judges the partitions of a source that this worker has."""

    name: str

    def __init__(self, rulebook: Rulebook, history: HistoryClient, limits: Limits) -> None:
        self._rulebook = rulebook
        self._history = history
        self._limits = limits
        self._judges: dict[int, J] = {}
        self._version = -1
        self._asked_at: Micros = 0

    @abstractmethod
    def _judge(self, partition: int) -> J:
        """What judges a partition."""

    @abstractmethod
    def _take(self, judge: J, fetch: Fetch, now: Micros, committed: int) -> Judged:
        """Judge the next records of its partition."""

    @abstractmethod
    def _learn(self, judge: J, answer: Answer) -> None:
        """Take an answer of history."""

    async def begin(self, ledger: Ledger) -> None:
        """Wait for the rules."""
        await self._rulebook.begin()

    async def end(self) -> None:
        """Ask and follow no more."""
        await self._history.close()
        await self._rulebook.end()

    def restore(self, states: Mapping[int, Mapping[bytes, State]], now: Micros) -> None:
        """Take up what was judged before."""
        self._version = self._rulebook.version
        self._judges = {}
        for partition, entries in states.items():
            judge = self._judges[partition] = self._judge(partition)
            judge.restore({key: entry.state for key, entry in entries.items()})

    async def resume(self, ledger: Ledger) -> None:
        """Send again what was still to be sent."""
        for partition, judge in list(self._judges.items()):
            await _publish(judge.outbox(), partition, ledger)

    def reading_from(self, partition: int, committed: int) -> int:
        """As far back as the windows of the rules reach."""
        judge = self._judges.get(partition)
        return committed if judge is None else judge.reading_from(committed)

    def forget(self) -> None:
        """The partitions are going away."""
        self._judges = {}

    async def step(self, partition: int, fetch: Fetch, committed: int, ledger: Ledger) -> None:
        """Judge what has come."""
        judge = self._judges.get(partition)
        if judge is None:
            return
        began = time.perf_counter()
        await _publish(self._take(judge, fetch, clock(), committed), partition, ledger)
        metrics.STEP_SECONDS.labels(self.name).observe(time.perf_counter() - began)

    async def tick(self, now: Micros, ledger: Ledger) -> None:
        """Follow the rules; ask history, and take its answers; judge what has waited long enough."""
        if self._version != self._rulebook.version:
            self._version = self._rulebook.version
            for judge in self._judges.values():
                judge.set_rules(self._rulebook.rules)
        self._ask_history(now)
        for partition, judge in list(self._judges.items()):
            await _publish(judge.tick(now), partition, ledger)

    def _ask_history(self, now: Micros) -> None:
        for answer in self._history.answers():
            for judge in self._judges.values():
                self._learn(judge, answer)
        if now - self._asked_at >= _ASK_EVERY:
            self._asked_at = now
            for judge in self._judges.values():
                for question in judge.wanted(now):
                    self._history.ask(question)
            metrics.HISTORY_WAITING.labels(self.name).set(self._history.waiting)
            metrics.FORGOTTEN.labels(self.name).set(sum(judge.forgotten for judge in self._judges.values()))


class PaneAgent(JudgingAgent[Judge]):
    """Judges panes that have closed, from `chat.closed`."""

    name = "alerts"

    def __init__(
        self,
        rulebook: Rulebook,
        history: HistoryClient,
        limits: Limits,
        partitions: int,
        windows: WindowSettings,
    ) -> None:
        super().__init__(rulebook, history, limits)
        self._partitions = partitions
        self._zone = windows.timezone

    def _judge(self, partition: int) -> Judge:
        return Judge(partition, self._partitions, self._rulebook.rules, self._limits, self._zone)

    def _take(self, judge: Judge, fetch: Fetch, now: Micros, committed: int) -> Judged:
        judged = judge.take(list(filter(None, map(_share, fetch.records))), now, committed)
        metrics.UNREADABLE.labels(CLOSED.name).inc(judged.refused)
        return judged

    def _learn(self, judge: Judge, answer: Answer) -> None:
        rule, what, start, until, _ = answer.question
        if answer.frame is not None:
            learn = judge.set_reference if what == "reference" else judge.set_spent
            learn(rule.id, start, until, answer.frame)


class SampleAgent(JudgingAgent[Sampling]):
    """Judges sampled states, from `chat.samples`. What it can't read is dead-lettered by the sinks."""

    name = "samples"

    def __init__(
        self, rulebook: Rulebook, history: HistoryClient, limits: Limits, registry: SchemaRegistry | None
    ) -> None:
        super().__init__(rulebook, history, limits)
        self._reader = ColumnarReader(schema(SAMPLES.record), registry=registry)

    def _judge(self, partition: int) -> Sampling:
        return Sampling(partition, self._rulebook.rules, self._limits)

    def _take(self, judge: Sampling, fetch: Fetch, now: Micros, committed: int) -> Judged:
        return judge.take(self._read(fetch.records), now, committed, fetch.next_offset - 1)

    def _read(self, records: Sequence[KafkaRecord]) -> pl.DataFrame:
        offsets = np.fromiter((record.offset for record in records), np.int64, len(records))
        arrived = np.fromiter((record.timestamp for record in records), np.int64, len(records)) * 1000
        batch = refuse_future(self._reader.read([record.value for record in records], offsets), arrived)
        batch = refuse_invalid(batch, SAMPLES.record)
        metrics.UNREADABLE.labels(SAMPLES.name).inc(len(batch.refused))
        return batch.frame

    def _learn(self, judge: Sampling, answer: Answer) -> None:
        rule, _, start, until, _ = answer.question
        if answer.frame is not None:
            judge.set_reference(rule.id, start, until, answer.frame)


async def _publish(judged: Judged, partition: int, ledger: Ledger) -> None:
    """Write the state, then send what it says is to be sent."""
    if judged.entries:
        await ledger.write(partition, judged.entries)
    if judged.alerts:
        await ledger.send(ALERTS, [(alert["alert_id"], alert) for alert in judged.alerts])
    if judged.decisions:
        await ledger.send(DECISIONS, [(each["decision_id"], each) for each in judged.decisions])
    for alert in judged.alerts:
        metrics.TRANSITIONS.labels(alert["state"]).inc()
    for each in judged.decisions:
        metrics.DECISIONS.labels(each["what"]).inc()


def _share(record: KafkaRecord) -> ClosedShare | None:
    try:
        return read_share(record.value or b"", record.offset)
    except SchemaError as error:
        metrics.UNREADABLE.labels(CLOSED.name).inc()
        log.error("%s, offset %d can't be read: %s", CLOSED.name, record.offset, error)
        return None


def wired(
    kafka: KafkaSettings,
    alerts: AlertSettings,
    windows: WindowSettings,
    clickhouse: ClickHouseSettings,
    registry: SchemaRegistry | None = None,
) -> list[tuple[Agent, Wiring]]:
    """Both agents, and how they are to be run."""

    def history() -> HistoryClient:
        return HistoryClient(lambda: connect(clickhouse), windows.timezone)

    rulebook = Rulebook(kafka.bootstrap, alerts)
    limits = Limits(patience=micros(alerts.patience), too_late=micros(alerts.too_late))
    panes = PaneAgent(rulebook, history(), limits, kafka.partitions, windows)
    samples = SampleAgent(rulebook, history(), limits, registry)
    return [
        (panes, Wiring(panes.name, CLOSED, ALERT_STATE, kafka.partitions, alerts.linger)),
        (samples, Wiring(samples.name, SAMPLES, SAMPLE_STATE, kafka.partitions, alerts.linger)),
    ]

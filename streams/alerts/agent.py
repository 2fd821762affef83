"""The alert agent: closed panes are held against the rules, and what comes of it is told.

What is decided is pure (`judge`, `sampling`); here are Kafka, the clock, and what ClickHouse knows of the
past. A step's order is the harness's: the state, with what is to be told, then the telling.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Final

from infra.settings import AlertSettings, ClickHouseSettings, KafkaSettings, WindowSettings
from schemas.errors import SchemaError
from schemas.topics import ALERT_STATE, ALERTS, CLOSED, DECISIONS
from sinks.clickhouse import connect
from streams.alerts import metrics
from streams.alerts.judge import Judge
from streams.alerts.judged import Judged
from streams.alerts.limits import Limits
from streams.alerts.past import Past
from streams.alerts.rulebook import Rulebook
from streams.alerts.shares import ClosedShare, read_share
from streams.clock import clock
from streams.harness import Agent, Record, Wiring
from streams.ledger import Ledger, State
from streams.windows.panes import SECOND, Micros, micros

log = logging.getLogger(__name__)

_ASK_EVERY: Final[Micros] = SECOND


async def tell(judged: Judged, partition: int, ledger: Ledger) -> None:
    """Write the state, then send what it says is to be sent."""
    if judged.entries:
        await ledger.write(partition, judged.entries)
    if judged.alerts:
        await ledger.send(ALERTS, [(alert["alert_id"], alert) for alert in judged.alerts])
    if judged.decisions:
        await ledger.send(DECISIONS, [(decision["decision_id"], decision) for decision in judged.decisions])
    for alert in judged.alerts:
        metrics.TRANSITIONS.labels(alert["state"]).inc()
    for decision in judged.decisions:
        metrics.DECISIONS.labels(decision["what"]).inc()


class AlertAgent(Agent):
    """Judges the partitions of `chat.closed` that this worker has."""

    def __init__(
        self, rulebook: Rulebook, past: Past, partitions: int, limits: Limits, windows: WindowSettings
    ) -> None:
        self._rulebook = rulebook
        self._past = past
        self._partitions = partitions
        self._limits = limits
        self._zone = windows.timezone
        self._judges: dict[int, Judge] = {}
        self._version = -1
        self._asked_at: Micros = 0

    async def begin(self, ledger: Ledger) -> None:
        """Wait for the rules."""
        await self._rulebook.begin()

    async def end(self) -> None:
        """Ask and follow no more."""
        await self._past.close()
        await self._rulebook.end()

    def restore(self, states: Mapping[int, Mapping[bytes, State]], now: Micros) -> None:
        """Take up what was judged before."""
        self._version = self._rulebook.version
        self._judges = {}
        for partition, entries in states.items():
            judge = Judge(partition, self._partitions, self._rulebook.rules, self._limits, self._zone)
            judge.restore({key: entry.state for key, entry in entries.items()})
            self._judges[partition] = judge

    async def resume(self, ledger: Ledger) -> None:
        """Send again what was still to be sent."""
        for partition, judge in list(self._judges.items()):
            await tell(judge.outbox(), partition, ledger)

    def reading_from(self, partition: int, committed: int) -> int:
        """As far back as the windows of the rules reach."""
        judge = self._judges.get(partition)
        return committed if judge is None else judge.reading_from(committed)

    def forget(self) -> None:
        """The partitions are going away."""
        self._judges = {}

    async def step(self, partition: int, records: Sequence[Record], committed: int, ledger: Ledger) -> None:
        """Judge what has closed."""
        judge = self._judges.get(partition)
        if judge is None:
            return
        began = time.perf_counter()
        judged = judge.take(_shares(records), clock(), committed)
        metrics.UNREADABLE.labels(CLOSED.name).inc(judged.refused)
        await tell(judged, partition, ledger)
        metrics.STEP_SECONDS.labels("alerts").observe(time.perf_counter() - began)

    async def tick(self, now: Micros, ledger: Ledger) -> None:
        """Follow the rules; ask of the past, and hear the answers; judge what has waited long enough."""
        self._follow_rules()
        self._learn(now)
        for partition, judge in list(self._judges.items()):
            await tell(judge.tick(now), partition, ledger)

    def _follow_rules(self) -> None:
        if self._version == self._rulebook.version:
            return
        self._version = self._rulebook.version
        for judge in self._judges.values():
            judge.set_rules(self._rulebook.rules)

    def _learn(self, now: Micros) -> None:
        rules = {version.rule.id: version.rule for version in self._rulebook.rules}
        for answer in self._past.answers():
            rule, what, start, until, _ = answer.question
            if answer.frame is None or rules.get(rule.id) != rule:
                continue  # not to be had, or of a rule that has changed since
            for judge in self._judges.values():
                learn = judge.set_reference if what == "reference" else judge.set_spent
                learn(rule.id, start, until, answer.frame)
        if now - self._asked_at >= _ASK_EVERY:
            self._asked_at = now
            for judge in self._judges.values():
                for question in judge.wanted(now):
                    self._past.ask(question)
            metrics.PAST_WAITING.set(self._past.waiting)


def _shares(records: Sequence[Record]) -> list[ClosedShare]:
    shares = []
    for record in records:
        try:
            shares.append(read_share(record.value or b"", record.offset))
        except SchemaError as error:
            metrics.UNREADABLE.labels(CLOSED.name).inc()
            log.error("%s, offset %d can't be read: %s", CLOSED.name, record.offset, error)
    return shares


def limits_of(settings: AlertSettings) -> Limits:
    """The bounds that are set."""
    return Limits(patience=micros(settings.patience), too_late=micros(settings.too_late))


def wired(
    rulebook: Rulebook, kafka: KafkaSettings, alerts: AlertSettings, windows: WindowSettings
) -> tuple[Agent, Wiring]:
    """The agent, and where it belongs."""
    clickhouse = ClickHouseSettings()
    past = Past(lambda: connect(clickhouse), windows.timezone)
    agent = AlertAgent(rulebook, past, kafka.partitions, limits_of(alerts), windows)
    return agent, Wiring("alerts", CLOSED, ALERT_STATE, kafka.partitions, alerts.linger)

"""The notifier agent: from `chat.alerts` to `chat.notifications` and `chat.decisions`.

A step, in this order:

1. the notifier hears the transitions, or time passes: what changes is its state, and what is to be sent is
   a part of it;
2. the parts of the state are written, then its head, which makes them count;
3. notifications and decisions are sent;
4. the fetch is acknowledged; and when nothing comes for a second, it is put on record that all is sent.

Killed before the head is written, nothing has happened; after it, the next worker sends what the head says.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

from infra.settings import KafkaSettings, NotificationSettings, WindowSettings
from schemas.codec import Codec
from schemas.contract import schema
from schemas.errors import SchemaError
from schemas.records import KafkaRecord
from schemas.registry import SchemaRegistry
from schemas.time import SECOND, Micros, clock
from schemas.topics import ALERTS, DECISIONS, NOTIFICATIONS, NOTIFIER_STATE
from streams.notifications import metrics
from streams.notifications.definitions import Definitions
from streams.notifications.notifier import Notifier, Planned, Terms
from streams.notifications.state import Commit, Outbox
from streams.notifications.subscribing import Subscribing
from streams.notifications.terms import terms_of
from streams.runtime.agent import Agent, Wiring
from streams.runtime.errors import MovedError
from streams.runtime.fetch import Fetch
from streams.runtime.ledger import Ledger, State

log = logging.getLogger(__name__)

_PARTITION: Final = 0
_TICK: Final = timedelta(milliseconds=20)
"""How exactly what is due is told."""
_LINGER: Final = timedelta(milliseconds=20)
_MOST_UNREAD: Final = 1_000
"""Alerts in a step: with many endpoints each is much work, and others wait meanwhile."""
_SETTLED_AFTER: Final[Micros] = SECOND


class NotifierAgent(Agent):
    """Holds alerts against what people have set up. One partition: one worker does it, others stand by."""

    def __init__(self, definitions: Definitions, subscribing: Subscribing, terms: Terms) -> None:
        self._definitions = definitions
        self._subscribing = subscribing
        self._terms = terms
        self._codec = Codec(schema("Alert"))
        self._notifier: Notifier | None = None
        self._outbox = Outbox()
        self._version = -1
        self._unsettled_since: Micros | None = None

    async def begin(self, ledger: Ledger) -> None:
        """See `Agent`: returns when rules, endpoints and silences are known."""
        await self._definitions.begin()
        self._subscribing.start()

    def restore(self, states: Mapping[int, Mapping[bytes, State]], now: Micros) -> None:
        """See `Agent`."""
        self._notifier, self._outbox = None, Outbox()
        if _PARTITION in states:
            entries = {key: state.state for key, state in states[_PARTITION].items()}
            self._notifier, self._outbox = Notifier.restore(self._terms, entries)
            self._version = -1
            self._unsettled_since = now if self._outbox else None
            log.info("%d alerts are open", self._notifier.open_alerts)

    async def resume(self, ledger: Ledger) -> None:
        """See `Agent`."""
        await _send(self._outbox, ledger)
        self._outbox = Outbox()

    def reading_from(self, partition: int, committed: int) -> int:
        """See `Agent`: what was acknowledged is in the state."""
        return committed

    def forget(self) -> None:
        """See `Agent`."""
        self._notifier = None

    async def step(self, partition: int, fetch: Fetch, committed: int, ledger: Ledger) -> None:
        """See `Agent`."""
        notifier = self._informed()
        alerts = list(self._read(record for record in fetch.records if record.offset > notifier.offset))
        now = clock()
        planned = notifier.take(alerts, now, fetch.next_offset - 1)
        await self._finish(notifier, planned, now, ledger)

    async def tick(self, now: Micros, ledger: Ledger) -> None:
        """See `Agent`."""
        if self._notifier is None:
            return
        notifier = self._informed()
        await self._finish(notifier, notifier.tick(now), now, ledger)
        metrics.OPEN_ALERTS.set(notifier.open_alerts)
        metrics.GROUPS.set(notifier.groups)
        metrics.FORGOTTEN_EARLY.set(notifier.forgotten_early)

    async def end(self) -> None:
        """See `Agent`."""
        await self._subscribing.stop()
        await self._definitions.end()

    def _informed(self) -> Notifier:
        """The notifier, knowing what is set up now."""
        if self._notifier is None:
            raise MovedError(f"{ALERTS.name}, partition {_PARTITION}")
        if self._version != self._definitions.version:
            self._version = self._definitions.version
            self._notifier.define(
                self._definitions.rules, self._definitions.endpoints, self._definitions.silences
            )
        return self._notifier

    def _read(self, records: Iterable[KafkaRecord]) -> Iterator[dict[str, Any]]:
        for record in records:
            try:
                yield self._codec.decode(record.value or b"")
            except SchemaError as error:
                metrics.UNREADABLE.labels(ALERTS.name).inc()
                log.error("%s, offset %d: %s; it is left out", ALERTS.name, record.offset, error)

    async def _finish(self, notifier: Notifier, planned: Planned, now: Micros, ledger: Ledger) -> None:
        commit = notifier.commit(planned)
        if commit is not None:
            await _write(commit, ledger)
            await _send(planned, ledger)
            self._unsettled_since = now if planned else None
        elif self._unsettled_since is not None and now - self._unsettled_since >= _SETTLED_AFTER:
            # Else a worker that starts weeks later would say again what nobody remembers any more.
            await _write(notifier.settle(), ledger)
            self._unsettled_since = None


async def _write(commit: Commit, ledger: Ledger) -> None:
    if commit.parts:
        await ledger.write(_PARTITION, commit.parts)
    await ledger.write(_PARTITION, commit.head)


async def _send(outbox: Outbox, ledger: Ledger) -> None:
    if outbox.notifications:
        await ledger.send(NOTIFICATIONS, [(each["endpoint_id"], each) for each in outbox.notifications])
    if outbox.decisions:
        await ledger.send(DECISIONS, [(each["decision_id"], each) for each in outbox.decisions])
    for each in outbox.notifications:
        metrics.NOTIFICATIONS.labels(each["type"]).inc()
    for each in outbox.decisions:
        metrics.DECISIONS.labels(each["what"]).inc()


def wired(
    kafka: KafkaSettings,
    settings: NotificationSettings,
    windows: WindowSettings,
    registry: SchemaRegistry | None = None,
) -> tuple[Agent, Wiring]:
    """The agent, and how it is to be run."""
    definitions = Definitions(kafka.bootstrap)
    subscribing = Subscribing(kafka.bootstrap, definitions, settings.public_url, registry)
    agent = NotifierAgent(definitions, subscribing, terms_of(settings, windows))
    wiring = Wiring("notifier", ALERTS, NOTIFIER_STATE, 1, _LINGER, max_fetch=_MOST_UNREAD, tick_every=_TICK)
    return agent, wiring

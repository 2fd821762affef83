"""The delivery agent: takes notifications in, delivers them, and leaves a log of every attempt.

A fetch, in this order:

1. what is new becomes open deliveries: entries of the state, written and durable;
2. the fetch is acknowledged;
3. each is attempted, when it is due, in a task of its own (`streams.deliveries.sending`), whatever the
   others do; an attempt's result is written as soon as it is known, and then logged.

Killed before 1 is done, the fetch comes again; after it, the state has it. What is delivered again after a
kill is what was answered and not written yet: some milliseconds' worth.
"""

import contextlib
import logging
import resource
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, Protocol

from aiokafka.errors import KafkaError

from infra.settings import DeliverySettings
from schemas import topics
from schemas.errors import SchemaError
from schemas.time import SECOND, Micros, clock
from streams.definitions.definition import Definition
from streams.definitions.publisher import DefinitionPublisher
from streams.definitions.topic import DefinitionTopic
from streams.deliveries import metrics
from streams.deliveries.bodies import Bodies, read_notification
from streams.deliveries.channel import Channel
from streams.deliveries.concurrency_limit import ConcurrencyLimit
from streams.deliveries.delivery import Entry
from streams.deliveries.endpoint_queue import Target
from streams.deliveries.endpoint_watch import EndpointWatch, Shut
from streams.deliveries.journal import LOGGED
from streams.deliveries.notice import notices
from streams.deliveries.notification import Notification
from streams.deliveries.outbox import Outbox, Policy, folded_keys
from streams.deliveries.outcome import Outcome
from streams.deliveries.sending import Sending
from streams.endpoints.endpoint import parse_endpoint
from streams.endpoints.errors import EndpointError
from streams.runtime.fetch import Fetch
from streams.runtime.ledger import Ledger, State

log = logging.getLogger(__name__)

_HOUSEKEEPING: Final = SECOND
_PARKED_AT_ONCE: Final = 500
_AUTHOR: Final = "the delivery agent"


class Outlets(Protocol):
    """The ways out, as `streams.deliveries.channels.open_outlets` gives them."""

    @property
    def channels(self) -> Mapping[str, Channel]:
        """By the name that an endpoint has in `channel`."""
        ...

    async def close(self) -> None:
        """Give them up."""
        ...


class DeliveryAgent:
    """An `Agent` of chat.notifications, with its state on chat.outbox.

    `open_outlets` is called once, in the running event loop.
    """

    def __init__(
        self, bootstrap: str, settings: DeliverySettings, open_outlets: Callable[[], Outlets]
    ) -> None:
        self._settings = settings
        self._policy = Policy.of(settings)
        self._open_outlets = open_outlets
        self._definitions = DefinitionTopic(bootstrap, topics.ENDPOINTS, self._endpoints_changed)
        self._publisher = DefinitionPublisher(bootstrap)
        self._bodies = Bodies(bootstrap, topics.NOTIFICATIONS, settings.body_memory)
        self._targets: dict[str, Target] = {}
        self._outbox = Outbox(self._policy)
        self._endpoint_watch = EndpointWatch(self._policy.disable_after)
        self._unlogged: list[Entry] = []
        self._kept_house_at: Micros = 0
        self._outlets: Outlets | None = None
        self._sending: Sending | None = None

    async def begin(self, ledger: Ledger) -> None:
        """See `Agent`: returns when the endpoints are known."""
        _allow_connections()
        self._outlets = self._open_outlets()
        limit = ConcurrencyLimit(self._settings.most_under_way)
        self._sending = Sending(self._outlets.channels, self._bodies, ledger, limit)
        await self._definitions.__aenter__()
        await self._definitions.ready()

    def restore(self, states: Mapping[int, Mapping[bytes, State]], now: Micros) -> None:
        """See `Agent`."""
        self._outbox, self._endpoint_watch = Outbox(self._policy), EndpointWatch(self._policy.disable_after)
        self._outbox.aim(self._targets, now)
        self._unlogged = []
        under_way = self._sending.under_way if self._sending else {}
        for partition, states_of in states.items():
            entries = {key: state.state for key, state in states_of.items()}
            self._unlogged += self._outbox.restore(partition, entries, now, under_way)
            self._endpoint_watch.restore(partition, entries, self._outbox, now)
        if self._outbox:
            log.info("%d deliveries are open in %d partitions", len(self._outbox), len(states))

    async def resume(self, ledger: Ledger) -> None:
        """See `Agent`: tells the log what it may not know, then goes on sending."""
        await ledger.send(
            topics.DELIVERIES,
            [(entry.delivery.endpoint_id, entry.record) for entry in self._unlogged if entry.record],
        )
        self._outbox.resent(self._unlogged)
        self._unlogged = []
        self._working.take_over(self._outbox)

    def reading_from(self, partition: int, committed: int) -> int:
        """See `Agent`: the state has all that is to be remembered."""
        return committed

    def forget(self) -> None:
        """See `Agent`."""
        if self._sending is not None:
            self._sending.pause()

    async def step(self, partition: int, fetch: Fetch, committed: int, ledger: Ledger) -> None:
        """See `Agent`."""
        values = {record.offset: record.value for record in fetch.records if record.offset >= committed}
        arrived = [
            (offset, notification)
            for offset, value in values.items()
            if (notification := _read(partition, offset, value)) is not None
        ]
        outbox = self._outbox
        accepted = outbox.accept(partition, arrived, clock())
        metrics.NOTIFICATIONS.labels("repeats").inc(accepted.repeats)
        metrics.NOTIFICATIONS.labels("opened").inc(len(accepted.opened))
        if not accepted.opened and not accepted.concluded:
            return
        await ledger.write(partition, accepted.entries())
        for delivery in accepted.opened:
            self._bodies.put((partition, delivery.offset), values[delivery.offset] or b"")
        outbox.opened(accepted.opened)
        self._working.wake()
        if accepted.concluded:
            for each in accepted.concluded:
                fate = "parked" if each.record["outcome"] == Outcome.PARKED else "superseded"
                metrics.NOTIFICATIONS.labels(fate).inc()
            await self._working.tell(outbox, accepted.concluded)

    async def tick(self, now: Micros, ledger: Ledger) -> None:
        """See `Agent`: parks, warns, disables, and keeps the state small."""
        self._working.check()
        if parked := self._outbox.park(now, _PARKED_AT_ONCE):
            await self._working.record(self._outbox, parked)
        await self._fold(now, ledger)
        if now - self._kept_house_at >= _HOUSEKEEPING:
            self._kept_house_at = now
            await self._watch(now, ledger)
            for partition, journal in self._outbox.journals.items():
                if (logged_until := journal.logged_until()) is not None:
                    await ledger.write(partition, {LOGGED: logged_until})
            self._tell_metrics()

    async def end(self) -> None:
        """See `Agent`: waits for attempts under way, within bounds."""
        if self._sending is not None:
            await self._sending.stop(self._settings.shutdown.total_seconds())
        await self._bodies.stop()
        await self._definitions.__aexit__()
        await self._publisher.stop()
        if self._outlets is not None:
            await self._outlets.close()

    @property
    def _working(self) -> Sending:
        if self._sending is None:
            raise RuntimeError("the delivery agent has not begun")
        return self._sending

    def _endpoints_changed(self) -> None:
        known = self._targets
        self._targets = {
            id_: known[id_]
            if id_ in known and known[id_].revision == definition.revision
            else _target(definition)
            for id_, definition in self._definitions.items.items()
        }
        self._outbox.aim(self._targets, clock())
        if self._sending is not None:
            self._sending.wake()

    async def _fold(self, now: Micros, ledger: Ledger) -> None:
        for partition, journal in self._outbox.journals.items():
            if (fold := journal.fold(now)) is not None:
                await ledger.write(partition, fold.blocks)
                await ledger.write(partition, folded_keys(fold))

    async def _watch(self, now: Micros, ledger: Ledger) -> None:
        seen = self._endpoint_watch.look(self._outbox, now)
        others = [target.endpoint for target in self._targets.values() if target.endpoint is not None]
        told = []
        for notice in seen.notices:
            target = self._targets.get(notice.endpoint_id)
            if target is not None and target.endpoint is not None:
                if notice.disabled_because is None:
                    share, error = notice.share * 100, notice.health.error
                    log.warning(
                        "%s: %.0f %% of the time until it is disabled: %s", notice.endpoint_id, share, error
                    )
                told += notices(notice, target.endpoint, others, self._policy.disable_after, now)
        if told:
            await ledger.send(topics.NOTIFICATIONS, [(each.endpoint_id, each.record()) for each in told])
        for partition, entries in seen.entries.items():
            await ledger.write(partition, entries)
        for id_, shut in seen.disable.items():
            await self._disable(id_, shut, now)

    async def _disable(self, id_: str, shut: Shut, now: Micros) -> None:
        definition = self._definitions.items.get(id_)
        target = self._targets.get(id_)
        if definition is None or target is None or target.endpoint is None:
            return
        disabled = target.endpoint.disabled(shut.because, datetime.fromtimestamp(now / SECOND, UTC))
        changed = Definition(
            id_, definition.revision + 1, definition.provisioned, now, _AUTHOR, disabled.document()
        )
        try:
            await self._publisher.publish(topics.ENDPOINTS, changed)
        except KafkaError as error:
            log.warning("%s is not disabled yet (%s: %s)", id_, type(error).__name__, error)
        else:
            metrics.DISABLED.inc()
            log.warning("%s is disabled: %s", id_, shut.because)

    def _tell_metrics(self) -> None:
        journals = self._outbox.journals.values()
        metrics.OPEN.set(len(self._outbox))
        metrics.UNDER_WAY.set(self._outbox.under_way)
        metrics.CONCURRENCY_LIMIT.set(self._working.limit)
        metrics.REMEMBERED.set(sum(len(journal.remembered) for journal in journals))
        metrics.FORGOTTEN_EARLY.set(sum(journal.remembered.forgotten_early for journal in journals))
        metrics.BODY_BYTES.set(self._bodies.nbytes)
        queues = self._outbox.queues.values()
        metrics.FAILING.set(sum(queue.health.failing_since is not None for queue in queues))
        metrics.BACKLOG.clear()
        for queue in queues:
            if queue.health.probing:
                metrics.BACKLOG.labels(queue.endpoint_id).set(len(queue))


def _allow_connections() -> None:
    """As many as the system lets this process have: hundreds of endpoints keep some open each."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # unlimited is not for everybody to set
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _read(partition: int, offset: int, value: bytes | None) -> Notification | None:
    try:
        return read_notification(value or b"")
    except SchemaError as error:
        metrics.NOTIFICATIONS.labels("unreadable").inc()
        log.error("chat.notifications, partition %d, offset %d: %s; not sent", partition, offset, error)
        return None


def _target(definition: Definition) -> Target:
    try:
        endpoint = parse_endpoint(definition.definition)
    except EndpointError as error:
        log.error("endpoint %s, revision %d: %s", definition.id, definition.revision, error)
        return Target(None, definition.revision, f"its definition can't be read: {error}")
    return Target(endpoint, definition.revision)

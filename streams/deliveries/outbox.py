"""The deliveries that are not over: taken in, begun when due, concluded. Pure: the clock is passed in.

What the outbox returns has to be written by its caller, who tells it when that is durable:

- `accept` → write the entries → `opened`: only now are they begun; send the records → `logged`;
- `begin` → attempt each → `conclude` → write the entry → `settled` → send the record → `logged`;
- `park` → the same, without an attempt;
- the journals' `fold` → write the blocks, then delete `folded_keys`, the entries of those that are over.

A delivery is an entry of its own, so that an attempt writes a few hundred bytes, however much is open. The
entry carries the last attempt's record until it is known to be in the log.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from infra.settings import DeliverySettings
from schemas.time import DAY, SECOND, Micros, micros
from streams.deliveries.attempt import attempt_record, decision_record
from streams.deliveries.channel import Response
from streams.deliveries.delivery import Delivery, Entry, digest_of, is_delivery, key_of, pack, unpack
from streams.deliveries.dispatch import Dispatch
from streams.deliveries.endpoint_queue import UNKNOWN, EndpointQueue, Target
from streams.deliveries.journal import Journal
from streams.deliveries.notification import Notification
from streams.deliveries.outcome import Next, Outcome, Verdict, follows
from streams.deliveries.remembered import Fold, Over, Remembered
from streams.deliveries.schedule import Schedule
from streams.endpoints.subscription import ENDPOINT_TEST

_ONCE: Final = Schedule(())
"""Of a test: a person waits for what comes of it."""
_UNKNOWN_PATIENCE: Final = 30 * SECOND
_CLOSED_PATIENCE: Final = 2 * SECOND


@dataclass(frozen=True)
class Policy:
    """How deliveries are made."""

    schedule: Schedule = field(default_factory=Schedule)
    most_under_way: int = 500
    """Attempts at once; endpoints that keep failing get half of them at most."""
    backlog: int = 50_000
    """Open deliveries of an endpoint; what comes beyond is parked."""
    remember: Micros = 7 * DAY
    remember_most: int = 2_000_000
    """Ids per partition."""
    disable_after: Micros = 5 * DAY

    @classmethod
    def of(cls, settings: DeliverySettings) -> "Policy":
        """As it is set."""
        return cls(
            Schedule.of(settings.schedule),
            settings.most_under_way,
            settings.backlog,
            micros(settings.remember),
            settings.remember_ids,
            micros(settings.disable_after),
        )


class Conclusion(NamedTuple):
    """What became of a delivery: the entry to be written, and the record for the log."""

    delivery: Delivery
    entry: bytes
    record: dict[str, Any]
    over: bool
    attempted: bool


class Accepted(NamedTuple):
    """What became of notifications that came."""

    opened: list[Delivery]
    concluded: list[Conclusion]
    """Not to be sent: too many wait, or another one takes their place."""
    repeats: int

    def entries(self) -> dict[bytes, bytes | None]:
        """What is to be written."""
        written: dict[bytes, bytes | None] = {each.key: pack(each) for each in self.opened}
        return written | {each.delivery.key: each.entry for each in self.concluded}


class Outbox:
    """Of all partitions that are ours."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._targets: Mapping[str, Target] = {}
        self._journals: dict[int, Journal] = {}
        self._open: dict[int, Delivery] = {}
        self._newest: dict[tuple[str, str], Delivery] = {}
        self._dispatch = Dispatch(policy.most_under_way)
        self.shut: dict[str, str] = {}
        """Endpoints that are disabled as far as we are concerned, and why: their definition follows."""

    def __len__(self) -> int:
        return len(self._open)

    @property
    def queues(self) -> Mapping[str, EndpointQueue]:
        """The endpoints that have, or had, something to be told."""
        return self._dispatch.queues

    @property
    def under_way(self) -> int:
        """How many attempts are being made."""
        return self._dispatch.under_way

    @property
    def journals(self) -> Mapping[int, Journal]:
        """Of the partitions that are ours."""
        return self._journals

    def find(self, digest: int) -> Delivery | None:
        """The delivery, while it is open."""
        return self._open.get(digest)

    # --- what is ours, and where it goes ---

    def restore(
        self,
        partition: int,
        entries: Mapping[bytes, bytes],
        now: Micros,
        under_way: Mapping[int, int] | None = None,
    ) -> list[Entry]:
        """Take up a partition from its state; returns those whose records are to be sent (again) at once.

        `under_way` has the number of the attempt, by digest, of requests that outlived a rebalance.
        """
        journal = Journal(Remembered(self._policy.remember, self._policy.remember_most))
        self._journals[partition] = journal
        logged_until = journal.restore(entries)
        unlogged = []
        for entry in (unpack(packed, partition) for key, packed in entries.items() if is_delivery(key)):
            delivery = entry.delivery
            journal.seen(entry.concluded_at)
            if entry.over:
                journal.over(Over(delivery.digest, delivery.created_at), now)
            else:
                self._enter(delivery)
                if (under_way or {}).get(delivery.digest) == delivery.attempts + 1:
                    self._dispatch.take_up(delivery)
                else:
                    self._queue(delivery).add(delivery)
            if entry.packed and entry.concluded_at > logged_until:
                unlogged.append(entry)
            elif entry.over:
                self.resent([entry])
        for queue in self.queues.values():
            self._dispatch.wake(queue)
        return unlogged

    def resent(self, entries: Iterable[Entry]) -> None:
        """Their records are in the log."""
        for entry in entries:
            delivery = entry.delivery
            if entry.over:
                over = Over(delivery.digest, delivery.created_at)
                self._journals[delivery.partition].logged(delivery.digest, over)

    def aim(self, targets: Mapping[str, Target], now: Micros) -> None:
        """These are the endpoints by now."""
        self._targets = targets
        for queue in list(self.queues.values()):
            self._aim(queue, now)
            idle = not len(queue) and queue.health.failing_since is None
            if queue.target is UNKNOWN and idle and queue.endpoint_id not in self.shut:
                del self._dispatch.queues[queue.endpoint_id]

    def close(self, endpoint_id: str, because: str, now: Micros) -> None:
        """Nothing but tests is sent there any more, until `reopen`."""
        self.shut[endpoint_id] = because
        if queue := self.queues.get(endpoint_id):
            self._aim(queue, now)

    def reopen(self, endpoint_id: str, now: Micros) -> None:
        """Its definition alone says whether it is enabled."""
        if self.shut.pop(endpoint_id, None) is not None and (queue := self.queues.get(endpoint_id)):
            self._aim(queue, now)

    def queue_of(self, endpoint_id: str, partition: int, now: Micros) -> EndpointQueue:
        """The endpoint's queue; made, if it has none."""
        queue = self.queues.get(endpoint_id)
        if queue is None:
            queue = self._dispatch.queues[endpoint_id] = EndpointQueue(endpoint_id, partition)
            self._aim(queue, now)
        return queue

    def _aim(self, queue: EndpointQueue, now: Micros) -> None:
        target = self._targets.get(queue.endpoint_id, UNKNOWN)
        queue.aim(target, target.closed or self.shut.get(queue.endpoint_id), now)
        self._dispatch.wake(queue)

    def _queue(self, delivery: Delivery) -> EndpointQueue:
        return self.queue_of(delivery.endpoint_id, delivery.partition, delivery.accepted_at)

    def _enter(self, delivery: Delivery) -> None:
        self._open[delivery.digest] = delivery
        newest = self._newest.get(delivery.identity)
        if newest is None or newest.redriven < delivery.redriven:
            self._newest[delivery.identity] = delivery
        self._queue(delivery)

    # --- taking in ---

    def accept(self, partition: int, arrived: Sequence[tuple[int, Notification]], now: Micros) -> Accepted:
        """Take in notifications, by their offsets, but for those that are known."""
        digests = [digest_of(each.endpoint_id, each.notification_id, each.redriven) for _, each in arrived]
        known = self._journals[partition].remembered.knows(digests) if arrived else []
        opened: dict[int, Delivery] = {}
        concluded: list[Conclusion] = []
        waiting: Counter[str] = Counter()
        repeats = 0
        for (offset, notification), digest, over in zip(arrived, digests, known, strict=True):
            if over or digest in self._open:
                repeats += 1
                continue
            delivery = Delivery.of(notification, partition, offset, now)
            earlier = self._newest.get(delivery.identity)
            self._enter(delivery)
            queue = self._queue(delivery)
            if anew := self._superseded(delivery):
                concluded.append(self._decide(delivery, Outcome.EXHAUSTED, anew, now))
                continue
            if earlier is not None and not earlier.under_way:
                queue.remove(earlier)
                opened.pop(earlier.digest, None)
                concluded.append(self._decide(earlier, Outcome.EXHAUSTED, self._superseded(earlier), now))
            full = len(queue) + waiting[queue.endpoint_id] >= self._policy.backlog
            if full and delivery.type != ENDPOINT_TEST:
                reason = f"{self._policy.backlog:,} deliveries to this endpoint are waiting already"
                concluded.append(self._decide(delivery, Outcome.PARKED, reason, now))
                continue
            waiting[queue.endpoint_id] += 1
            opened[digest] = delivery
        return Accepted(list(opened.values()), concluded, repeats)

    def _superseded(self, delivery: Delivery) -> str:
        newest = self._newest.get(delivery.identity)
        return "" if newest is None or newest is delivery else "it is delivered anew, as a person has asked"

    def opened(self, deliveries: Iterable[Delivery]) -> None:
        """They are durable: they may begin."""
        queues = set()
        for delivery in deliveries:
            queue = self._queue(delivery)
            queue.add(delivery)
            queues.add(queue)
        for queue in queues:
            self._dispatch.wake(queue)

    # --- sending ---

    def begin(self, now: Micros, most: int = sys.maxsize, most_late: int = sys.maxsize) -> list[Delivery]:
        """Those whose next attempt begins now, at most so many; see `Dispatch.begin`."""
        return self._dispatch.begin(now, most, most_late)

    @property
    def behind(self) -> bool:
        """Whether something waits for room."""
        return self._dispatch.behind

    def next_at(self) -> Micros | None:
        """When the next attempt may begin; None when that is not a matter of time."""
        return self._dispatch.next_at()

    def conclude(
        self, delivery: Delivery, channel: str, response: Response, started_at: Micros, now: Micros
    ) -> Conclusion:
        """The attempt that was begun has come to this."""
        delivery.attempts += 1
        test = delivery.type == ENDPOINT_TEST
        schedule = _ONCE if test else self._policy.schedule
        following = follows(
            response.verdict, schedule, delivery.key, delivery.attempts, response.retry_after, now
        )
        if following.at is not None and self._superseded(delivery):
            following = Next(Outcome.EXHAUSTED)
        queue = self._queue(delivery)
        queue.pause(response.retry_after, now)
        if response.verdict is Verdict.DELIVERED:
            queue.health.succeeded()
        elif not test:
            queue.health.failed(now, response.error or f"status {response.status}")
        if response.verdict is Verdict.GONE and queue.closed is None:
            self.close(delivery.endpoint_id, "the receiver answered 410 Gone", now)
        if following.at is not None:
            delivery.due_at = following.at
        record = attempt_record(delivery, channel, response, following, started_at, now)
        return self._conclusion(delivery, record, over=following.at is None, attempted=True, now=now)

    def park(self, now: Micros, most: int) -> list[Conclusion]:
        """Those that wait at endpoints that are disabled, or aren't there; at most so many."""
        parked: list[Conclusion] = []
        for queue in self.queues.values():
            if queue.closed is None:
                continue
            unknown = queue.target.endpoint is None
            patience = _UNKNOWN_PATIENCE if unknown else _CLOSED_PATIENCE
            outcome = Outcome.REFUSED if unknown else Outcome.PARKED
            parked += [
                self._decide(each, outcome, queue.closed, now)
                for each in queue.parkable(now, patience, most - len(parked))
            ]
        return parked

    def _decide(self, delivery: Delivery, outcome: Outcome, reason: str, now: Micros) -> Conclusion:
        endpoint = self._queue(delivery).target.endpoint
        record = decision_record(delivery, endpoint.channel if endpoint else "", outcome, reason, now)
        return self._conclusion(delivery, record, over=True, attempted=False, now=now)

    def _conclusion(
        self, delivery: Delivery, record: dict[str, Any], *, over: bool, attempted: bool, now: Micros
    ) -> Conclusion:
        at = self._journals[delivery.partition].stamp(delivery.digest, now)
        entry = pack(delivery, over=over, concluded_at=at, record=record)
        return Conclusion(delivery, entry, record, over, attempted)

    def settled(self, conclusion: Conclusion, now: Micros) -> None:
        """Its entry is durable."""
        delivery = conclusion.delivery
        if conclusion.over:
            self._open.pop(delivery.digest, None)
            if self._newest.get(delivery.identity) is delivery:
                del self._newest[delivery.identity]
            journal = self._journals[delivery.partition]
            journal.over(Over(delivery.digest, delivery.created_at), now)
        if conclusion.attempted:
            self._dispatch.ended(delivery)

    def logged(self, conclusion: Conclusion) -> None:
        """Its record is in the log: if another attempt follows, it may be made."""
        delivery = conclusion.delivery
        over = Over(delivery.digest, delivery.created_at) if conclusion.over else None
        self._journals[delivery.partition].logged(delivery.digest, over)
        delivery.under_way = False
        if over is None:
            queue = self._queue(delivery)
            queue.add(delivery)
            self._dispatch.wake(queue)


def folded_keys(fold: Fold) -> dict[bytes, bytes | None]:
    """The entries to be deleted once the blocks are durable."""
    return {key_of(over.digest): None for over in fold.folded}

"""Whatever receivers answer, whenever the process is killed: no delivery is lost, and the log is whole."""

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from schemas.time import SECOND, Micros
from streams.deliveries.channel import Response
from streams.deliveries.delivery import Delivery
from streams.deliveries.journal import LOGGED
from streams.deliveries.notification import Notification
from streams.deliveries.outbox import Conclusion, Outbox, Policy, folded_keys
from streams.deliveries.schedule import Schedule
from tests.streams.deliveries.outboxes import BROKEN, OK, T0, notification, target

_TARGETS = {
    "one": target("one", concurrency=1),
    "many": target("many", concurrency=8),
    "slow": target("slow", concurrency=4, rate=5),
}
_SCHEDULE = Schedule(tuple(range(SECOND // 10, SECOND, SECOND // 20)), jitter=0.1)
_PHASES = (Phase.reuse, Phase.generate)  # a smaller seed is no simpler world
_POLICY = Policy(schedule=_SCHEDULE, most_under_way=10)


class KilledError(Exception):
    """The process is gone."""


@dataclass
class World:
    """A source, a state and a log that last, receivers that count, and a process that doesn't last."""

    random: random.Random
    source: list[Notification] = field(default_factory=list)
    committed: int = 0
    entries: dict[bytes, bytes] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)
    received: Counter[tuple[str, int]] = field(default_factory=Counter)
    cut_off: int = 0
    """Requests that were answered with success, and that the state doesn't know of."""
    now: Micros = T0
    good: bool = False
    under_way: list[tuple[Delivery, Micros]] = field(default_factory=list)
    begun: dict[str, list[Micros]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.outbox = Outbox(_POLICY)
        self.outbox.aim(_TARGETS, self.now)
        unlogged = self.outbox.restore(0, self.entries, self.now)
        self.begun.clear()
        self.log += [entry.record for entry in unlogged if entry.record]
        self.outbox.resent(unlogged)

    def kill(self) -> None:
        for delivery, _ in self.under_way:
            if self.random.random() < 0.3:
                self._receive(delivery)
                self.cut_off += 1
        self.under_way = []
        self.start()

    def _receive(self, delivery: Delivery) -> None:
        self.received[delivery.notification_id, delivery.redriven] += 1

    def _maybe_killed(self) -> None:
        if not self.good and self.random.random() < 0.03:
            raise KilledError

    def publish(self) -> None:
        for _ in range(self.random.randrange(1, 20)):
            chance = self.random.random()
            if self.source and chance < 0.2:
                again = self.random.choice(self.source)
                redriven = again.redriven + (chance < 0.05)
                self.source.append(notification(int(again.notification_id[1:]), again.endpoint_id, redriven))
            else:
                self.source.append(notification(len(self.source), self.random.choice(list(_TARGETS))))

    def fetch(self) -> None:
        arrived = list(enumerate(self.source))[self.committed : self.committed + 30]
        accepted = self.outbox.accept(0, arrived, self.now)
        self._maybe_killed()
        for key, entry in accepted.entries().items():
            self._write(key, entry)
            self._maybe_killed()
        self.outbox.opened(accepted.opened)
        for each in accepted.concluded:
            self._tell(each)
        self._maybe_killed()
        self.committed += len(arrived)

    def begin(self) -> None:
        for delivery in self.outbox.begin(self.now):
            self.begun[delivery.endpoint_id].append(self.now)
            self.under_way.append((delivery, self.now))
        for id_, known in _TARGETS.items():
            assert known.endpoint is not None
            at_once = sum(each.endpoint_id == id_ for each, _ in self.under_way)
            assert at_once <= known.endpoint.concurrency

    def answer(self) -> None:
        if not self.under_way:
            return
        delivery, started = self.under_way.pop(self.random.randrange(len(self.under_way)))
        fine = self.good or self.random.random() < 0.5
        if fine:
            self._receive(delivery)
        response: Response = OK if fine else BROKEN
        conclusion = self.outbox.conclude(delivery, "webhook", response, started, self.now)
        try:
            self._maybe_killed()
        except KilledError:
            self.cut_off += fine
            raise
        self._write(delivery.key, conclusion.entry)
        self._maybe_killed()
        self._tell(conclusion)

    def _tell(self, conclusion: Conclusion) -> None:
        self.outbox.settled(conclusion, self.now)
        self._maybe_killed()
        self.log.append(conclusion.record)
        self._maybe_killed()
        self.outbox.logged(conclusion)

    def keep_house(self) -> None:
        journal = self.outbox.journals[0]
        if (fold := journal.fold(self.now)) is not None:
            for key, block in fold.blocks.items():
                self._write(key, block)
                self._maybe_killed()
            for key in folded_keys(fold):
                self._write(key, None)
                self._maybe_killed()
        if (until := journal.logged_until()) is not None:
            self._write(LOGGED, until)

    def _write(self, key: bytes, entry: bytes | None) -> None:
        if entry is None:
            self.entries.pop(key, None)
        else:
            self.entries[key] = entry

    def pass_time(self) -> None:
        self.now += self.random.choice([1, SECOND // 100, SECOND // 10, SECOND])

    def live(self, steps: int) -> None:
        acts = [self.publish, self.fetch, self.keep_house, self.pass_time]
        acts += [self.begin] * 3 + [self.answer] * 6
        for _ in range(steps):
            try:
                self.random.choice(acts)()
            except KilledError:
                self.kill()

    def finish(self) -> None:
        """From now on all goes well, until nothing is left."""
        self.good = True
        while self.committed < len(self.source):
            self.fetch()
        while self.outbox or self.under_way:
            self.begin()
            while self.under_way:
                self.answer()
            self.keep_house()
            self.now = max(self.now + 1, self.outbox.next_at() or 0)
        self.now += 10 * SECOND
        self.keep_house()


@given(st.integers(0, 2**32))
@settings(max_examples=30, deadline=None, phases=_PHASES)
@pytest.mark.slow
def test_nothing_is_lost_and_only_what_a_kill_cut_off_is_doubled(seed: int) -> None:
    world = World(random.Random(seed))
    world.live(400)
    world.finish()

    attempts: dict[tuple[str, int], dict[int, dict[str, Any]]] = defaultdict(dict)
    for record in world.log:
        of = attempts[record["notification_id"], record["redriven"]]
        assert of.setdefault(record["attempt"], record) == record  # told twice, it is the same
    wanted = {(each.notification_id, each.redriven) for each in world.source}
    assert set(attempts) == wanted
    for identity, of in attempts.items():
        made = sorted(set(of) - {0})
        assert made == list(range(1, len(made) + 1))
        over = [each["outcome"] for each in of.values() if each["next_attempt_at"] is None]
        assert len(over) == 1
        if over == ["delivered"]:
            assert world.received[identity] >= 1
        for earlier, later in pairwise(made):
            assert of[later]["started_at"] >= of[earlier]["next_attempt_at"]
    # Asked for anew, a delivery need not be made by its earlier asking.
    delivered = {id_ for (id_, _), count in world.received.items() if count}
    exhausted = {id_ for (id_, _), of in attempts.items() if len(of) == _SCHEDULE.attempts}
    assert {id_ for id_, _ in wanted} <= delivered | exhausted
    assert sum(count - 1 for count in world.received.values()) <= world.cut_off


@given(st.integers(0, 2**32))
@settings(max_examples=10, deadline=None, phases=_PHASES)
def test_what_is_over_leaves_nothing_but_its_id(seed: int) -> None:
    world = World(random.Random(seed))
    world.live(300)
    world.finish()
    assert not any(key.startswith(b"d") for key in world.entries)
    offset = len(world.source)
    again = world.outbox.accept(0, [(offset + i, each) for i, each in enumerate(world.source)], world.now)
    assert again.opened == []
    world.start()
    assert world.outbox.accept(0, list(enumerate(world.source)), world.now).opened == []


@given(st.integers(0, 2**32))
@settings(max_examples=10, deadline=None, phases=_PHASES)
def test_the_rate_is_kept_in_every_span_of_time(seed: int) -> None:
    world = World(random.Random(seed))
    world.good = True
    world.live(400)
    begun = world.begun["slow"]
    for first, at in enumerate(begun):
        for last in range(first, len(begun)):
            assert last - first + 1 <= 5 * ((begun[last] - at) / SECOND + 0.1) + 1

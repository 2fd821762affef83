"""Endpoints that fail without a break: people are warned, then they are disabled."""

import orjson

from schemas.time import DAY, HOUR, MINUTE, Micros
from streams.deliveries.channel import Response
from streams.deliveries.endpoint_watch import EndpointWatch, Notice, Seen
from streams.deliveries.notice import notices
from streams.deliveries.outbox import Policy
from streams.deliveries.outcome import Verdict
from streams.deliveries.schedule import Schedule
from tests.streams.deliveries.outboxes import BROKEN, OK, T0, Bench, notification, target

LIMIT = 5 * DAY


class Watched:
    """A bench whose one endpoint is tried every hour, and watched."""

    def __init__(self) -> None:
        self.bench = Bench(Policy(schedule=Schedule((), jitter=0)))
        self.watch = EndpointWatch(LIMIT)
        self.notices: list[Notice] = []
        self.seen = Seen()
        self._number = 0

    def attempt(self, now: Micros, response: Response) -> None:
        self._number += 1
        self.bench.accept(notification(self._number), now=now)
        for delivery in self.bench.outbox.begin(now):
            self.bench.conclude(delivery, response, now)

    def look(self, now: Micros) -> Seen:
        self.seen = self.watch.look(self.bench.outbox, now)
        self.notices += self.seen.notices
        for entries in self.seen.entries.values():
            self.bench.write(entries)
        return self.seen

    def fail(self, begin: Micros, end: Micros) -> None:
        for now in range(begin, end, HOUR):
            self.attempt(now, BROKEN)
            self.look(now)

    def restart(self, now: Micros) -> None:
        self.bench.restart(now)
        self.watch = EndpointWatch(LIMIT)
        self.watch.restore(0, self.bench.entries, self.bench.outbox, now)


def test_people_are_warned_at_half_at_seven_and_at_nine_tenths_and_told_of_the_end() -> None:
    watched = Watched()
    watched.fail(T0, T0 + 5 * DAY + HOUR)
    assert [(each.share, each.disabled_because) for each in watched.notices] == [
        (0.5, None),
        (0.7, None),
        (0.9, None),
        (1.0, "every attempt for 5 days has failed"),
    ]
    assert list(watched.seen.disable) == ["hook"]


def test_one_success_begins_anew() -> None:
    watched = Watched()
    watched.fail(T0, T0 + 4 * DAY)
    watched.attempt(T0 + 4 * DAY, OK)
    watched.fail(T0 + 4 * DAY + HOUR, T0 + 6 * DAY)
    assert [each.share for each in watched.notices] == [0.5, 0.7]
    assert watched.seen.disable == {}


def test_a_restart_knows_since_when_it_fails_and_what_people_were_told() -> None:
    watched = Watched()
    watched.fail(T0, T0 + 3 * DAY)
    watched.restart(T0 + 3 * DAY)
    watched.fail(T0 + 3 * DAY, T0 + 5 * DAY + HOUR)
    assert [each.share for each in watched.notices] == [0.5, 0.7, 0.9, 1.0]


def test_a_definition_is_disabled_until_it_says_so_also_after_a_restart() -> None:
    watched = Watched()
    watched.attempt(T0, Response(Verdict.GONE, 410))
    assert watched.look(T0).disable["hook"].revision == 1
    watched.restart(T0)
    assert "hook" in watched.look(T0).disable
    watched.bench.outbox.aim({"hook": target(revision=2, enabled=False)}, T0)
    assert watched.look(T0).disable == {}
    assert not any(key.startswith((b"e", b"x")) for key in watched.bench.entries)
    watched.attempt(T0, OK)
    assert watched.bench.outbox.under_way == 0
    assert len(watched.notices) == 1


def test_who_enables_it_again_gives_it_a_new_life() -> None:
    watched = Watched()
    watched.fail(T0, T0 + 5 * DAY + HOUR)
    watched.bench.outbox.aim({"hook": target(revision=2, enabled=False)}, T0 + 6 * DAY)
    watched.look(T0 + 6 * DAY)
    watched.bench.outbox.aim({"hook": target(revision=3)}, T0 + 6 * DAY)
    watched.fail(T0 + 6 * DAY, T0 + 8 * DAY)
    assert watched.seen.disable == {}
    assert watched.bench.outbox.queues["hook"].closed is None


def test_an_endpoint_that_nothing_was_sent_to_for_long_is_not_disabled_by_the_clock_alone() -> None:
    watched = Watched()
    watched.fail(T0, T0 + DAY)
    assert watched.look(T0 + 6 * DAY).disable == {}
    watched.attempt(T0 + 6 * DAY, BROKEN)
    assert "hook" in watched.look(T0 + 6 * DAY).disable


def test_a_short_failure_writes_nothing() -> None:
    watched = Watched()
    watched.attempt(T0, BROKEN)
    assert watched.look(T0 + MINUTE - 1).entries == {}
    watched.attempt(T0 + MINUTE - 1, OK)
    assert watched.look(T0 + HOUR).entries == {}


def test_an_endpoint_that_is_deleted_leaves_nothing() -> None:
    watched = Watched()
    watched.fail(T0, T0 + 2 * HOUR)
    assert any(key.startswith(b"e") for key in watched.bench.entries)
    watched.bench.outbox.aim({}, T0 + DAY)
    watched.look(T0 + DAY)
    watched.bench.outbox.aim({}, T0 + DAY)
    assert not any(key.startswith((b"e", b"x")) for key in watched.bench.entries)
    assert watched.bench.outbox.queues == {}


def test_those_who_ask_for_it_are_told_but_not_the_endpoint_itself() -> None:
    watched = Watched()
    watched.fail(T0, T0 + 3 * DAY)
    endpoints = [
        target().endpoint,
        target("mail").endpoint,
        target("off", enabled=False).endpoint,
        target("picky", subscriptions=[{"types": ["alert.*"]}]).endpoint,
    ]
    failing, *_ = known = [each for each in endpoints if each is not None]
    [told] = notices(watched.notices[0], failing, known, LIMIT, T0)
    assert (told.endpoint_id, told.type) == ("mail", "endpoint.failing")
    data = orjson.loads(told.body)["data"]
    assert (data["endpoint_id"], data["share"], data["disabled"]) == ("hook", 0.5, False)
    assert data["to_be_disabled_at"] == "2027-01-20T08:00:00.000Z"
    assert (
        notices(watched.notices[0], failing, known, LIMIT, T0 + HOUR)[0].notification_id
        == told.notification_id
    )

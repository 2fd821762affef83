"""Deliveries from their coming to their end: what is begun when, and what a restart knows."""

from collections.abc import Iterator

import pytest

from schemas.time import DAY, HOUR, MINUTE, SECOND
from streams.deliveries.channel import Response
from streams.deliveries.outbox import Outbox, Policy
from streams.deliveries.outcome import Verdict
from streams.deliveries.schedule import Schedule
from tests.streams.deliveries.outboxes import BROKEN, OK, T0, Bench, notification, target

EXACT = Schedule(jitter=0)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench(Policy(schedule=EXACT))
    yield bench
    assert bench.outbox.under_way >= 0


def test_a_notification_is_attempted_at_once_and_over_when_delivered(bench: Bench) -> None:
    bench.accept(notification(1))
    [delivery] = bench.outbox.begin(T0)
    bench.conclude(delivery, OK, T0)
    assert bench.outcomes() == [("n1", 1, "delivered")]
    assert len(bench.outbox) == 0
    assert bench.outbox.next_at() is None


def test_one_that_fails_comes_again_by_the_schedule_until_there_is_no_other_attempt(bench: Bench) -> None:
    bench.accept(notification(1))
    now = T0
    waits = []
    while (at := bench.outbox.next_at()) is not None:
        waits.append((at - now) // SECOND)
        now = at
        [delivery] = bench.outbox.begin(now)
        bench.conclude(delivery, BROKEN, now)
    assert waits == [0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400]
    assert [outcome for *_, outcome in bench.outcomes()] == ["failed"] * 9 + ["exhausted"]
    assert bench.log[0]["next_attempt_at"] == T0 + 5 * SECOND


def test_nothing_begins_before_it_is_durable(bench: Bench) -> None:
    accepted = bench.outbox.accept(0, [(0, notification(1))], T0)
    assert bench.outbox.begin(T0) == []
    bench.outbox.opened(accepted.opened)
    assert bench.outbox.begin(T0) == accepted.opened


def test_the_next_attempt_waits_for_the_record_of_the_last_one(bench: Bench) -> None:
    bench.accept(notification(1))
    [delivery] = bench.outbox.begin(T0)
    conclusion = bench.outbox.conclude(delivery, "webhook", BROKEN, T0, T0)
    bench.outbox.settled(conclusion, T0)
    assert bench.outbox.begin(T0 + HOUR) == []
    bench.outbox.logged(conclusion)
    assert bench.outbox.begin(T0 + HOUR) == [delivery]


def test_an_endpoint_gets_so_many_at_once_as_it_says_in_the_order_they_came() -> None:
    bench = Bench(targets={"hook": target(concurrency=3)})
    bench.accept(*map(notification, range(10)))
    first = bench.outbox.begin(T0)
    assert [each.notification_id for each in first] == ["n0", "n1", "n2"]
    assert bench.outbox.begin(T0) == []
    bench.conclude(first[1], OK, T0)
    assert [each.notification_id for each in bench.outbox.begin(T0)] == ["n3"]


def test_a_rate_is_kept() -> None:
    bench = Bench(targets={"hook": target(rate=10, concurrency=64)})
    bench.accept(*map(notification, range(30)))
    begun, now = [], T0
    while len(begun) < 30:
        for delivery in bench.outbox.begin(now):
            begun.append(now)
            bench.conclude(delivery, OK, now)
        now = bench.outbox.next_at() or now
    assert (begun[-1] - begun[0]) / SECOND == pytest.approx(2.8, abs=0.01)
    assert max(sum(at <= other < at + SECOND for other in begun) for at in begun) <= 12


def test_an_endpoint_that_never_answers_delays_no_other() -> None:
    bench = Bench(targets={"dead": target("dead"), "hook": target()})
    bench.accept(*(notification(number, "dead") for number in range(1000)))
    hanging = bench.outbox.begin(T0)
    assert len(hanging) == 4
    bench.accept(notification(5000))
    assert [each.endpoint_id for each in bench.outbox.begin(T0)] == ["hook"]


def test_endpoints_that_keep_failing_leave_room_for_the_others() -> None:
    dead = {f"dead{i}": target(f"dead{i}") for i in range(40)}
    bench = Bench(Policy(schedule=EXACT, most_under_way=20), dead | {"hook": target()})
    now = T0
    for _ in range(6):  # until all have failed often enough to be tried one at a time
        bench.accept(*(notification(now + i, f"dead{i}") for i in range(40)), now=now)
        while begun := bench.outbox.begin(now):
            for delivery in begun:
                bench.conclude(delivery, BROKEN, now)
        now += SECOND
    bench.accept(*(notification(j * 100 + i, f"dead{i}") for i in range(40) for j in range(5)), now=now)
    assert len(bench.outbox.begin(now)) == 10
    bench.accept(*(notification(10**6 + i) for i in range(4)), now=now)
    assert [each.endpoint_id for each in bench.outbox.begin(now)] == ["hook"] * 4


def test_held_endpoints_get_their_turn() -> None:
    dead = {f"dead{i}": target(f"dead{i}") for i in range(9)}
    bench = Bench(Policy(schedule=EXACT, most_under_way=4), dead)
    now, tried = T0, set()
    bench.accept(*(notification(j * 100 + i, f"dead{i}") for i in range(9) for j in range(8)))
    for _ in range(500):
        for delivery in bench.outbox.begin(now):
            if delivery.attempts == 0:
                tried.add(delivery.digest)
            bench.conclude(delivery, BROKEN, now)
        now = bench.outbox.next_at() or now
    assert len(tried) == 72


def test_what_is_late_waits_for_room_and_what_is_in_time_does_not_wait_for_it() -> None:
    bench = Bench(targets={f"e{i}": target(f"e{i}", concurrency=2) for i in range(6)})
    bench.accept(*(notification(i, f"e{i % 5}") for i in range(20)))
    now = T0 + MINUTE
    bench.accept(notification(100, "e5", at=now), now=now)
    begun = bench.outbox.begin(now, 10, 3)
    assert [each.endpoint_id for each in begun] == ["e0", "e0", "e1", "e5"]
    assert bench.outbox.behind
    for delivery in begun:
        bench.conclude(delivery, OK, now)
    done = len(begun)
    while begun := bench.outbox.begin(now, 10, 4):
        assert len(begun) <= 4
        for delivery in begun:
            bench.conclude(delivery, OK, now)
            done += 1
    assert done == 21
    assert not bench.outbox.behind


def test_a_receiver_that_asks_for_a_pause_gets_it_for_all_its_deliveries_a_minute_at_most(
    bench: Bench,
) -> None:
    bench.accept(notification(1), notification(2), notification(3), notification(4), notification(5))
    first, *_ = bench.outbox.begin(T0)
    bench.conclude(first, Response(Verdict.FAILED, 429, retry_after=3600), T0)
    assert bench.outbox.begin(T0 + 59 * SECOND) == []
    assert [each.notification_id for each in bench.outbox.begin(T0 + 60 * SECOND)] == ["n5"]
    assert bench.log[0]["next_attempt_at"] == T0 + HOUR


# --- told twice ---


def test_a_repeat_of_what_is_open_or_over_is_ignored_also_after_a_restart(bench: Bench) -> None:
    bench.accept(notification(1), notification(2), notification(1))
    assert bench.accept(notification(2)) == []
    first, second = bench.outbox.begin(T0)
    bench.conclude(first, OK, T0)
    assert bench.accept(notification(1)) == []
    bench.restart(T0)
    assert bench.accept(notification(1), notification(2)) == []
    bench.keep_house(T0 + MINUTE)
    bench.restart(T0)
    assert bench.accept(notification(1), notification(2)) == []
    assert [each.digest for each in bench.outbox.begin(T0)] == [second.digest]


def test_a_redrive_delivers_anew_under_the_same_id(bench: Bench) -> None:
    bench.accept(notification(1))
    [delivery] = bench.outbox.begin(T0)
    bench.conclude(delivery, OK, T0)
    bench.accept(notification(1, redriven=1), now=T0 + DAY)
    [anew] = bench.outbox.begin(T0 + DAY)
    bench.conclude(anew, OK, T0 + DAY)
    assert bench.accept(notification(1), notification(1, redriven=1)) == []
    assert [each["attempt_id"] for each in bench.log] == ["n1/0/1", "n1/1/1"]


def test_a_redrive_takes_the_place_of_what_is_still_waiting(bench: Bench) -> None:
    bench.accept(notification(1))
    [delivery] = bench.outbox.begin(T0)
    bench.conclude(delivery, BROKEN, T0)
    bench.accept(notification(1, redriven=1), now=T0 + SECOND)
    [anew] = bench.outbox.begin(T0 + SECOND)
    assert anew.redriven == 1
    assert bench.outcomes() == [("n1", 1, "failed"), ("n1", 0, "exhausted")]
    bench.conclude(anew, OK, T0 + SECOND)
    assert bench.outbox.next_at() is None


def test_what_is_under_way_when_it_is_redriven_is_not_tried_again(bench: Bench) -> None:
    bench.accept(notification(1))
    [delivery] = bench.outbox.begin(T0)
    bench.accept(notification(1, redriven=1))
    assert bench.conclude(delivery, BROKEN, T0).over
    [anew] = bench.outbox.begin(T0)
    assert anew.redriven == 1


# --- disabled, unknown, too many ---


def test_deliveries_to_a_disabled_endpoint_are_parked_and_can_be_redriven() -> None:
    bench = Bench(targets={"hook": target(enabled=False, disabled_because="410 Gone")})
    bench.accept(notification(1))
    assert bench.outbox.begin(T0) == []
    assert bench.outbox.park(T0 + SECOND, 10) == []
    [parked] = bench.outbox.park(T0 + 2 * SECOND, 10)
    bench.settle(parked, T0)
    assert bench.outcomes() == [("n1", 0, "parked")]
    assert bench.log[0]["error"] == "410 Gone"
    bench.outbox.aim({"hook": target(revision=2)}, T0)
    bench.accept(notification(1, redriven=1))
    assert len(bench.outbox.begin(T0)) == 1


def test_what_comes_just_before_its_endpoint_is_known_waits_for_it() -> None:
    bench = Bench(targets={})
    bench.accept(notification(1))
    assert bench.outbox.park(T0 + 29 * SECOND, 10) == []
    bench.outbox.aim({"hook": target()}, T0 + 29 * SECOND)
    assert len(bench.outbox.begin(T0 + 29 * SECOND)) == 1


def test_what_is_for_an_endpoint_that_does_not_exist_is_refused() -> None:
    bench = Bench(targets={})
    bench.accept(notification(1))
    [refused] = bench.outbox.park(T0 + 30 * SECOND, 10)
    assert (refused.record["outcome"], refused.record["error"]) == ("refused", "there is no such endpoint")


def test_410_closes_the_endpoint_at_once_and_parks_what_waits(bench: Bench) -> None:
    bench.accept(*map(notification, range(6)))
    first, second, *_ = bench.outbox.begin(T0)
    bench.conclude(first, Response(Verdict.GONE, 410), T0)
    bench.conclude(second, BROKEN, T0)
    assert bench.outbox.begin(T0 + MINUTE) == []
    parked = bench.outbox.park(T0 + MINUTE, 10)
    assert {each.delivery.notification_id for each in parked} == {"n1", "n4", "n5"}
    assert bench.outcomes()[0] == ("n0", 1, "parked")


def test_a_test_is_sent_to_a_disabled_endpoint_too_and_once_only() -> None:
    bench = Bench(targets={"hook": target(enabled=False)})
    bench.accept(notification(1, type_="endpoint.test"))
    [delivery] = bench.outbox.begin(T0)
    bench.conclude(delivery, BROKEN, T0)
    assert bench.outcomes() == [("n1", 1, "exhausted")]
    assert bench.outbox.queues["hook"].health.failing_since is None


def test_what_exceeds_an_endpoints_backlog_is_parked() -> None:
    bench = Bench(Policy(backlog=3))
    opened = bench.accept(*map(notification, range(5)))
    assert len(opened) == 3
    assert bench.outcomes() == [("n3", 0, "parked"), ("n4", 0, "parked")]
    assert bench.accept(notification(6)) == []


# --- restarts ---


def test_a_restart_goes_on_where_the_state_is(bench: Bench) -> None:
    bench.accept(notification(1), notification(2))
    first, _ = bench.outbox.begin(T0)
    bench.conclude(first, BROKEN, T0)
    bench.restart(T0 + SECOND)
    assert [each.notification_id for each in bench.outbox.begin(T0 + SECOND)] == ["n2"]
    [again] = bench.outbox.begin(T0 + 5 * SECOND)
    assert (again.notification_id, again.attempts, again.offset) == ("n1", 1, 0)


def test_what_the_log_may_not_know_is_told_again_after_a_restart_as_it_was(bench: Bench) -> None:
    bench.accept(notification(1), notification(2))
    first, second = bench.outbox.begin(T0)
    bench.conclude(first, OK, T0)
    bench.keep_house(T0)
    conclusion = bench.outbox.conclude(second, "webhook", OK, T0, T0 + SECOND)
    bench.write({second.key: conclusion.entry})  # and killed before the log has it
    bench.restart(T0 + MINUTE)
    assert bench.outcomes() == [("n1", 1, "delivered"), ("n2", 1, "delivered")]
    assert bench.log[-1] == conclusion.record


def test_a_request_that_outlives_a_rebalance_is_not_made_again(bench: Bench) -> None:
    bench.accept(notification(1))
    [delivery] = bench.outbox.begin(T0)
    again = Outbox(bench.policy)
    again.aim(bench.targets, T0)
    again.restore(0, bench.entries, T0, {delivery.digest: 1})
    assert again.begin(T0 + HOUR) == []
    found = again.find(delivery.digest)
    assert found is not None
    bench.outbox = again
    bench.conclude(found, OK, T0)
    assert bench.outcomes() == [("n1", 1, "delivered")]


def test_an_attempt_writes_little_however_much_is_open(bench: Bench) -> None:
    bench.accept(*map(notification, range(10_000)))
    written = 0
    for delivery in bench.outbox.begin(T0):
        written += len(bench.outbox.conclude(delivery, "webhook", BROKEN, T0, T0).entry)
    assert written < 4 * 600


def test_what_is_over_leaves_eight_bytes(bench: Bench) -> None:
    for start in range(0, 3000, 500):
        bench.accept(*map(notification, range(start, start + 500)))
        while begun := bench.outbox.begin(T0):
            for delivery in begun:
                bench.conclude(delivery, OK, T0)
        bench.keep_house(T0)
    bench.keep_house(T0 + MINUTE)
    assert sum(map(len, bench.entries.values())) < 3000 * 8 + 100

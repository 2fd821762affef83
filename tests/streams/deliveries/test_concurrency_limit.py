"""No more is begun than can be recorded at once."""

from schemas.time import SECOND, Micros
from streams.deliveries.concurrency_limit import ConcurrencyLimit

MS = SECOND // 1000


def _run(limit: ConcurrencyLimit, count: int, took: Micros, now: Micros = 0) -> None:
    """Attempts one after the other, each recorded in `took`."""
    for digest in range(count):
        now += took
        limit.begun(digest, now)
        limit.answered(digest)
        limit.recorded(digest, took, now)


def test_it_grows_while_recording_is_quick_up_to_the_most() -> None:
    limit = ConcurrencyLimit(100)
    _run(limit, 20_000, 3 * MS)
    assert limit.limit == 100


def test_a_burst_at_the_start_is_begun_soon() -> None:
    limit = ConcurrencyLimit()
    _run(limit, 12, 3 * MS)
    assert limit.limit == 16


def test_it_shrinks_when_recording_takes_longer_but_not_to_nothing() -> None:
    limit = ConcurrencyLimit(100)
    _run(limit, 20_000, 3 * MS)
    _run(limit, 100, 200 * MS, now=100 * SECOND)
    assert limit.limit == 3


def test_a_kafka_that_is_always_slow_is_no_reason_to_slow_down() -> None:
    limit = ConcurrencyLimit(100)
    _run(limit, 20_000, 80 * MS)
    assert limit.limit == 100


def test_a_kafka_that_becomes_slow_is_got_used_to() -> None:
    limit = ConcurrencyLimit(100)
    _run(limit, 1_000, 5 * MS)
    _run(limit, 200, 200 * MS, now=100 * SECOND)
    assert limit.limit == 3
    _run(limit, 20_000, 200 * MS, now=1000 * SECOND)
    assert limit.limit == 100


def test_there_is_no_room_for_more_than_it_says() -> None:
    limit = ConcurrencyLimit()
    _run(limit, 4, MS)
    for digest in range(6):
        limit.begun(digest, 0)
    assert limit.room(0).late == 2
    for digest in range(6):
        limit.answered(digest)
    assert limit.room(SECOND).late == 2
    limit.recorded(0, MS, SECOND)
    assert (limit.limit, limit.room(SECOND).late) == (9, 4)


def test_who_waits_for_its_receiver_for_long_takes_nobodys_turn() -> None:
    limit = ConcurrencyLimit()
    _run(limit, 4, MS)
    for digest in range(8):
        limit.begun(digest, digest * MS)
    assert limit.room(50 * MS).late == 0
    assert limit.room_at() == 100 * MS
    assert limit.room(102 * MS).late == 3
    limit.answered(0)
    assert limit.room(102 * MS).late == 2


def test_what_is_in_time_is_in_more_of_a_hurry_than_a_backlog() -> None:
    limit = ConcurrencyLimit()
    _run(limit, 1000, 200 * MS)
    for digest in range(20):
        limit.begun(digest, 0)
    assert limit.room(0) == (64 - 20, max(0, limit.limit - 20))
    assert ConcurrencyLimit(10).room(0).prompt == 10


def test_what_is_broken_off_makes_room() -> None:
    limit = ConcurrencyLimit(2)
    limit.begun(1, 0)
    limit.begun(2, 0)
    limit.answered(2)
    limit.gone(1)
    limit.gone(2)
    assert limit.room(0).late == 2

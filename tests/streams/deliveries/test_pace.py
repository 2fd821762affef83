"""No more is begun than can be recorded at once."""

from schemas.time import SECOND, Micros
from streams.deliveries.pace import Pace

MS = SECOND // 1000


def _run(pace: Pace, count: int, took: Micros, now: Micros = 0) -> None:
    """Attempts one after the other, each recorded in `took`."""
    for digest in range(count):
        now += took
        pace.begun(digest, now)
        pace.answered(digest)
        pace.recorded(digest, took, now)


def test_it_grows_while_recording_is_quick_up_to_the_most() -> None:
    pace = Pace(100)
    _run(pace, 20_000, 3 * MS)
    assert pace.limit == 100


def test_a_burst_at_the_start_is_begun_soon() -> None:
    pace = Pace()
    _run(pace, 12, 3 * MS)
    assert pace.limit == 16


def test_it_shrinks_when_recording_takes_longer_but_not_to_nothing() -> None:
    pace = Pace(100)
    _run(pace, 20_000, 3 * MS)
    _run(pace, 100, 200 * MS, now=100 * SECOND)
    assert pace.limit == 3


def test_a_kafka_that_is_always_slow_is_no_reason_to_slow_down() -> None:
    pace = Pace(100)
    _run(pace, 20_000, 80 * MS)
    assert pace.limit == 100


def test_a_kafka_that_becomes_slow_is_got_used_to() -> None:
    pace = Pace(100)
    _run(pace, 1_000, 5 * MS)
    _run(pace, 200, 200 * MS, now=100 * SECOND)
    assert pace.limit == 3
    _run(pace, 20_000, 200 * MS, now=1000 * SECOND)
    assert pace.limit == 100


def test_there_is_no_room_for_more_than_it_says() -> None:
    pace = Pace()
    _run(pace, 4, MS)
    for digest in range(6):
        pace.begun(digest, 0)
    assert pace.room(0).late == 2
    for digest in range(6):
        pace.answered(digest)
    assert pace.room(SECOND).late == 2
    pace.recorded(0, MS, SECOND)
    assert (pace.limit, pace.room(SECOND).late) == (9, 4)


def test_who_waits_for_its_receiver_for_long_takes_nobodys_turn() -> None:
    pace = Pace()
    _run(pace, 4, MS)
    for digest in range(8):
        pace.begun(digest, digest * MS)
    assert pace.room(50 * MS).late == 0
    assert pace.room_at() == 100 * MS
    assert pace.room(102 * MS).late == 3
    pace.answered(0)
    assert pace.room(102 * MS).late == 2


def test_what_is_in_time_is_in_more_of_a_hurry_than_a_backlog() -> None:
    pace = Pace()
    _run(pace, 1000, 200 * MS)
    for digest in range(20):
        pace.begun(digest, 0)
    assert pace.room(0) == (64 - 20, max(0, pace.limit - 20))
    assert Pace(10).room(0).prompt == 10


def test_what_is_broken_off_makes_room() -> None:
    pace = Pace(2)
    pace.begun(1, 0)
    pace.begun(2, 0)
    pace.answered(2)
    pace.gone(1)
    pace.gone(2)
    assert pace.room(0).late == 2

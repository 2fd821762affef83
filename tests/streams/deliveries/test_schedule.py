"""When a delivery that failed is tried again."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.time import HOUR, MINUTE, SECOND
from streams.deliveries.schedule import DELAYS, LONGEST_WAIT, Schedule

EXACT = Schedule(jitter=0)


def test_there_are_ten_attempts_over_three_days() -> None:
    waits = [EXACT.wait(b"a", attempt) for attempt in range(1, 11)]
    assert waits == [
        5 * SECOND,
        5 * MINUTE,
        30 * MINUTE,
        2 * HOUR,
        5 * HOUR,
        10 * HOUR,
        14 * HOUR,
        20 * HOUR,
        24 * HOUR,
        None,
    ]
    assert EXACT.attempts == 10


@given(st.binary(min_size=1), st.integers(1, 9))
def test_a_wait_differs_by_a_tenth_at_most_and_is_the_same_when_asked_again(key: bytes, attempt: int) -> None:
    wait = Schedule().wait(key, attempt)
    assert wait is not None
    assert abs(wait - DELAYS[attempt - 1]) <= DELAYS[attempt - 1] / 10
    assert Schedule().wait(key, attempt) == wait


def test_what_failed_together_does_not_come_again_together() -> None:
    waits = {Schedule().wait(b"%d" % number, 2) for number in range(1000)}
    assert len(waits) > 990
    assert max(w for w in waits if w) - min(w for w in waits if w) > 50 * SECOND


def test_a_receiver_can_ask_for_more_time_but_not_for_less_nor_for_more_than_a_day() -> None:
    assert EXACT.wait(b"a", 1, retry_after=120) == 120 * SECOND
    assert EXACT.wait(b"a", 2, retry_after=1) == 5 * MINUTE
    assert EXACT.wait(b"a", 1, retry_after=-3) == 5 * SECOND
    assert EXACT.wait(b"a", 1, retry_after=1e300) == LONGEST_WAIT == 24 * HOUR
    assert EXACT.wait(b"a", 10, retry_after=120) is None

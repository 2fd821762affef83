"""Events that wait: in the order in which they came, and until the first of their panes closes."""

import pytest

from schemas.time import DAY, HOUR, MINUTE
from streams.windows.aggregate import Events
from streams.windows.panes import Pane
from streams.windows.waiting import Waiting
from tests.streams.windows.requests import NOON, frame, request

MINUTES = Pane("1m", HOUR, MINUTE)
DAYS = Pane("1d", DAY)
NEVER = 2**63 - 1


def events(*requests: tuple[int, int]) -> Events:
    """Events of an offset and a time each."""
    return Events(frame([request(offset, at) for offset, at in requests]))


def test_nothing_waits_and_closes_nothing_at_first() -> None:
    waiting = Waiting([MINUTES])
    assert (len(waiting), waiting.closes) == (0, NEVER)


def test_the_first_pane_of_any_event_says_when_they_are_to_be_counted() -> None:
    waiting = Waiting([DAYS, MINUTES])
    waiting.add(events((0, NOON + 2 * MINUTE), (1, NOON + MINUTE + 1)), NOON)
    assert (len(waiting), waiting.closes) == (2, NOON + 2 * MINUTE)
    waiting.add(events((2, NOON + 5 * MINUTE)), NOON)
    assert (len(waiting), waiting.closes) == (3, NOON + 2 * MINUTE)
    waiting.add(events((3, NOON + MINUTE - 1), (4, NOON + MINUTE)), NOON)
    assert (len(waiting), waiting.closes) == (5, NOON + MINUTE)


def test_the_day_is_over_before_the_minute_where_there_is_no_minute() -> None:
    waiting = Waiting([DAYS])
    waiting.add(events((0, NOON)), NOON)
    assert waiting.closes == NOON - NOON % DAY + DAY


def test_without_panes_nothing_closes() -> None:
    waiting = Waiting([])
    waiting.add(events((0, NOON)), NOON)
    assert (len(waiting), waiting.closes) == (1, NEVER)


@pytest.mark.parametrize("batches", [1, 2, 3])
def test_they_are_taken_in_order_with_the_watermark_before_the_first(batches: int) -> None:
    waiting = Waiting([MINUTES])
    for number in range(batches):
        waiting.add(events((2 * number, NOON + number), (2 * number + 1, NOON)), NOON + 100 * number)

    taken, watermark = waiting.take()

    assert taken.offsets.tolist() == list(range(2 * batches))
    assert taken.times.tolist() == [NOON + offset // 2 * (offset % 2 == 0) for offset in range(2 * batches)]
    assert watermark == NOON


def test_once_taken_they_wait_no_longer_and_the_next_are_by_themselves() -> None:
    waiting = Waiting([MINUTES])
    waiting.add(events((0, NOON)), NOON - 5)
    waiting.take()
    assert (len(waiting), waiting.closes) == (0, NEVER)
    waiting.add(events((1, NOON + 3 * MINUTE)), NOON + 5)
    assert (len(waiting), waiting.closes) == (1, NOON + 4 * MINUTE)
    taken, watermark = waiting.take()
    assert (taken.offsets.tolist(), watermark) == ([1], NOON + 5)

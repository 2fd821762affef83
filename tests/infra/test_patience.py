"""Whoever starts is waited for as long as it gets on, and no longer than can be meant."""

from itertools import cycle, islice

from hypothesis import given
from hypothesis import strategies as st

from infra.patience import MOST, Patience, Signs

WITHIN = 60.0


def end_of(signs: list[Signs]) -> tuple[int, str] | None:
    """After how many seconds patience was exhausted, with one look a second, and why."""
    patience = Patience(WITHIN, began=0.0)
    for second, seen in enumerate(signs, start=1):
        if (why := patience.exhausted(float(second), seen)) is not None:
            return second, why
    return None


def test_a_process_that_shows_nothing_is_waited_for_once() -> None:
    assert end_of([Signs()] * 60) is None
    assert end_of([Signs()] * 100) == (61, "did not answer within 60 s of its last sign of progress")


def test_a_log_that_grows_steps_and_cpu_are_progress() -> None:
    logging = [Signs(log=second // 50) for second in range(300)]
    stepping = [Signs(steps=second // 50) for second in range(300)]
    computing = [Signs(cpu=0.1 * second) for second in range(300)]

    assert [end_of(each) for each in (logging, stepping, computing)] == [None, None, None]


def test_a_server_that_idles_shows_no_progress() -> None:
    idling = [Signs(log=1, cpu=4 + 0.01 * second) for second in range(300)]

    assert end_of(idling) is not None


@given(st.lists(st.builds(Signs, st.integers(0), st.floats(0, 1e6), st.integers(0)), min_size=1))
def test_there_is_an_end_whatever_is_seen(signs: list[Signs]) -> None:
    end = end_of(list(islice(cycle(signs), 601)))

    assert end is not None
    assert end[0] <= MOST * WITHIN + 1

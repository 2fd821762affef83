"""Parts that are stopped while traffic comes in, and started again: the same figures.

Those that are killed, and everything else that can happen to them, are the subject of tests/faults.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.end_to_end.comparing import (
    assert_in_clickhouse,
    assert_live,
    assert_published,
    assert_raw_history,
    assert_refused_in_clickhouse,
    dead_letters,
    recomputed,
)
from tests.end_to_end.stack import WORKERS, Stack, wait_until

pytestmark = pytest.mark.timeout(900)

GROUPS = {**WORKERS, "sink": "chatgauge-sink-chat.requests"}
"""The parts that are ended, and how each one's progress is known."""


def test_parts_and_then_everything_stopped_in_the_middle_of_the_load_leave_the_same_figures(
    stack: Stack,
) -> None:
    with traffic(stack, seed=100):
        wait_for_progress(stack)
        for part in GROUPS:
            stack.signal(part, signal.SIGTERM)
        wait_for_progress(stack)
        stack.stop()
    stack.start()
    with traffic(stack, seed=101):
        wait_for_progress(stack)

    assert_the_same_figures(stack)
    assert_live(stack, recomputed(stack), "service", window="1h")


@contextmanager
def traffic(stack: Stack, seed: int) -> Iterator[None]:
    """Traffic by the clock, some of it late, with a message that nobody can read in every thousand."""
    arguments = ("simulate", "--rate", 1_500, "--late", "1%", "--corrupt", 20, "--seed", seed)
    with stack.running(*arguments) as sending:
        yield
        sending.kill()


def wait_for_progress(stack: Stack) -> None:
    """Return when each part has acknowledged more of the traffic than it had at first."""
    before = progress(stack)

    def all_progressed() -> bool:
        now = progress(stack)
        return all(now[part] > before[part] + 1_000 for part in GROUPS)

    wait_until(f"every part counts on from {before}", all_progressed)


def progress(stack: Stack) -> dict[str, int]:
    """How many records of chat.requests each part has acknowledged."""
    return {part: stack.log.acknowledged(group, "chat.requests") for part, group in GROUPS.items()}


def assert_the_same_figures(stack: Stack) -> None:
    """As recomputed from all that was sent so far."""
    stack.wait_until_settled()
    expected = recomputed(stack)
    assert_published(stack, expected)
    assert_in_clickhouse(stack, expected)
    assert_raw_history(stack, expected, repeated=True)
    assert expected.refused
    assert dict(dead_letters(stack)) == expected.refused
    assert_refused_in_clickhouse(stack, expected)

"""100,000 made-up requests, some late, some too late, and ten messages that nobody can read."""

import re
from collections import Counter
from datetime import timedelta

import pytest

from tests.end_to_end.comparing import (
    assert_in_clickhouse,
    assert_live,
    assert_published,
    assert_raw_history,
    assert_rebuilt,
    assert_refused_in_clickhouse,
    dead_letters,
    recomputed,
)
from tests.end_to_end.published import figures_of, newest_blocks
from tests.end_to_end.recomputation import SECOND, Recomputation, history
from tests.end_to_end.stack import Stack

pytestmark = pytest.mark.timeout(900)

REQUESTS = 100_000
SECONDS = 50
"""How long the traffic lasts in its own time, which ends when it is sent. The windows follow the clock
where nothing comes, and the latest of the late is 25.9 h late: had the traffic begun six minutes before
it is counted, some would be too late by the clock that are in time by the topic."""
CORRUPT = 10


@pytest.fixture(scope="module")
def sent(stack: Stack) -> str:
    """The traffic, taken by the stack; what the command said."""
    said = stack.run(
        *("simulate", "--count", REQUESTS, "--rate", REQUESTS // SECONDS, "--speed", "max", "--seed", 11),
        *("--late", "1%", "--too-late", "0.1%", "--corrupt", CORRUPT),
    )
    stack.wait_until_settled()
    return said


@pytest.fixture(scope="module")
def expected(stack: Stack, sent: str) -> Recomputation:
    return recomputed(stack)


def test_the_traffic_is_what_this_is_about(sent: str, expected: Recomputation) -> None:
    kinds = {kind: int(count.replace(",", "")) for kind, count in re.findall(r"([a-z -]+) ([\d,]+)", sent)}
    phases = Counter(event["phase"] for event in expected.requests.values())

    assert phases["finished"] == REQUESTS
    assert phases["started"] > REQUESTS // 20
    assert 800 < kinds[" late"] < 1_200
    assert 50 < kinds[" too late"] < 150
    assert len(expected.too_late) == kinds[" too late"]
    assert Counter(expected.refused.values()) == dict.fromkeys(
        ("empty", "left_over_bytes", "malformed", "unknown_format", "unknown_schema"), 2
    )


def test_the_published_windows_are_the_topics(stack: Stack, expected: Recomputation) -> None:
    assert_published(stack, expected)


def test_the_windows_in_clickhouse_are_the_topics(stack: Stack, expected: Recomputation) -> None:
    assert_in_clickhouse(stack, expected)


def test_the_published_seconds_are_the_topics(stack: Stack, expected: Recomputation) -> None:
    """Those of the traffic's own time: older ones are past being live."""
    latest = max(expected.seconds)
    wanted = {second: n for second, n in expected.seconds.items() if second > latest - SECONDS * SECOND}
    blocks = newest_blocks(stack.log, "chat.windows")

    for grouping in ("total", "service"):
        found: Counter[int] = Counter()
        for group, figures in figures_of(
            block for block in blocks if (block["pane"], block["grouping"]) == ("1s", grouping)
        ).items():
            if group.start > latest - SECONDS * SECOND:
                found[group.start] += figures.sums[0]
        assert found == wanted


def test_requests_that_came_too_late_are_in_the_raw_history_alone(
    stack: Stack, expected: Recomputation
) -> None:
    (windows,) = stack.query("SELECT sum(requests) FROM requests_total_per_minute")
    (raw,) = stack.query("SELECT sum(requests) FROM raw_requests_per_minute")

    assert raw == (REQUESTS,)
    assert windows == (REQUESTS - len(expected.too_late),)


def test_once_rebuilt_they_are_in_the_windows_too(stack: Stack, expected: Recomputation) -> None:
    """Asked for the time of those that came too late, of which some have day panes that were counted."""
    occurred = sorted(expected.requests[place]["occurred_at"] for place in expected.too_late)
    first, last = occurred[0].isoformat(), (occurred[-1] + timedelta(minutes=1)).isoformat()

    said = stack.run("rebuild", "--from", first, "--to", last)

    assert re.search(r"^rebuilt [\d,]+ minutes$", said, re.MULTILINE), said
    assert_rebuilt(stack, history(expected))


def test_every_corrupt_message_is_one_dead_letter(stack: Stack, expected: Recomputation) -> None:
    letters = dead_letters(stack)

    assert len(letters) == CORRUPT
    assert dict(letters) == expected.refused
    assert_refused_in_clickhouse(stack, expected)


def test_the_neighbours_of_corrupt_messages_are_all_there(stack: Stack, expected: Recomputation) -> None:
    assert_raw_history(stack, expected)

    ends = stack.log.ends("chat.requests")
    everything = {(partition, offset) for partition, end in ends.items() for offset in range(end)}
    assert everything == expected.requests.keys() | expected.refused.keys()


def test_the_live_figures_are_the_topics(stack: Stack, expected: Recomputation) -> None:
    for grouping in ("total", "model", "space"):
        assert_live(stack, expected, grouping, window="30m")

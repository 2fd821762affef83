"""An hour of a real service's traffic, replayed: every figure of every minute is the file's, exactly."""

import csv
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.end_to_end.published import figures_of, newest_blocks
from tests.end_to_end.recomputation import MINUTE, SECOND, SUMS, Group, assert_same, micros
from tests.end_to_end.stack import Stack

pytestmark = pytest.mark.timeout(600)

SERVICE = "azure-llm-trace"
Minutes = dict[int, tuple[int, int, int]]
"""Start of the minute (microseconds since 1970): requests, prompt tokens, completion tokens."""


@pytest.fixture(scope="module")
def trace(shared_data: Path) -> Path:
    return shared_data / "azure-llm-2023" / "AzureLLMInferenceTrace_conv.csv"


@pytest.fixture(scope="module")
def expected(trace: Path) -> Minutes:
    """Straight from the file."""
    minutes: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    with trace.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            moment = datetime.strptime(line["TIMESTAMP"][:19], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
            at = micros(moment)
            figures = minutes[at - at % MINUTE]
            figures[0] += 1
            figures[1] += int(line["ContextTokens"])
            figures[2] += int(line["GeneratedTokens"])
    return {start: (figures[0], figures[1], figures[2]) for start, figures in minutes.items()}


@pytest.fixture(scope="module")
def replayed(stack: Stack, trace: Path) -> Stack:
    """The stack, after it has taken the trace."""
    said = stack.run("replay", trace, "--speed", "max")
    assert "sent 19,366 messages" in said
    stack.wait_until_settled()
    return stack


def test_the_published_windows_are_the_files(replayed: Stack, expected: Minutes) -> None:
    figures = figures_of(newest_blocks(replayed.log, "chat.windows"))

    wanted = [SUMS.index(name) for name in ("requests", "prompt_tokens", "completion_tokens")]
    for grouping, key in (("total", ()), ("service", (SERVICE,)), ("model", ("azure", "unknown"))):
        found = {
            group.start: tuple(of_group.sums[place] for place in wanted)
            for group, of_group in figures.items()
            if group == Group("1m", group.start, grouping, key)
        }
        assert_same(expected, found)


def test_the_windows_in_clickhouse_are_the_files(replayed: Stack, expected: Minutes) -> None:
    by_service = replayed.query(
        "SELECT toUnixTimestamp(minute), requests, prompt_tokens, completion_tokens "
        "FROM requests_per_minute WHERE service = {service:String}",
        service=SERVICE,
    )
    in_total = replayed.query(
        "SELECT toUnixTimestamp(minute), requests, prompt_tokens, completion_tokens "
        "FROM requests_total_per_minute"
    )

    assert_same(expected, by_minute(by_service))
    assert_same(expected, by_minute(in_total))


def test_the_raw_events_in_clickhouse_are_the_files(replayed: Stack, expected: Minutes) -> None:
    rows = replayed.query(
        "SELECT toUnixTimestamp(toStartOfMinute(occurred_at)) AS minute, "
        "count(), sum(prompt_tokens), sum(completion_tokens) FROM events GROUP BY minute"
    )

    assert_same(expected, by_minute(rows))


def test_the_api_tells_the_same_history(replayed: Stack, expected: Minutes) -> None:
    span = {"start": "2023-11-16T18:15:00Z", "end": "2023-11-16T19:15:00Z", "step": "1m"}
    for kind, measure, place in (
        ("requests", None, 0),
        ("tokens", "prompt", 1),
        ("tokens", "completion", 2),
    ):
        asked = {"type": kind, "aggregation": "sum", **span} | ({"measure": measure} if measure else {})
        answer = replayed.api.get("/api/metrics/historical", params=asked)

        assert answer.status_code == 200, answer.text
        (series,) = answer.json()["series"]
        found = {
            micros(datetime.fromisoformat(point["start"])): point["value"]
            for point in series["points"]
            if point["value"] is not None
        }
        assert_same({start: figures[place] for start, figures in expected.items()}, found)
        assert series["overall"] == sum(figures[place] for figures in expected.values())


def test_a_recorded_trace_moves_no_watermark_and_is_no_live_traffic(replayed: Stack) -> None:
    blocks = newest_blocks(replayed.log, "chat.windows")
    assert blocks
    assert all(block["imported"] for block in blocks)
    assert {block["pane"] for block in blocks} == {"1m", "5m", "1d"}

    live = replayed.api.get("/api/metrics/current", params={"window": "24h"}).json()
    imported = replayed.api.get(
        "/api/metrics/current",
        params={"window": "1h", "include": "imported", "at": "2023-11-16T19:15:00Z"},
    ).json()

    assert live["groups"][0]["requests"] == 0
    assert imported["groups"][0]["requests"] == 19_366


def test_a_trace_sent_twice_counts_once_when_it_is_rebuilt(
    replayed: Stack, trace: Path, expected: Minutes
) -> None:
    asked = (
        "SELECT toUnixTimestamp(minute), requests, prompt_tokens, completion_tokens "
        "FROM requests_total_per_minute"
    )
    replayed.run("replay", trace, "--speed", "max")
    replayed.wait_until_settled()
    assert_same(
        {at: tuple(2 * n for n in row) for at, row in expected.items()}, by_minute(replayed.query(asked))
    )

    said = replayed.run("rebuild", "--from", "2023-11-16T18:00Z", "--to", "2023-11-16T20:00Z")

    assert said == f"rebuilt {len(expected)} minutes\n"
    assert_same(expected, by_minute(replayed.query(asked)))
    span = {"start": "2023-11-16T18:15:00Z", "end": "2023-11-16T19:15:00Z", "step": "1m"}
    for include, requests in (("all", 19_366), ("imported", 19_366), ("live", None)):
        told = replayed.api.get(
            "/api/metrics/historical",
            params={"type": "requests", "aggregation": "sum", "include": include, **span},
        ).json()
        assert [series["overall"] for series in told["series"]] == ([requests] if requests else [])


def by_minute(rows: list[tuple[int, int, int, int]]) -> Minutes:
    """Rows that begin with the minute, in seconds since 1970."""
    return {minute * SECOND: (requests, prompt, completion) for minute, requests, prompt, completion in rows}

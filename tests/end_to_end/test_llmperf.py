"""A benchmark of seven providers, replayed as if it had just ended: errors and latencies per model."""

import csv
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.recomputation import EPOCH, MINUTE, SECOND, exact_quantile, micros, read
from tests.end_to_end.stack import Stack

pytestmark = pytest.mark.timeout(600)

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
MEASURES = {"total": "total_us", "first_token": "first_token_us"}
ERROR = 0.01
"""How far a quantile may be off, of its exact value."""
_ROUNDING = 1e-6

Model = tuple[str, str]
"""Provider and model."""


@dataclass
class Measured:
    """Of one provider and model: durations in microseconds."""

    requests: int = 0
    errors: int = 0
    total: list[int] = field(default_factory=list)
    first_token: list[int] = field(default_factory=list)


@pytest.fixture(scope="module")
def file(shared_data: Path) -> Path:
    return shared_data / "llmperf" / "llmperf_requests.csv"


@pytest.fixture(scope="module")
def expected(file: Path) -> dict[Model, Measured]:
    """Straight from the file. A request that was refused has no duration: what stands there is 0."""
    models: defaultdict[Model, Measured] = defaultdict(Measured)
    with file.open(newline="", encoding="utf-8") as lines:
        for line in csv.DictReader(lines):
            measured = models[line["provider"], f"llama-2-{line['model_size']}-chat"]
            failed = bool(line["error_code"] or line["error_msg"])
            measured.requests += 1
            measured.errors += failed
            if failed and not float(line["end_to_end_latency_s"] or 0):
                continue
            for durations, column in (
                (measured.total, "end_to_end_latency_s"),
                (measured.first_token, "ttft_s"),
            ):
                if line[column]:
                    durations.append(int(float(line[column]) * 1e6))
    return dict(models)


@pytest.fixture(scope="module")
def replayed(stack: Stack, file: Path) -> Stack:
    """The stack, after it has taken the benchmark as live traffic."""
    said = stack.run("replay", file, "--speed", "max", "--shift-to", "now")
    assert "sent 2,845 messages" in said
    stack.wait_until_settled()
    return stack


@pytest.fixture(scope="module")
def by_minute(replayed: Stack) -> dict[tuple[int, Model], Measured]:
    """Where the replay has put the requests in time: from the topic."""
    minutes: defaultdict[tuple[int, Model], Measured] = defaultdict(Measured)
    for record in replayed.log.records("chat.requests"):
        event = read(record)
        assert isinstance(event, dict)
        at = micros(event["occurred_at"])
        measured = minutes[at - at % MINUTE, (event["provider"], event["model"])]
        measured.requests += 1
        measured.errors += event["error_type"] is not None
        for durations, name in ((measured.total, "total_us"), (measured.first_token, "first_token_us")):
            if event[name] is not None:
                durations.append(event[name])
    return dict(minutes)


@pytest.fixture(scope="module")
def current(replayed: Stack) -> dict[Model, dict[str, Any]]:
    """The live figures: the trace lasts not quite eight minutes, and ended when it was sent."""
    answer = replayed.api.get("/api/metrics/current", params={"window": "30m", "grouping": "model"})
    assert answer.status_code == 200, answer.text
    return {(one["key"]["provider"], one["key"]["model"]): one for one in answer.json()["groups"]}


def test_the_file_has_what_this_is_about(expected: dict[Model, Measured]) -> None:
    assert len(expected) == 19
    assert sum(measured.requests for measured in expected.values()) == 2_845
    assert sum(measured.errors for measured in expected.values()) == 539


def test_live_errors_are_the_files(
    current: dict[Model, dict[str, Any]], expected: dict[Model, Measured]
) -> None:
    found = {model: (one["requests"], one["errors"]) for model, one in current.items()}

    assert found == {model: (one.requests, one.errors) for model, one in expected.items()}


def test_live_latencies_are_within_one_percent(
    current: dict[Model, dict[str, Any]], expected: dict[Model, Measured]
) -> None:
    assert current.keys() == expected.keys()
    for model, one in current.items():
        for measure in MEASURES:
            exact = getattr(expected[model], measure)
            found = one["latency_ms"][measure]
            assert found["count"] == len(exact)
            assert_close([found[name] for name in QUANTILES], exact, (model, measure))


def test_errors_in_clickhouse_are_the_files(replayed: Stack, expected: dict[Model, Measured]) -> None:
    windows = replayed.query(
        "SELECT provider, model, sum(requests), sum(errors) FROM requests_by_model GROUP BY provider, model"
    )
    raw = replayed.query(
        "SELECT provider, model, count(), countIf(error_type IS NOT NULL) "
        "FROM requests GROUP BY provider, model"
    )

    wanted = {model: (one.requests, one.errors) for model, one in expected.items()}
    for rows in (windows, raw):
        assert {(provider, model): (n, errors) for provider, model, n, errors in rows} == wanted


def test_latencies_in_clickhouse_are_within_one_percent(
    replayed: Stack, expected: dict[Model, Measured]
) -> None:
    for measure, column in MEASURES.items():
        rows = replayed.query(
            f"SELECT key1, key2, sum({column}_count), "
            f"quantilesDDMerge(0.01, 0.5, 0.95, 0.99)({column}_sketch) "
            "FROM window_rows WHERE grouping = 'model' AND pane = '1m' GROUP BY key1, key2"
        )

        assert {(provider, model) for provider, model, *_ in rows} == expected.keys()
        for provider, model, count, found in rows:
            exact = getattr(expected[provider, model], measure)
            assert count == len(exact)
            if exact:
                assert_close([value / 1_000 for value in found], exact, (provider, model, measure))


def test_the_latencies_of_each_minute_are_within_one_percent(
    replayed: Stack, by_minute: dict[tuple[int, Model], Measured]
) -> None:
    rows = replayed.query(
        "SELECT toUnixTimestamp(minute), provider, model, measure, requests, p50, p95, p99, min, max "
        "FROM latency_by_model WHERE measure IN ('total', 'first_token')"
    )

    found = {
        (minute * SECOND, (provider, model), measure): figures
        for minute, provider, model, measure, *figures in rows
    }
    exact = {
        (*group, measure): getattr(one, measure) for group, one in by_minute.items() for measure in MEASURES
    }
    assert found.keys() == {group for group, durations in exact.items() if durations}
    for group, (requests, *quantiles, least, most) in found.items():
        assert (requests, least, most) == (
            len(exact[group]),
            min(exact[group]) / 1_000,
            max(exact[group]) / 1_000,
        )
        assert_close(quantiles, exact[group], group)


def test_the_api_tells_the_same_history(
    replayed: Stack,
    expected: dict[Model, Measured],
    by_minute: dict[tuple[int, Model], Measured],
) -> None:
    begin = EPOCH + timedelta(microseconds=min(start for start, _ in by_minute))
    for measure, (name, q) in ((m, quantile) for m in MEASURES for quantile in QUANTILES.items()):
        answer = replayed.api.get(
            "/api/metrics/historical",
            params={
                "type": "latency",
                "measure": measure,
                "aggregation": name,
                "grouping": "model",
                "start": begin.isoformat(),
            },
        )

        assert answer.status_code == 200, answer.text
        series = {(one["key"]["provider"], one["key"]["model"]): one for one in answer.json()["series"]}
        assert series.keys() == expected.keys()
        for model, one in series.items():
            durations = getattr(expected[model], measure)
            assert_quantile(one["overall"], durations, q, (model, measure, name))


def assert_close(found_ms: Iterable[float | None], exact_us: list[int], of: object) -> None:
    """p50, p95 and p99."""
    for value, (name, q) in zip(found_ms, QUANTILES.items(), strict=True):
        assert_quantile(value, exact_us, q, (of, name))


def assert_quantile(found_ms: float | None, exact_us: list[int], q: float, of: object) -> None:
    """Within 1 % of the value at place floor(q · (n − 1)); nothing, if nothing was measured."""
    if not exact_us:
        assert found_ms is None, of
        return
    exact = exact_quantile(exact_us, q) / 1_000
    assert found_ms == pytest.approx(exact, rel=ERROR + _ROUNDING), of

"""The views' figures, against counts made straight from the requests in plain Python."""

import math
import random
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from clickhouse_connect.driver.client import Client

from clients.clickhouse.connection import connect
from infra.settings import ClickHouseSettings
from sinks import events
from sinks.tables import prepare
from sinks.writer import Assignment
from streams.catalogue.groupings import GROUPINGS
from streams.catalogue.measures import LATENCIES, SUMS
from streams.counting.pricing import PriceList
from streams.windows.block import Block
from streams.windows.sketch import keys_of, quantile
from tests.sinks.conftest import FOREVER
from tests.sinks.making import (
    HELD,
    MINUTE,
    NOON,
    Record,
    block,
    block_record,
    encoded,
    fetch_of,
    request,
    rows_of,
)
from tests.sinks.storing import store, window_writer

VIENNA = ZoneInfo("Europe/Vienna")
DAY = 24 * 60 * MINUTE
NOW = NOON + 40 * DAY
MEASURES = {
    "total": "total_us",
    "context": "context_us",
    "model": "model_us",
    "first_token": "first_token_us",
}

Requests = list[dict[str, Any]]
Key = tuple[Any, ...]


def made_requests(count: int = 1_500) -> Requests:
    """Requests of three minutes around Vienna's midnight and one a month before, on two partitions."""
    chance = random.Random(7)
    midnight = NOON + 11 * 60 * MINUTE
    starts = [midnight - MINUTE, midnight, midnight + MINUTE, midnight - 30 * DAY]
    found = []
    for number in range(count):
        failed = chance.random() < 0.1
        total = int(chance.lognormvariate(14, 1))
        prompt = chance.randrange(5_000)
        completion = chance.randrange(2_000)
        made = request(
            number,
            occurred_at=chance.choice(starts) + chance.randrange(MINUTE),
            imported=chance.random() < 0.2,
            service=chance.choice(["chat", "search"]),
            model=(model := chance.choice(["priced", "free", "secret"])),
            provider="house",
            space_id=chance.choice(["red", "green", None]),
            user_id=f"user-{chance.randrange(9)}",
            workflow=(workflow := chance.choice(["answer", None])),
            workflow_version="2" if workflow else None,
            region=chance.choice(["eu-central-1", "us-east-1", None]),
            error_type=chance.choice(["timeout", "rate_limited"]) if failed else None,
            cache_hit=chance.random() < 0.3,
            prompt_tokens=None if failed else prompt,
            cached_tokens=None if failed else prompt // 3,
            completion_tokens=None if failed else completion,
            reasoning_tokens=None if failed else completion // 2,
            total_us=total,
            context_us=total // 10 if workflow else None,
            model_us=None if failed else total // 2,
            first_token_us=None if failed else total // 5,
        )
        # Only what the event itself says, or what failed for nothing, has a price.
        if model != "secret":
            made["cost_nano_usd"] = 0 if model == "free" else 12_345
        found.append(made | {"partition": number % 2})
    return found


def cost(made: Mapping[str, Any]) -> int | None:
    given = made.get("cost_nano_usd")
    return 0 if given is None and made["error_type"] is not None else given


def grouped(requests: Requests, key: Callable[[dict[str, Any]], Key | None]) -> dict[Key, Requests]:
    groups: dict[Key, Requests] = defaultdict(list)
    for made in requests:
        found = key(made)
        if found is not None and None not in found:
            groups[found].append(made)
    return groups


def figures(requests: Requests) -> dict[str, Any]:
    """The sums of a group of requests."""
    costs = [cost(made) for made in requests]
    return {
        "requests": len(requests),
        "errors": sum(made["error_type"] is not None for made in requests),
        "cache_hits": sum(made["cache_hit"] for made in requests),
        **{
            name: sum(made[name] or 0 for made in requests)
            for name in ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")
        },
        "cost_nano_usd": sum(filter(None, costs)),
        "unpriced": costs.count(None),
    }


def in_usd(requests: Requests) -> list[Any]:
    """The sums as the views show them: cost in USD, NULL when none could be priced."""
    sums = figures(requests)
    nano, unpriced = sums.pop("cost_nano_usd"), sums.pop("unpriced")
    return [*sums.values(), None if unpriced and not nano else nano / 1e9, unpriced]


def latencies(requests: Requests, name: str) -> list[int]:
    return [made[name] for made in requests if made[name] is not None]


def instant(micros: int) -> datetime:
    return datetime.fromtimestamp(micros / 1e6, UTC)


def minute(made: Mapping[str, Any]) -> int:
    return int(made["occurred_at"]) // MINUTE * MINUTE


def day(made: Mapping[str, Any]) -> date:
    return instant(made["occurred_at"]).astimezone(VIENNA).date()


def midnight(made: Mapping[str, Any]) -> int:
    local = datetime.combine(day(made), datetime.min.time(), VIENNA)
    return int(local.timestamp()) * 1_000_000


def blocks(requests: Requests) -> Iterable[Block]:
    """What the rollup would publish: per partition, live and imported; the last state of each block
    after an earlier one, and for space a second one, born after the first had expired."""
    for grouping in GROUPINGS.values():
        panes: list[tuple[str, Callable[[Mapping[str, Any]], int]]] = [("1m", minute)]
        if grouping.name in ("space", "user"):
            panes.append(("1d", midnight))
        for pane, start in panes:
            shares = grouped(requests, lambda made: (made["partition"], made["imported"], start(made)))  # noqa: B023
            for (partition, imported, begin), share in shares.items():
                half = len(share) // 2
                states = [(0, 100, share[:half]), (0, 200, share)]
                if grouping.name == "space":
                    states = [(0, 100, share[:half]), (101, 200, share[half:])]
                for since, offset, counted in states:
                    groups = grouped(counted, lambda made: tuple(made[key] for key in grouping.keys))  # noqa: B023
                    rows = {
                        key: figures(members)
                        | {name: latencies(members, name) for name in grouping.latencies}
                        for key, members in groups.items()
                    }
                    yield block(
                        rows_of(grouping.name, rows),
                        partition=partition,
                        imported=imported,
                        pane=pane,
                        start=begin,
                        grouping=grouping.name,
                        since=since,
                        offset=offset,
                    )


@pytest.fixture(scope="module")
def tables(clickhouse: ClickHouseSettings) -> Iterator[Client]:
    """A database for all tests of this module, which only read it."""
    settings = clickhouse.model_copy(update={"database": f"views_{uuid.uuid4().hex[:12]}"})
    prepare(settings, FOREVER)
    with connect(settings) as client:
        yield client
        client.command(f"DROP DATABASE {settings.database}")


@pytest.fixture(scope="module")
def requests(tables: Client) -> Requests:
    """The requests, stored as raw events and as windows."""
    made = made_requests()
    raw = events.writer(lambda: NOW, PriceList())
    for partition in (0, 1):
        assignment = Assignment(partition, 1)
        own = [{k: v for k, v in m.items() if k != "partition"} for m in made if m["partition"] == partition]
        records = [Record(at, encoded(m), timestamp=NOW // 1_000) for at, m in enumerate(own)]
        step = raw.take([fetch_of(records, assignment=assignment)], frozenset({assignment}), 0.0)
        assert not step.letters
        store(tables, step)
        store(tables, step)  # an insert whose answer was lost
    writer = window_writer(lambda: NOW, VIENNA, max_rows=1_000)
    # Every second block is the last state of the one before it.
    for turn in (0, 1):
        records = [block_record(at, state) for at, state in enumerate(list(blocks(made))[turn::2])]
        store(tables, writer.take([fetch_of(records)], frozenset({HELD}), float(turn)))
    return made


def rows(client: Client, query: str) -> dict[Key, list[Any]]:
    """The rows of a view, by the columns before the first figure."""
    answer = client.query(query, query_tz="UTC", tz_mode="aware")
    names = list(answer.column_names)
    keys = next(at for at, name in enumerate(names) if name in ("requests", "errors"))
    found = {tuple(row[:keys]): list(row[keys:]) for row in answer.result_rows}
    assert len(found) == len(answer.result_rows)
    return found


def test_views_of_the_windows(tables: Client, requests: Requests) -> None:
    by: dict[str, Callable[[dict[str, Any]], Key]] = {
        "requests_total_per_minute": lambda m: (instant(minute(m)),),
        "requests_per_minute": lambda m: (instant(minute(m)), m["service"]),
        "requests_by_model": lambda m: (instant(minute(m)), m["provider"], m["model"]),
        "requests_by_space": lambda m: (instant(minute(m)), m["space_id"]),
        "requests_by_workflow": lambda m: (instant(minute(m)), m["workflow"], m["workflow_version"]),
        "requests_by_region": lambda m: (instant(minute(m)), m["region"]),
        "requests_by_user": lambda m: (instant(minute(m)), m["user_id"]),
    }
    for view, key in by.items():
        expected = {found: in_usd(members) for found, members in grouped(requests, key).items()}
        assert rows(tables, f"SELECT * FROM {view}") == expected, view
    raw = {found: in_usd(members) for found, members in grouped(requests, by["requests_per_minute"]).items()}
    assert rows(tables, "SELECT * FROM raw_requests_per_minute") == raw


def test_tokens_and_cost_by_day(tables: Client, requests: Requests) -> None:
    for view, name in (("tokens_by_space", "space_id"), ("tokens_by_user", "user_id")):
        expected = {}
        for key, members in grouped(requests, lambda m: (day(m), m[name])).items():  # noqa: B023
            count, errors, _, prompt, cached, completion, reasoning, usd, unpriced = in_usd(members)
            expected[key] = [
                count, errors, prompt, cached, completion, reasoning, prompt + completion, usd, unpriced,
            ]  # fmt: skip
        assert rows(tables, f"SELECT * FROM {view}") == expected, view
    expected = {}
    for key, members in grouped(requests, lambda m: (day(m), m["provider"], m["model"])).items():
        count, _, _, prompt, _, completion, _, usd, unpriced = in_usd(members)
        expected[key] = [count, prompt + completion, usd, unpriced]
    assert rows(tables, "SELECT * FROM cost_by_day") == expected


def test_what_has_no_price_costs_null_and_not_nothing(tables: Client, requests: Requests) -> None:
    found = tables.query(
        "SELECT model, countIf(cost_usd IS NULL), countIf(cost_usd = 0), countIf(cost_usd > 0), "
        "sum(unpriced) > 0 FROM cost_by_day GROUP BY model ORDER BY model"
    ).result_rows
    days = len({day(made) for made in requests})
    assert found == [("free", 0, days, 0, False), ("priced", 0, 0, days, False), ("secret", days, 0, 0, True)]


def test_errors_by_type(tables: Client, requests: Requests) -> None:
    groups = grouped(requests, lambda m: (instant(minute(m)), m["error_type"]))
    expected = {key: [len(members)] for key, members in groups.items()}
    assert rows(tables, "SELECT * FROM errors_by_type") == expected


@pytest.mark.parametrize(
    ("view", "names"),
    [
        ("latency_total_per_minute", ()),
        ("latency_per_minute", ("service",)),
        ("latency_by_model", ("provider", "model")),
        ("latency_by_space", ("space_id",)),
        ("latency_by_workflow", ("workflow", "workflow_version")),
        ("latency_by_region", ("region",)),
        ("raw_latency_per_minute", ("service",)),
    ],
)
def test_latencies(tables: Client, requests: Requests, view: str, names: tuple[str, ...]) -> None:
    groups = grouped(requests, lambda m: (instant(minute(m)), *(m[name] for name in names)))
    found = rows(tables, f"SELECT * FROM {view}")
    expected = {
        (*key, m): latencies(members, name) for key, members in groups.items() for m, name in MEASURES.items()
    }
    expected = {key: values for key, values in expected.items() if values}
    assert found.keys() == expected.keys()
    for key, values in expected.items():
        count, mean, p50, p95, p99, least, most = found[key]
        assert (count, least, most) == (len(values), min(values) / 1_000, max(values) / 1_000)
        assert mean == pytest.approx(sum(values) / len(values) / 1_000)
        for level, got in ((0.5, p50), (0.95, p95), (0.99, p99)):
            if view.startswith("raw"):
                assert min(values) / 1_000 <= got <= max(values) / 1_000
                continue
            buckets, counts = np.unique(keys_of(np.array(values)), return_counts=True)
            assert got == pytest.approx(quantile(buckets, counts, level) / 1_000, rel=1e-9)
            exact = sorted(values)[math.floor(level * (len(values) - 1))]
            assert got == pytest.approx(exact / 1_000, rel=0.0101)


def test_requests_in_units_for_people(tables: Client, requests: Requests) -> None:
    made = next(m for m in requests if m["model"] == "priced" and m["error_type"] is None and m["workflow"])
    answer = tables.query(
        "SELECT cost_usd, total_ms, context_ms FROM requests WHERE request_id = {id:String}",
        parameters={"id": made["request_id"]},
    )
    assert answer.result_rows == [(12_345 / 1e9, made["total_us"] / 1_000, made["context_us"] / 1_000)]


def test_the_newest_state_of_a_block_replaces_and_others_add(tables: Client, requests: Requests) -> None:
    whole = tables.query("SELECT sum(requests) FROM windows FINAL WHERE pane = '1m' AND grouping = 'total'")
    assert whole.result_rows == [(len(requests),)]
    stored = tables.query(
        "SELECT max(offset), count() FROM windows FINAL WHERE grouping = 'total'"
    ).result_rows
    panes = {(m["partition"], m["imported"], minute(m)) for m in requests}
    assert stored == [(200, len(panes))]


def test_each_latency_and_sum_reaches_the_table() -> None:
    assert set(MEASURES.values()) == set(LATENCIES)
    assert set(figures([])) == set(SUMS)

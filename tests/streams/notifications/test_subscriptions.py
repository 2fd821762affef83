import json
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from schemas.codec import Codec
from schemas.columnar import ColumnarReader
from schemas.contract import schema
from schemas.time import MINUTE
from streams.endpoints.endpoint import Endpoint
from streams.notifications.subscriptions import Subscriptions
from tests.streams.notifications.examples import START, endpoint_of

URL = "https://gauge.example.org"


def subscriber(id_: str = "ops", enabled: bool = True, **subscription: Any) -> Endpoint:
    return endpoint_of(id_, enabled=enabled, subscriptions=[subscription])


def frame(record: str, *events: dict[str, Any]) -> pl.DataFrame:
    """As the reader gives it; offsets from 100."""
    codec = Codec(schema(record))
    batch = ColumnarReader(schema(record)).read(
        [codec.encode(event) for event in events], np.arange(100, 100 + len(events))
    )
    assert not batch.refused
    return batch.frame


def request(**fields: Any) -> dict[str, Any]:
    return {
        "event_id": "e",
        "request_id": "r",
        "phase": "finished",
        "occurred_at": START,
        "service": "chat",
        "provider": "openai",
        "model": "gpt-4o",
        "error_type": "timeout",
        "total_us": 5_000_000,
        "attributes": ["region=eu"],
        **fields,
    }


def span(**fields: Any) -> dict[str, Any]:
    return {
        "event_id": "e",
        "trace_id": "t",
        "span_id": "s",
        "phase": "finished",
        "kind": "tool",
        "name": "search",
        "occurred_at": START,
        "service": "chat",
        **fields,
    }


def failed(endpoints: list[Endpoint], *events: dict[str, Any]) -> list[tuple[str, int]]:
    """To whom, and about which event."""
    made = Subscriptions(endpoints, URL).events("chat.requests", 3, frame("RequestEvent", *events), START)
    assert {each["type"] for each in made} <= {"request.failed"}
    return [(each["endpoint_id"], json.loads(each["body"])["data"]["source"]["offset"]) for each in made]


def test_failed_requests_are_those_that_finished_with_an_error_and_are_no_imports() -> None:
    events = [
        request(),
        request(error_type=None),
        request(phase="started"),
        request(imported=True),
        request(error_type="rate_limited"),
    ]

    assert failed([subscriber(types=["request.failed"])], *events) == [("ops", 100), ("ops", 104)]


@pytest.mark.parametrize(
    ("condition", "matched"),
    [
        ({"property": "error_type", "value": "timeout"}, [100, 102]),
        ({"property": "error_type", "value": "time*"}, [100, 102]),
        ({"property": "error_type", "operator": "!=", "value": "timeout"}, [101]),
        ({"property": "total_us", "operator": ">", "value": 1_000_000}, [100]),
        ({"property": "total_us", "operator": "<=", "value": 1_000_000}, [101]),
        ({"property": "total_us", "operator": "absent"}, [102]),
        ({"property": "total_us", "operator": "present"}, [100, 101]),
        ({"property": "attributes.region", "value": "us"}, [101]),
        ({"property": "streamed", "value": True}, [102]),
        ({"property": "no_such_thing", "value": "x"}, []),
    ],
)
def test_filters_look_at_the_fields_of_the_event(condition: dict[str, Any], matched: list[int]) -> None:
    events = [
        request(),
        request(error_type="rate_limited", total_us=900_000, attributes=["region=us"]),
        request(total_us=None, attributes=[], streamed=True),
    ]

    told = failed([subscriber(types=["request.failed"], filters=[condition])], *events)

    assert told == [("ops", offset) for offset in matched]


def test_each_endpoint_is_told_what_it_wants() -> None:
    endpoints = [
        subscriber("all", types=["request.*"]),
        subscriber("eu", types=["*"], filters=[{"property": "attributes.region", "value": "eu"}]),
        subscriber("off", enabled=False, types=["request.failed"]),
        subscriber("alerts", types=["alert.*"]),
    ]

    told = failed(endpoints, request(), request(attributes=["region=us"]))

    assert told == [("all", 100), ("eu", 100), ("all", 101)]


def test_topics_are_read_only_when_an_enabled_endpoint_wants_them() -> None:
    wanted = [subscriber("a", types=["request.failed"]), subscriber("b", types=["window.closed"])]

    assert Subscriptions(wanted, URL).topics == {"chat.requests", "chat.closed"}
    assert Subscriptions([subscriber("c", types=["alert.*"])], URL).topics == set()
    assert Subscriptions([subscriber("d", enabled=False, types=["*"])], URL).topics == set()


def test_spans_are_told_when_they_end_by_kind() -> None:
    subscriptions = Subscriptions([subscriber(types=["span.ended"], kinds=["tool"])], URL)
    linked = span(duration_us=7, links=["t/s"], depends_on=["s-1"], region="eu")
    events = [span(), span(kind="model"), span(phase="started"), linked]

    made = subscriptions.events("chat.spans", 0, frame("SpanEvent", *events), START)

    told = [json.loads(each["body"])["data"] for each in made]
    assert [each["source"] for each in told] == [
        {"topic": "chat.spans", "partition": 0, "offset": offset} for offset in (100, 103)
    ]
    assert told[1]["duration_us"] == 7
    assert told[0]["links"]["events"] == f"{URL}/events?topic=chat.spans&partition=0&offset=100"
    assert (told[1]["linked_spans"], told[1]["depends_on"], told[1]["region"]) == (["t/s"], ["s-1"], "eu")
    assert told[1]["links"].keys() == {"events"}


def test_what_is_read_again_gives_the_same_notifications_under_the_same_ids() -> None:
    subscriptions = Subscriptions([subscriber("a", types=["*"]), subscriber("b", types=["*"])], URL)
    events = frame("RequestEvent", request(), request(event_id="e2"))

    first = subscriptions.events("chat.requests", 0, events, START)
    again = subscriptions.events("chat.requests", 0, events[1:], START)
    elsewhere = subscriptions.events("chat.requests", 1, events, START)

    assert again == first[2:]
    ids = [each["notification_id"] for each in (*first, *elsewhere)]
    assert len(set(ids)) == 8


SHARE: dict[str, Any] = {
    "table": "chat.windows",
    "partition": 2,
    "partitions": 4,
    "pane": "1m",
    "pane_start": START,
    "pane_end": START + MINUTE,
    "grouping": "model",
    "rows": b"...",
    "revision": 0,
}


def rows(*models: str) -> pa.Table:
    latency = {"total_us_count": 3, "total_us_sum": 30, "total_us_min": 5, "total_us_max": 20}
    return pa.Table.from_pylist(
        [
            {"provider": "openai", "model": model, "requests": number, **latency, "total_us_keys": [1]}
            for number, model in enumerate(models, 1)
        ]
    )


def closed(subscription: dict[str, Any], share: dict[str, Any], table: pa.Table) -> list[dict[str, Any]]:
    subscriptions = Subscriptions([subscriber(types=["window.closed"], **subscription)], URL)
    if not subscriptions.may_mean(share):
        return []
    made = subscriptions.closed(1, 17, share, table, START)
    assert len({each["notification_id"] for each in made}) == len(made)
    return [json.loads(each["body"])["data"] for each in made]


def test_a_closed_window_is_told_by_share_with_its_rows() -> None:
    told = closed({}, SHARE, rows("gpt-4o", "o3"))

    assert [row["group"]["model"] for row in told[0]["rows"]] == ["gpt-4o", "o3"]
    assert told[0]["rows"][1]["requests"] == 2
    assert told[0]["rows"][0]["latencies"] == {"total_us": {"count": 3, "sum": 30, "min": 5, "max": 20}}
    assert told[0]["share"] == {"partition": 2, "of": 4, "revision": 0}
    assert (told[0]["pane"], told[0]["grouping"]) == ("1m", "model")


@pytest.mark.parametrize(
    ("subscription", "models"),
    [
        ({"groupings": ["model"]}, ["gpt-4o", "o3"]),
        ({"groupings": ["total"]}, None),
        ({"panes": ["1s"]}, None),
        ({"filters": [{"property": "model", "value": "gpt-*"}]}, ["gpt-4o"]),
        ({"filters": [{"property": "requests", "operator": ">", "value": 1}]}, ["o3"]),
        ({"filters": [{"property": "latencies.total_us.max", "operator": ">", "value": 20}]}, None),
    ],
)
def test_windows_are_chosen_by_pane_grouping_and_figures(
    subscription: dict[str, Any], models: list[str] | None
) -> None:
    told = closed(subscription, SHARE, rows("gpt-4o", "o3"))

    assert [[row["group"]["model"] for row in each["rows"]] for each in told] == ([models] if models else [])


def test_many_rows_are_told_in_several_notifications() -> None:
    told = closed({}, SHARE, rows(*(f"m{number}" for number in range(450))))

    assert [(each["part"], each["parts"], len(each["rows"])) for each in told] == [
        (1, 3, 200),
        (2, 3, 200),
        (3, 3, 50),
    ]


def test_heartbeats_are_no_windows() -> None:
    heartbeat = {**SHARE, "pane": None, "grouping": None, "rows": None}

    assert closed({}, heartbeat, rows()) == []

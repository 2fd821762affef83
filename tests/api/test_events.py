"""The event viewer: the raw events behind an alert, of a span of time, or of a place on Kafka."""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import httpx
import pytest

from clients.clickhouse.connection import connect
from infra.settings import ClickHouseSettings
from schemas.codec import Codec
from schemas.contract import schema
from schemas.time import DAY, MINUTE, SECOND
from schemas.topics import ALERTS, REQUESTS, SAMPLES, SPANS, Topic
from sinks import events, samples, spans
from sinks.writer import Assignment
from streams.counting.pricing import PriceList
from tests.api.around import NOON, Around, alert
from tests.api.blocks import block, some_requests
from tests.api.conftest import store_records, store_windows
from tests.schemas.events import request as whole_request
from tests.sinks.making import Record, fetch_of, request, sample, span

START, END = NOON - 6 * MINUTE, NOON - MINUTE
"""The window of the alert of `tests.api.around`."""
WHOLE_REQUEST = whole_request(3, occurred_at=NOON - 200 * DAY, cost_nano_usd=12)
WHOLE_SPAN = span(1, duration_us=1_500) | {
    "depends_on": ["span-0"],
    "links": ["other/span-9"],
    "conversation_id": "conversation",
    "region": "eu-central-1",
    "provider": "anthropic",
    "model": "claude-sonnet-4-5",
    "operation": "chat",
    "prompt_tokens": 100,
    "cached_tokens": 10,
    "cache_write_tokens": 20,
    "cache_write_1h_tokens": 5,
    "prompt_audio_tokens": 1,
    "completion_tokens": 50,
    "reasoning_tokens": 2,
    "completion_audio_tokens": 3,
    "cost_nano_usd": 4_000,
    "attributes": ["tier=gold"],
}
HTML = {"Accept": "text/html,application/xhtml+xml"}


def store_events(
    tables: ClickHouseSettings, topic: Topic, partition: int, first: int, made: Iterable[Mapping[str, Any]]
) -> None:
    """Writes events as the sink does, at offsets from `first`."""
    writer = {
        REQUESTS.name: events.writer(lambda: NOON, PriceList()),
        SPANS.name: spans.writer(lambda: NOON),
        SAMPLES.name: samples.writer(lambda: NOON),
    }[topic.name]
    codec = Codec(schema(topic.record))
    records = [
        Record(first + n, codec.encode(event), timestamp=NOON // 1_000) for n, event in enumerate(made)
    ]
    assignment = Assignment(partition, 0)
    step = writer.take([fetch_of(records, assignment=assignment)], frozenset({assignment}), 0.0, last=True)
    assert not step.letters
    with connect(tables) as client:
        for insert in step.inserts:
            client.insert_arrow(insert.table, insert.rows, settings={"async_insert": 0})


def ended(number: int, **fields: Any) -> dict[str, Any]:
    """A request of the alert's group that ended so many seconds into its window."""
    common = {"service": "support-chat", "occurred_at": START + number * SECOND}
    return request(number, **common | fields)


RESOLVED: dict[str, Any] = {
    "transition": 2,
    "state": "resolved",
    "sources": ["chat.requests/0/100-105", "chat.requests/1/7-9"],
    "requests": 6,
}


@pytest.fixture(scope="module")
def stocked(shared_tables: ClickHouseSettings) -> ClickHouseSettings:
    """Six requests of an alert's window and group, and what is near them but not of them."""
    store_events(
        shared_tables,
        REQUESTS,
        0,
        100,
        [
            ended(0),
            ended(1, model="of no price list", provider="nobody", user_id="u_1", space_id="s_1"),
            ended(2, error_type="timeout"),
            ended(2),  # sent again: kept once
            ended(3, event_id="started", phase="started"),
            ended(4, imported=True),
        ],
    )
    store_events(
        shared_tables,
        REQUESTS,
        1,
        7,
        [
            ended(299),
            ended(300),
            ended(-1),
            ended(5, service="other"),
            ended(6, error_type="timeout"),
            ended(6, event_id="same-instant"),
        ],
    )
    store_events(shared_tables, REQUESTS, 5, 0, [WHOLE_REQUEST])
    store_events(shared_tables, SPANS, 0, 3, [WHOLE_SPAN])
    at = [START, START + 1, END, END + 1]
    store_events(shared_tables, SAMPLES, 0, 0, [sample(n, occurred_at=time) for n, time in enumerate(at)])
    store_records(shared_tables, ALERTS, [alert(), alert(**RESOLVED)])
    counted = some_requests(1, END - MINUTE, MINUTE)
    store_windows(
        shared_tables,
        [
            (
                partition,
                *block(
                    counted, pane="1m", start=END - MINUTE, partition=partition, offset=offset, closed=True
                ),
            )
            for partition, offset in ((0, 105), (1, 13))
        ],
    )
    return shared_tables


@pytest.fixture
async def around(stocked: ClickHouseSettings) -> AsyncIterator[Around]:
    async with Around(stocked) as around:
        around.reads_alerts()
        yield around


@pytest.fixture
async def http(around: Around) -> AsyncIterator[httpx.AsyncClient]:
    async with around.http() as http:
        yield http


def ids(body: Mapping[str, Any]) -> list[str]:
    return [event["event_id"] for event in body["events"]]


OF_WINDOW = ["event-299", "same-instant", "event-6", "event-2", "event-1", "event-0"]


class TestOfAnAlert:
    async def test_it_is_what_the_window_was_made_of(self, http: httpx.AsyncClient) -> None:
        answer = await http.get("/api/events?alert=al_1&transition=2")
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert ids(body) == OF_WINDOW
        assert (body["complete"], body["missing"], body["stored"]) == (True, [], 6)
        assert (body["more"], body["next"]) == (False, None)
        assert (body["alert"]["state"], body["alert"]["transition"]) == ("resolved", 2)
        assert body["covers"] == {
            "by": "alert",
            "topic": "chat.requests",
            "start": "2026-05-04T11:54:00Z",
            "end": "2026-05-04T11:59:00Z",
            "equal": {"service": "support-chat"},
            "include": "live",
        }
        unpriced = body["events"][4]
        assert (unpriced["cost_usd"], unpriced["total_ms"], unpriced["user_id"]) == (None, 1000.0, "u_1")
        assert unpriced["source"] == {"topic": "chat.requests", "partition": 0, "offset": 101}
        assert body["events"][0]["cost_usd"] > 0

    async def test_what_is_not_stored_yet_is_said(self, http: httpx.AsyncClient) -> None:
        body = (await http.get("/api/events?alert=al_1&transition=1")).json()
        assert (body["complete"], body["stored"]) == (False, 6)
        assert [said.split(" is ")[0] for said in body["missing"][:2]] == [
            "chat.requests/2",
            "chat.requests/3",
        ]
        assert "1,204" in body["missing"][2]

    async def test_the_newest_transition_is_the_one_in_memory(
        self, around: Around, http: httpx.AsyncClient
    ) -> None:
        around.alerts.apply(alert(**RESOLVED | {"transition": 3, "group": ["service=other"]}))
        body = (await http.get("/api/events?alert=al_1")).json()
        assert (body["alert"]["transition"], ids(body)) == (3, ["event-5"])

    async def test_pages_follow_each_other_without_a_gap(self, http: httpx.AsyncClient) -> None:
        seen: list[str] = []
        cursor = ""
        while True:
            body = (await http.get(f"/api/events?alert=al_1&transition=2&limit=2{cursor}")).json()
            seen += ids(body)
            assert body["more"] == (body["next"] is not None)
            if body["next"] is None:
                break
            cursor = f"&cursor={body['next']}"
        assert seen == OF_WINDOW

    async def test_an_alert_of_a_sampled_state_shows_its_samples(
        self, around: Around, http: httpx.AsyncClient
    ) -> None:
        of_samples = {
            "alert_id": "al_s",
            "grouping": "sample",
            "group": ["service=chat", "instance=a"],
            "metric": "sample:open_websockets",
            "requests": 1,
            "sources": ["chat.samples/0/2-2"],
        }
        around.alerts.apply(alert(**of_samples))
        body = (await http.get("/api/events?alert=al_s&transition=1")).json()
        assert [event["value"] for event in body["events"]] == [2.0, 1.0]
        assert (body["complete"], body["stored"]) == (True, 2)

    async def test_what_is_not_there_is_said(self, around: Around, http: httpx.AsyncClient) -> None:
        unknown = await http.get("/api/events?alert=al_9&transition=1")
        assert (unknown.status_code, unknown.json()["where"]) == (404, "alert")
        untold = await http.get("/api/events?alert=al_1&transition=9")
        assert (untold.status_code, untold.json()["where"]) == (404, "transition")
        around.follower.caught_up = False
        unread = await http.get("/api/events?alert=al_9&transition=1")
        assert (unread.status_code, unread.json()["where"]) == (503, "kafka")


class TestOfASpan:
    async def test_it_is_all_that_finished_then(self, http: httpx.AsyncClient) -> None:
        span = "from=2026-05-04T11:54:02Z&to=2026-05-04T11:54:06Z"
        body = (await http.get(f"/api/events?{span}")).json()
        assert ids(body) == ["event-5", "event-4", "event-2"]
        assert (body["complete"], body["missing"], body["alert"]) == (True, [], None)
        imported = (await http.get(f"/api/events?{span}&include=imported")).json()
        assert ids(imported) == ["event-4"]

    async def test_what_the_windows_count_and_is_not_stored_is_missed(self, http: httpx.AsyncClient) -> None:
        body = (await http.get("/api/events?from=2026-05-04T11:58:00Z&to=2026-05-04T11:59:00Z")).json()
        assert ids(body) == ["event-299"]
        assert body["missing"] == [
            "chat.requests/1 is stored up to offset 12, and the events asked for go up to offset 13: "
            "ClickHouse is behind"
        ]

    async def test_a_long_span_is_read_to_its_beginning(self, http: httpx.AsyncClient) -> None:
        body = (await http.get("/api/events?from=2026-01-01T00:00Z&to=2026-05-04T12:00Z&limit=8")).json()
        assert ids(body)[-1] == "event-1"
        assert body["more"]
        rest = await http.get(
            f"/api/events?from=2026-01-01T00:00Z&to=2026-05-04T12:00Z&cursor={body['next']}"
        )
        assert (ids(rest.json()), rest.json()["more"]) == (["event-0", "event--1"], False)


class TestOfAPlace:
    @pytest.mark.parametrize(
        ("place", "found"),
        [
            ("topic=chat.requests&partition=0&offset=104", "started"),
            ("topic=chat.spans&partition=0&offset=3", "event-1"),
            ("topic=chat.samples&partition=0&offset=1", "event-1"),
        ],
    )
    async def test_it_is_the_one_event(self, http: httpx.AsyncClient, place: str, found: str) -> None:
        for path, headers in (("/api/events", {}), ("/events", HTML)):
            answer = await http.get(f"{path}?{place}", headers=headers)
            assert answer.status_code == 200, answer.text
        body = (await http.get(f"/api/events?{place}")).json()
        assert (ids(body), body["complete"], body["more"]) == ([found], True, False)

    @pytest.mark.parametrize(
        ("place", "event"),
        [
            ("topic=chat.requests&partition=5&offset=0", WHOLE_REQUEST),
            ("topic=chat.spans&partition=0&offset=3", WHOLE_SPAN),
        ],
    )
    async def test_it_is_shown_with_every_field(
        self, http: httpx.AsyncClient, place: str, event: Mapping[str, Any]
    ) -> None:
        (shown,) = (await http.get(f"/api/events?{place}")).json()["events"]
        for name, value in event.items():
            if name.endswith("_us"):
                assert shown[name.replace("_us", "_ms")] == value / 1_000
            elif name == "cost_nano_usd":
                assert shown["cost_usd"] == value / 1e9
            elif name != "occurred_at":
                assert shown[name] == value, name

    async def test_one_that_is_not_stored_is_not_complete(self, http: httpx.AsyncClient) -> None:
        body = (await http.get("/api/events?topic=chat.spans&partition=0&offset=4")).json()
        assert (body["events"], body["complete"]) == ([], False)
        assert "stored up to offset 3" in body["missing"][0]


class TestAddress:
    async def test_browsers_get_a_page_that_loads_nothing_from_elsewhere(
        self, http: httpx.AsyncClient
    ) -> None:
        page = await http.get("/events?alert=al_1&transition=2&limit=2", headers=HTML)
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'")
        assert (page.headers["vary"], page.headers["cache-control"]) == ("Accept", "no-store")
        assert "<script" not in page.text
        assert "style=" not in page.text
        assert "6 in all" in page.text
        following = page.text.partition('<a href="/events?')[2].partition('"')[0].replace("&amp;", "&")
        rest = await http.get(f"/events?{following}")
        assert ids(rest.json()) == OF_WINDOW[2:4]
        for style in ("/page/style.css", "/page/events.css"):
            assert style in page.text
            assert (await http.get(style)).status_code == 200

    async def test_others_get_the_same_as_json(self, http: httpx.AsyncClient) -> None:
        for query in ("alert=al_1&transition=2", "from=2026-05-04T11:54Z&to=2026-05-04T11:59Z"):
            page, data = await http.get(f"/events?{query}"), await http.get(f"/api/events?{query}")
            assert page.json() == data.json()

    async def test_what_is_wrong_with_a_parameter_is_said(self, http: httpx.AsyncClient) -> None:
        wrong = {
            "": "alert",
            "transition=1": "alert",
            "alert=al_1&from=2026-05-04T11:54Z": "from",
            "alert=al_1&transition=0": "transition",
            "alert=al_1&include=live": "include",
            "alert=al_1&cursor=x": "cursor",
            "alert=al_1&limit=1001": "limit",
            "from=2026-05-04T11:54Z": "to",
            "to=2026-05-04T11:54Z": "from",
            "from=x&to=2026-05-04T11:54Z": "from",
            "from=2026-05-04T11:54Z&to=2026-05-04T11:54Z": "to",
            "topic=chat.requests&partition=0": "offset",
            "topic=chat.windows&partition=0&offset=1": "topic",
            "topic=chat.spans&partition=0&offset=1&cursor=WzEsIngiXQ": "cursor",
            "topic=chat.requests&partition=-1&offset=1": "partition",
            "topic=chat.requests&partition=0&offset=99999999999999999999": "offset",
        }
        answers = {query: await http.get(f"/events?{query}") for query in wrong}
        assert {query: answer.json()["where"] for query, answer in answers.items()} == wrong
        assert {answer.status_code for answer in answers.values()} == {400}


async def test_without_clickhouse_it_is_said(away: ClickHouseSettings) -> None:
    async with Around(away) as around, around.http() as http:
        around.reads_alerts()
        around.alerts.apply(alert())
        for query in ("alert=al_1&transition=1", "topic=chat.requests&partition=0&offset=1"):
            answer = await http.get(f"/events?{query}", headers=HTML)
            assert (answer.status_code, answer.json()["where"]) == (503, "clickhouse")

"""Deliveries over HTTP: the log, and sending again; with the tables, and records as the sink writes them."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from api.alerting.redriving import Redriver
from api.models.endpoints import ENDPOINT_EXAMPLE
from infra.settings import ClickHouseSettings
from schemas.time import MINUTE, SECOND
from schemas.topics import DELIVERIES, NOTIFICATIONS
from streams.deliveries.notification import Notification
from tests.api.around import ADMIN, NOON, Around, Sent
from tests.api.conftest import store_records


def notification(number: int, **differing: Any) -> dict[str, Any]:
    return {
        "notification_id": f"nt_{number}",
        "endpoint_id": "oncall",
        "type": "alert.firing",
        "created_at": NOON + number * MINUTE,
        "body": f'{{"number": {number}}}',
        "alerts": [f"al_{number}/1"],
        "redriven": 0,
    } | differing


def attempt(number: int, outcome: str, **differing: Any) -> dict[str, Any]:
    return {
        "attempt_id": f"at_{number}",
        "notification_id": f"nt_{number}",
        "endpoint_id": "oncall",
        "channel": "webhook",
        "type": "alert.firing",
        "attempt": 1,
        "redriven": 0,
        "outcome": outcome,
        "status": 200 if outcome == "delivered" else 503,
        "error": None,
        "started_at": NOON + number * MINUTE + SECOND,
        "took_us": 87_400,
        "next_attempt_at": None,
        "request": '{"number": 1}',
        "response": "thanks",
    } | differing


class TestRedriver:
    """Pure but for what takes the notifications."""

    async def test_each_asking_raises_the_number_even_before_history_knows(self) -> None:
        sent = Sent()
        redriver = Redriver(sent)
        asked = Notification("nt_1", "oncall", "alert.firing", NOON, "{}", (), 3)
        for _ in range(2):
            await redriver.redrive([asked])
        assert [each.redriven for each in sent.notifications] == [4, 5]
        assert {each.body for each in sent.notifications} == {"{}"}


@pytest.fixture(scope="module")
def stocked(shared_tables: ClickHouseSettings) -> ClickHouseSettings:
    """Five notifications: delivered; failed; delivered after it was redriven; parked; of another endpoint."""
    store_records(
        shared_tables,
        NOTIFICATIONS,
        [
            notification(1),
            notification(2),
            notification(3),
            notification(3, redriven=1),
            notification(4),
            notification(4),
            notification(5, endpoint_id="other"),
        ],
    )
    store_records(
        shared_tables,
        DELIVERIES,
        [
            attempt(1, "delivered"),
            attempt(2, "failed", next_attempt_at=NOON + 7 * MINUTE, error="503 Service Unavailable"),
            attempt(2, "failed", next_attempt_at=NOON + 7 * MINUTE, error="503 Service Unavailable"),
            attempt(3, "exhausted"),
            attempt(31, "delivered", notification_id="nt_3", redriven=1),
            attempt(4, "parked", attempt=0, status=None, type="alert.resolved"),
            attempt(5, "failed", endpoint_id="other"),
        ],
    )
    return shared_tables


@pytest.fixture
async def around(stocked: ClickHouseSettings) -> AsyncIterator[Around]:
    async with Around(stocked) as around:
        around.time.passes(3600)
        async with around.http() as http:
            await http.post("/api/endpoints", json=ENDPOINT_EXAMPLE, headers=dict(ADMIN))
        yield around


@pytest.fixture
async def http(around: Around) -> AsyncIterator[httpx.AsyncClient]:
    async with around.http() as http:
        http.headers.update(ADMIN)
        yield http


class TestLog:
    async def test_an_attempt_says_what_was_sent_what_came_back_and_what_is_next(
        self, around: Around, http: httpx.AsyncClient
    ) -> None:
        (told,) = (await http.get("/api/deliveries?notification=nt_2")).json()["attempts"]
        assert (told["outcome"], told["status"], told["error"]) == ("failed", 503, "503 Service Unavailable")
        assert (told["took_ms"], told["next_attempt_at"]) == (87.4, "2026-05-04T12:07:00Z")
        assert (told["request"], told["response"]) == ('{"number": 1}', "thanks")
        async with around.http() as anybody:
            (bare,) = (await anybody.get("/api/deliveries?notification=nt_2")).json()["attempts"]
        assert bare == told | {"request": None, "response": None}

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("", ["at_31", "at_5", "at_4", "at_3", "at_2", "at_1"]),
            ("endpoint=other", ["at_5"]),
            ("outcome=failed&endpoint=oncall", ["at_2"]),
            ("outcome=parked&outcome=exhausted", ["at_4", "at_3"]),
            ("type=alert.resolved", ["at_4"]),
            ("notification=nt_3", ["at_31", "at_3"]),
            ("start=2026-05-04T12:02:00Z&end=2026-05-04T12:04:00Z", ["at_3", "at_2"]),
            ("endpoint=nobody", []),
        ],
    )
    async def test_attempts_are_found_newest_first(
        self, http: httpx.AsyncClient, query: str, found: list[str]
    ) -> None:
        answer = await http.get(f"/api/deliveries?{query}")
        assert answer.status_code == 200, answer.text
        assert [each["attempt_id"] for each in answer.json()["attempts"]] == found
        assert answer.json()["next"] is None

    async def test_pages_follow_each_other_without_a_gap(self, http: httpx.AsyncClient) -> None:
        seen: list[str] = []
        cursor = ""
        while True:
            page = (await http.get(f"/api/deliveries?limit=2{cursor}")).json()
            seen += [each["attempt_id"] for each in page["attempts"]]
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        assert seen == ["at_31", "at_5", "at_4", "at_3", "at_2", "at_1"]

    @pytest.mark.parametrize(
        ("query", "where"), [("cursor=x", "cursor"), ("start=x", "start"), ("limit=0", "limit")]
    )
    async def test_what_is_wrong_with_a_parameter_is_said(
        self, http: httpx.AsyncClient, query: str, where: str
    ) -> None:
        answer = await http.get(f"/api/deliveries?{query}")
        assert (answer.status_code, answer.json()["where"]) == (400, where)


class TestSendingAgain:
    async def test_a_notification_is_retried_with_its_id_and_body(
        self, around: Around, http: httpx.AsyncClient
    ) -> None:
        answer = await http.post("/api/deliveries/nt_3/retry")
        assert answer.status_code == 202, answer.text
        assert answer.json() == {
            "notification_id": "nt_3",
            "endpoint_id": "oncall",
            "redriven": 2,
            "deliveries": "/api/deliveries?notification=nt_3",
        }
        assert [each.record() for each in around.sent.notifications] == [notification(3, redriven=2)]

    async def test_what_is_not_there_or_goes_nowhere_is_not_retried(
        self, around: Around, http: httpx.AsyncClient
    ) -> None:
        unknown = await http.post("/api/deliveries/nt_9/retry")
        gone = await http.post("/api/deliveries/nt_5/retry")
        await http.post("/api/endpoints/oncall/disable")
        disabled = await http.post("/api/deliveries/nt_1/retry")
        assert [unknown.status_code, gone.status_code, disabled.status_code] == [404, 404, 409]
        assert "/enable first" in disabled.json()["detail"]
        assert around.sent.notifications == []

    @pytest.mark.parametrize(
        ("which", "again"), [("undelivered", ["nt_2", "nt_4"]), ("all", ["nt_1", "nt_2", "nt_3", "nt_4"])]
    )
    async def test_a_span_of_time_is_redriven(
        self, around: Around, http: httpx.AsyncClient, which: str, again: list[str]
    ) -> None:
        answer = await http.post(
            "/api/endpoints/oncall/redrive", json={"start": "2026-05-04T12:00:00Z", "which": which}
        )
        assert (answer.status_code, answer.json()) == (202, {"redriven": len(again), "next": None})
        sent = around.sent.notifications
        assert [each.notification_id for each in sent] == again
        assert {each.notification_id: each.redriven for each in sent} == {
            key: 2 if key == "nt_3" else 1 for key in again
        }

    async def test_its_bounds_are_kept(self, around: Around, http: httpx.AsyncClient) -> None:
        span = {"start": "2026-05-04T12:02:00Z", "end": "2026-05-04T12:04:00Z", "which": "all"}
        await http.post("/api/endpoints/oncall/redrive", json=span)
        assert [each.notification_id for each in around.sent.notifications] == ["nt_2", "nt_3"]

    async def test_a_long_redrive_goes_on_where_it_was(
        self, around: Around, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("api.alerting.redriving.PAGE", 1)
        monkeypatch.setattr("api.alerting.redriving.MOST_REDRIVEN", 3)
        span: dict[str, Any] = {"start": "2026-05-04T12:00:00Z", "which": "all"}
        first = (await http.post("/api/endpoints/oncall/redrive", json=span)).json()
        assert first["redriven"] == 3
        rest = await http.post("/api/endpoints/oncall/redrive", json=span | {"cursor": first["next"]})
        assert rest.json() == {"redriven": 1, "next": None}
        assert [each.notification_id for each in around.sent.notifications] == [
            f"nt_{n}" for n in range(1, 5)
        ]

    @pytest.mark.parametrize(
        ("body", "where"),
        [
            ({}, "redrive.start"),
            ({"start": "x"}, "redrive.start"),
            ({"start": "2027-01-01T00:00:00Z"}, "redrive.start"),
            ({"start": "2026-05-04T12:00:00Z", "which": "some"}, "redrive.which"),
            ({"start": "2026-05-04T12:00:00Z", "cursor": "x"}, "cursor"),
        ],
    )
    async def test_what_is_wrong_with_a_span_is_said(
        self, around: Around, http: httpx.AsyncClient, body: dict[str, Any], where: str
    ) -> None:
        answer = await http.post("/api/endpoints/oncall/redrive", json=body)
        assert (answer.status_code, answer.json()["where"]) == (400, where)
        assert around.sent.notifications == []


async def test_without_clickhouse_it_is_said(away: ClickHouseSettings) -> None:
    ask: Callable[[httpx.AsyncClient], Any]
    async with Around(away) as around, around.http() as http:
        http.headers.update(ADMIN)
        await http.post("/api/endpoints", json=ENDPOINT_EXAMPLE)
        span = {"start": "2026-05-04T11:00:00Z"}
        for ask in (
            lambda http: http.get("/api/deliveries"),
            lambda http: http.post("/api/deliveries/nt_1/retry"),
            lambda http: http.post("/api/endpoints/oncall/redrive", json=span),
        ):
            answer = await ask(http)
            assert (answer.status_code, answer.json()["where"]) == (503, "clickhouse")

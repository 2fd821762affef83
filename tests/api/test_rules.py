"""Rules over HTTP: nobody's change gets lost, and what is refused is told where, and what would be right."""

import asyncio
from collections.abc import AsyncIterator
from types import MappingProxyType
from typing import Any, Final

import httpx
import pytest

from api.models.endpoints import ENDPOINT_EXAMPLE
from api.models.rules import RULE_EXAMPLE
from infra.settings import ClickHouseSettings
from schemas.time import MINUTE
from schemas.topics import RULES
from streams.alerts.rule import parse_rule
from streams.definitions.definition import Definition
from tests.api.around import ADMIN, NOON, Around
from tests.api.blocks import Request, block
from tests.api.conftest import store_windows


@pytest.fixture
async def around(away: ClickHouseSettings) -> AsyncIterator[Around]:
    async with Around(away) as around:
        yield around


@pytest.fixture
async def http(around: Around) -> AsyncIterator[httpx.AsyncClient]:
    async with around.http() as http:
        http.headers.update(ADMIN)
        yield http


async def test_a_rule_that_was_made_is_read_and_listed_and_workers_find_it(
    around: Around, http: httpx.AsyncClient
) -> None:
    made = await http.post("/api/rules", json=RULE_EXAMPLE)
    assert (made.status_code, made.headers["etag"]) == (201, '"1"')
    assert made.headers["location"] == "/api/rules/error-rate"
    assert made.json()["rule"]["window"] == "5m"
    assert made.json()["changed_by"] == "admin key, from 127.0.0.1"
    assert made.json()["changed_at"] == "2026-05-04T12:00:00Z"
    one = await http.get("/api/rules/error-rate")
    assert (one.json(), one.headers["etag"]) == (made.json(), '"1"')
    assert (await http.get("/api/rules")).json() == {"rules": [made.json()]}
    found = around.topics[RULES].items["error-rate"]
    assert parse_rule(found.definition) == parse_rule(RULE_EXAMPLE)


async def test_reading_takes_no_key(around: Around, http: httpx.AsyncClient) -> None:
    await http.post("/api/rules", json=RULE_EXAMPLE)
    async with around.http() as anybody:
        assert (await anybody.get("/api/rules")).status_code == 200
        assert (await anybody.get("/api/rules/error-rate")).status_code == 200


async def test_what_was_read_can_be_changed_and_sent_back(http: httpx.AsyncClient) -> None:
    await http.post("/api/rules", json=RULE_EXAMPLE)
    one = await http.get("/api/rules/error-rate")
    changed = one.json()["rule"] | {"threshold": "20 %"}
    etag = {"If-Match": one.headers["etag"]}
    put = await http.put("/api/rules/error-rate", json=changed, headers=etag)
    assert (put.status_code, put.headers["etag"]) == (200, '"2"')
    assert (await http.get("/api/rules/error-rate")).json()["rule"] == put.json()["rule"]
    assert put.json()["rule"]["threshold"] == "20 %"


async def test_a_rule_without_an_id_gets_one_of_its_name(http: httpx.AsyncClient) -> None:
    nameless = {key: value for key, value in RULE_EXAMPLE.items() if key != "id"}
    made = await http.post("/api/rules", json=nameless | {"name": "Slow: p95 & worse!"})
    assert made.json()["id"] == "slow-p95-worse"
    again = await http.post("/api/rules", json=nameless | {"name": "Slow: p95 & worse!"})
    assert (again.status_code, again.json()["where"]) == (409, "rule.id")
    assert "PUT /api/rules/slow-p95-worse" in again.json()["detail"]


class TestNobodysChangeGetsLost:
    async def test_whoever_read_an_earlier_revision_is_told(self, http: httpx.AsyncClient) -> None:
        await http.post("/api/rules", json=RULE_EXAMPLE)
        first = {"If-Match": '"1"'}
        assert (await http.put("/api/rules/error-rate", json=RULE_EXAMPLE, headers=first)).status_code == 200
        late = await http.put("/api/rules/error-rate", json=RULE_EXAMPLE, headers=first)
        assert (late.status_code, late.json()["where"]) == (412, "If-Match")
        assert "revision 2" in late.json()["detail"]
        gone = await http.delete("/api/rules/error-rate", headers=first)
        assert gone.status_code == 412

    async def test_replacing_takes_the_revision_that_is_replaced(self, http: httpx.AsyncClient) -> None:
        await http.post("/api/rules", json=RULE_EXAMPLE)
        blind = await http.put("/api/rules/error-rate", json=RULE_EXAMPLE)
        assert (blind.status_code, blind.json()["where"]) == (428, "If-Match")
        any_ = await http.put("/api/rules/error-rate", json=RULE_EXAMPLE, headers={"If-Match": "*"})
        assert any_.headers["etag"] == '"2"'
        nonsense = await http.put("/api/rules/error-rate", json=RULE_EXAMPLE, headers={"If-Match": "abc"})
        assert (nonsense.status_code, nonsense.json()["where"]) == (400, "If-Match")

    async def test_a_rule_keeps_its_id(self, http: httpx.AsyncClient) -> None:
        await http.post("/api/rules", json=RULE_EXAMPLE)
        other = RULE_EXAMPLE | {"id": "other"}
        answer = await http.put("/api/rules/error-rate", json=other, headers={"If-Match": "*"})
        assert (answer.status_code, answer.json()["where"]) == (400, "rule.id")


async def test_a_deleted_rule_is_gone_and_may_be_made_again(http: httpx.AsyncClient) -> None:
    await http.post("/api/rules", json=RULE_EXAMPLE)
    deleted = await http.delete("/api/rules/error-rate")
    assert (deleted.status_code, deleted.content) == (204, b"")
    missing = await http.get("/api/rules/error-rate")
    assert (missing.status_code, missing.json()["type"]) == (404, "urn:chatgauge:problem:not-found")
    assert "/api/rules lists" in missing.json()["detail"]
    assert (await http.delete("/api/rules/error-rate")).status_code == 404
    assert (await http.post("/api/rules", json=RULE_EXAMPLE)).status_code == 201


async def test_rules_of_files_are_shown_and_can_only_be_changed_there(
    around: Around, http: httpx.AsyncClient
) -> None:
    await around.topics.publish(RULES, Definition("error-rate", 4, True, NOON, "rules.yaml", RULE_EXAMPLE))
    shown = (await http.get("/api/rules/error-rate")).json()
    assert (shown["provisioned"], shown["revision"]) == (True, 4)
    put = await http.put("/api/rules/error-rate", json=RULE_EXAMPLE, headers={"If-Match": '"4"'})
    deleted = await http.delete("/api/rules/error-rate")
    again = await http.post("/api/rules", json=RULE_EXAMPLE)
    for refused in (put, deleted, again):
        assert refused.status_code == 409
        assert "CHATGAUGE_ALERTS_RULES" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("change", "where", "says"),
    [
        ({"window": "5 bananas"}, "rule.window", "5m"),
        ({"window": "7h"}, "rule.window", "at most"),
        ({"metric": "errrors"}, "rule.metric", "errors"),
        ({"threshold": "10 ms"}, "rule.threshold", "%"),
        ({"kind": "thresold"}, "rule.kind", "threshold"),
        ({"severity": "bad"}, "rule.severity", "warning"),
        ({"minimum_request": 5}, "rule.minimum_request", "minimum_requests"),
        ({"filter": {"model": ["gpt-4o"]}}, "rule.filter.model", "model"),
        ({"id": "Not An Id"}, "rule.id", "letters"),
    ],
)
async def test_what_is_wrong_with_a_rule_is_said_where_it_is_and_what_would_be_right(
    http: httpx.AsyncClient, change: dict[str, Any], where: str, says: str
) -> None:
    answer = await http.post("/api/rules", json=RULE_EXAMPLE | change)
    assert answer.status_code == 400
    told = answer.json()
    assert (told["type"], told["where"]) == ("urn:chatgauge:problem:invalid", where)
    assert says in told["detail"]
    assert told["errors"][0] == {"where": where, "detail": told["detail"]}


async def test_everything_that_is_wrong_is_said_at_once(http: httpx.AsyncClient) -> None:
    wrong = RULE_EXAMPLE | {"window": "x", "severity": "bad", "consecutive": 0}
    told = (await http.post("/api/rules", json=wrong)).json()
    assert {fault["where"] for fault in told["errors"]} >= {
        "rule.window",
        "rule.severity",
        "rule.consecutive",
    }


class TestKafkaAway:
    async def test_a_write_that_kafka_does_not_take_is_said_to_be_uncertain(
        self, around: Around, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("api.definitions.store._PATIENCE_S", 0.05)
        await http.post("/api/rules", json=RULE_EXAMPLE)
        around.topics[RULES].ready = _at_once  # type: ignore[method-assign]
        around.topics[RULES].away = True
        answer = await http.put("/api/rules/error-rate", json=RULE_EXAMPLE, headers={"If-Match": "*"})
        assert (answer.status_code, answer.json()["where"]) == (503, "kafka")
        assert "Read it again" in answer.json()["detail"]
        assert int(answer.headers["retry-after"]) > 0
        assert (await http.get("/api/rules/error-rate")).headers["etag"] == '"1"'

    async def test_what_has_not_been_read_yet_is_not_said_to_be_absent(
        self, around: Around, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("api.definitions.store._PATIENCE_S", 0.05)
        around.topics[RULES].away = True
        answer = await http.get("/api/rules/error-rate")
        assert (answer.status_code, answer.json()["where"]) == (503, "kafka")


async def _at_once() -> None:
    return


@pytest.fixture(scope="module")
def stocked(shared_tables: ClickHouseSettings) -> ClickHouseSettings:
    fine, failed = [Request()] * 9, [Request(error_type="timeout")] * 9
    store_windows(
        shared_tables,
        [
            (0, *block(failed if 3 <= n < 6 else fine, pane="1m", start=NOON + n * MINUTE, closed=True))
            for n in range(10)
        ],
    )
    return shared_tables


class TestBacktest:
    """Over windows in ClickHouse: from the third minute to the sixth all requests fail."""

    RULE: Final = MappingProxyType(
        {
            "id": "failing",
            "name": "Failing",
            "kind": "threshold",
            "metric": "errors",
            "aggregation": "ratio",
            "window": "1m",
            "threshold": "10 %",
            "severity": "critical",
        }
    )
    SPAN: Final = MappingProxyType({"start": "2026-05-04T12:00:00Z", "end": "2026-05-04T12:10:00Z"})

    @pytest.fixture
    async def around(self, stocked: ClickHouseSettings) -> AsyncIterator[Around]:
        async with Around(stocked) as around:
            around.time.passes(3600)
            yield around

    async def test_it_tells_what_would_have_fired_when_and_whom_it_would_have_told(
        self, http: httpx.AsyncClient
    ) -> None:
        await http.post("/api/endpoints", json=ENDPOINT_EXAMPLE)
        answer = await http.post("/api/rules/backtest", json={"rule": dict(self.RULE), **self.SPAN})
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert (told["complete"], told["through"], told["fired"]) == (True, "2026-05-04T12:10:00Z", 1)
        assert [(each["state"], each["changed_at"], each["value"]) for each in told["alerts"]] == [
            ("firing", "2026-05-04T12:04:00Z", 1.0),
            ("resolved", "2026-05-04T12:07:00Z", 0.0),
        ]
        assert [(each["endpoint_id"], each["type"]) for each in told["notifications"]] == [
            ("oncall", "alert.firing"),
            ("oncall", "alert.resolved"),
        ]
        assert told["decisions"]["firing"] == 1

    async def test_a_rule_that_there_is_is_named_by_its_id(self, http: httpx.AsyncClient) -> None:
        await http.post("/api/rules", json=dict(self.RULE))
        asked = {"rule_id": "failing", "start": self.SPAN["start"]}
        told = (await http.post("/api/rules/backtest", json=asked)).json()
        assert (told["fired"], told["end"]) == (1, "2026-05-04T13:00:00Z")
        unknown = await http.post("/api/rules/backtest", json=asked | {"rule_id": "other"})
        assert unknown.status_code == 404

    async def test_only_the_requests_that_were_asked_for_count(self, http: httpx.AsyncClient) -> None:
        asked = {"rule": dict(self.RULE), "include": "imported", **self.SPAN}
        assert (await http.post("/api/rules/backtest", json=asked)).json()["fired"] == 0

    async def test_one_that_takes_too_long_says_how_far_it_came(
        self, around: Around, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(around.backtester, "_most_seconds", 0)
        told = (await http.post("/api/rules/backtest", json={"rule": dict(self.RULE), **self.SPAN})).json()
        assert told["complete"] is False
        assert "go on from `through`" in told["stopped"]
        assert told["through"] < told["end"]

    async def test_one_runs_at_a_time_and_the_others_are_told(self, http: httpx.AsyncClient) -> None:
        asked = {"rule": dict(self.RULE), **self.SPAN}
        answers = await asyncio.gather(*(http.post("/api/rules/backtest", json=asked) for _ in range(3)))
        assert sorted(answer.status_code for answer in answers) == [200, 503, 503]

    @pytest.mark.parametrize(
        ("change", "where"),
        [
            ({"rule": None}, "backtest.rule"),
            ({"rule_id": "x"}, "backtest.rule"),
            ({"start": "2026-05-04T14:00:00Z"}, "backtest.start"),
            ({"start": "2025-05-04T12:00:00Z"}, "backtest.start"),
            ({"end": "soon"}, "backtest.end"),
            ({"include": "some"}, "backtest.include"),
            ({"rule": {**RULE_EXAMPLE, "window": "x"}}, "rule.window"),
        ],
    )
    async def test_what_is_wrong_with_the_question_is_said(
        self, http: httpx.AsyncClient, change: dict[str, Any], where: str
    ) -> None:
        asked = {"rule": dict(self.RULE), **self.SPAN, **change}
        answer = await http.post("/api/rules/backtest", json=asked)
        assert (answer.status_code, answer.json()["where"]) == (400, where)


async def test_without_clickhouse_nothing_is_held_against_the_past(
    http: httpx.AsyncClient,
) -> None:
    asked = {"rule": RULE_EXAMPLE, "start": "2026-05-04T10:00:00Z"}
    answer = await http.post("/api/rules/backtest", json=asked)
    assert (answer.status_code, answer.json()["where"]) == (503, "clickhouse")

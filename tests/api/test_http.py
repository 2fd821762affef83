"""What the API answers over HTTP: figures with their age and coverage, problems, and its own description."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.health.progress import FOLLOWERS, LIVE_STATE, Offsets, Sighting
from api.live.live import Record
from api.models import (
    alert_detail,
    alerts,
    backtest,
    current,
    deliveries,
    endpoints,
    events,
    health,
    historical,
    problem,
    rules,
    silences,
)
from infra.ports import free_port
from infra.settings import ClickHouseSettings
from schemas.time import SECOND
from tests.api.around import Around, alert
from tests.api.blocks import NOON, Request, block
from tests.api.conftest import WriteWindows

NOW = NOON + 30 * SECOND


class Parts(Around):
    """The application over parts that a test can reach into; Kafka is nowhere."""

    def __init__(self, clickhouse: ClickHouseSettings, parts: dict[str, str] | None = None) -> None:
        super().__init__(clickhouse, parts=parts, clock=lambda: NOW)

    def all_well(self) -> None:
        self.probe.failure = self.reader.failure = None
        self.reads_alerts()
        self.live.observe_caught_up()
        for follower in FOLLOWERS + LIVE_STATE:
            self.progress.observe(follower, Sighting(1, {0: Offsets(5, 0, 5)}), NOW)

    async def apply(self, *records: tuple[bytes, bytes]) -> None:
        await self.live.apply([Record(key, value, NOW - 2 * SECOND) for key, value in records], NOW)


@pytest.fixture
async def parts(away: ClickHouseSettings) -> AsyncIterator[Parts]:
    """Parts whose ClickHouse is away."""
    made = Parts(away, {"rollup": f"http://127.0.0.1:{free_port()}/metrics"})
    async with made:
        yield made


@pytest.fixture
async def http(parts: Parts) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(parts.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
        yield client


class TestCurrent:
    async def test_figures_come_with_window_age_and_coverage(
        self, parts: Parts, http: httpx.AsyncClient
    ) -> None:
        parts.live.observe_caught_up()
        await parts.live.observe_partitions(1, frozenset())
        failed = Request(error_type="timeout")
        await parts.apply(block([Request()] * 5, watermark=NOON + 10 * SECOND))
        await parts.apply(block([Request(), failed], "error", "1m", watermark=NOON + 10 * SECOND))
        body = (await http.get("/api/metrics/current?window=1m")).json()
        assert body["window"] == {
            "start": "2026-05-04T11:59:30Z",
            "end": "2026-05-04T12:00:30Z",
            "pane": "1s",
            "seconds": 60,
        }
        assert body["age_ms"] == 2_000
        assert body["coverage"] == {
            "partitions": {"reporting": 1, "total": 1},
            "slowest_partition": 0,
            "watermark": "2026-05-04T12:00:10Z",
            "closed_through": "2026-05-04T12:00:10Z",
            "complete": False,
            "missing": ["the window's newest panes are still open"],
        }
        assert body["groups"][0]["requests"] == 5
        assert body["groups"][0]["latency_ms"]["total"]["p95"] == 1000
        assert body["errors_by_type"]["counts"] == {"timeout": 1}
        assert body["errors_by_type"]["window"]["pane"] == "1m"

    async def test_without_requests_the_total_is_zero_and_ratios_are_unknown(
        self, http: httpx.AsyncClient
    ) -> None:
        body = (await http.get("/api/metrics/current")).json()
        total = body["groups"][0]
        assert (total["requests"], total["request_rate"], total["error_rate"]) == (0, 0, None)
        assert body["age_ms"] is None
        assert not body["coverage"]["complete"]

    async def test_groups_are_selected_by_repeating_the_key(
        self, parts: Parts, http: httpx.AsyncClient
    ) -> None:
        await parts.apply(block([Request(), Request(model="b")], "model", "1m"))
        answer = await http.get("/api/metrics/current?window=1h&grouping=model&key=openai&key=b")
        assert [g["key"] for g in answer.json()["groups"]] == [{"provider": "openai", "model": "b"}]

    @pytest.mark.parametrize(
        ("query", "where", "advice"),
        [
            ("window=5x", "window", "such as 5m"),
            ("window=2d", "window", "historical"),
            ("window=2h&grouping=user", "window", "historical"),
            ("window=30s&grouping=model", "window", "whole minutes"),
            ("window=30s&include=all", "window", "whole minutes"),
            ("grouping=colour", "grouping", "'total'"),
            ("key=x", "key", "takes no key"),
            ("limit=0", "limit", "greater than"),
            ("at=noon", "at", "ISO 8601"),
            ("at=2100-01-01T00:00:00Z", "at", "future"),
        ],
    )
    async def test_what_is_wrong_with_a_parameter_is_said(
        self, http: httpx.AsyncClient, query: str, where: str, advice: str
    ) -> None:
        answer = await http.get(f"/api/metrics/current?{query}")
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        told = problem.Problem.model_validate(answer.json())
        assert (told.type, told.where) == ("urn:chatgauge:problem:bad-parameter", where)
        assert advice in told.detail


class TestHistorical:
    async def test_series_come_from_clickhouse(
        self, tables: ClickHouseSettings, write_windows: WriteWindows
    ) -> None:
        write_windows([(0, *block([Request()] * 7, pane="1m"))])
        made = Parts(tables)
        transport = httpx.ASGITransport(made.app)
        async with (
            made,
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as http,
        ):
            query = "type=requests&start=2026-05-04T12:00:00Z&end=2026-05-04T12:02:00Z"
            answer = await http.get(f"/api/metrics/historical?{query}")
        assert answer.status_code == 200
        assert answer.json()["series"][0]["points"] == [
            {"start": "2026-05-04T12:00:00Z", "value": 7},
            {"start": "2026-05-04T12:01:00Z", "value": None},
        ]

    async def test_without_clickhouse_it_says_so_and_when_to_ask_again(self, http: httpx.AsyncClient) -> None:
        answer = await http.get("/api/metrics/historical?type=tokens")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        told = problem.Problem.model_validate(answer.json())
        assert told.where == "clickhouse"
        assert "does not answer" in told.detail

    @pytest.mark.parametrize(
        ("query", "where"),
        [
            ("", "type"),
            ("type=colour", "type"),
            ("type=cost&step=2m", "step"),
            ("type=cost&start=x", "start"),
        ],
    )
    async def test_what_is_wrong_with_a_parameter_is_said(
        self, http: httpx.AsyncClient, query: str, where: str
    ) -> None:
        answer = await http.get(f"/api/metrics/historical?{query}")
        assert (answer.status_code, answer.json()["where"]) == (400, where)


class TestHealth:
    async def test_the_process_is_alive_whatever_else_is_not(self, http: httpx.AsyncClient) -> None:
        answer = await http.get("/health/live")
        assert (answer.status_code, answer.json()["status"]) == (200, "alive")

    async def test_it_says_what_the_process_waits_for_and_whether_it_is_stalled(
        self, parts: Parts, http: httpx.AsyncClient
    ) -> None:
        unit = parts.part.unit("chat.alerts")
        unit.started()
        running = await http.get("/health/live")
        with unit.waiting("Kafka"):
            parts.uptime_s += 7
            waiting = await http.get("/health/live")
        parts.part._stalled = "no progress for 60 s"
        stalled = await http.get("/health/live")

        assert (running.status_code, running.json()["state"]) == (200, "running")
        assert (waiting.status_code, waiting.json()["state"]) == (200, "waiting")
        assert waiting.json()["waiting"] == [{"unit": "chat.alerts", "for": "Kafka", "seconds": 7}]
        assert (stalled.status_code, stalled.json()["reason"]) == (503, "no progress for 60 s")

    async def test_at_the_start_it_says_what_is_awaited(self, http: httpx.AsyncClient) -> None:
        answer = await http.get("/health/ready")
        assert answer.status_code == 503
        awaiting = answer.json()["awaiting"]
        assert "Kafka has not been looked at yet" in awaiting
        assert any("ClickHouse" in reason for reason in awaiting)

    async def test_it_is_ready_when_all_is_well(self, tables: ClickHouseSettings) -> None:
        made = Parts(tables)
        made.all_well()
        transport = httpx.ASGITransport(made.app)
        async with (
            made,
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as http,
        ):
            answer = await http.get("/health/ready")
        assert (answer.status_code, answer.json()["awaiting"]) == (200, [])
        groups = {check["name"] for check in answer.json()["checks"]}
        assert "chatgauge-sink-chat.usage on chat.usage" in groups

    async def test_a_part_that_stands_still_is_named(self, parts: Parts, http: httpx.AsyncClient) -> None:
        parts.all_well()
        parts.progress.observe(FOLLOWERS[0], Sighting(1, {3: Offsets(5, 0, 9)}), NOW - 31 * SECOND)
        checks = (await http.get("/health/ready")).json()["checks"]
        stuck = [check for check in checks if check["part"] == "rollup"]
        assert (stuck[0]["ok"], stuck[0]["lag"], stuck[0]["stuck_partitions"]) == (False, 4, [3])


class TestMetrics:
    async def test_each_part_is_said_to_be_up_or_not_and_lag_is_by_partition(
        self, parts: Parts, http: httpx.AsyncClient
    ) -> None:
        parts.progress.observe(FOLLOWERS[0], Sighting(1, {3: Offsets(5, 0, 9)}), NOW)
        await parts.apply(block([Request()], watermark=NOON))
        parts.alerts.apply(alert())
        await http.get("/api/metrics/current")
        await http.post("/api/rules", headers={"Authorization": "Bearer cg_wrong"})
        answer = await http.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        samples = {
            (s.name, *sorted(s.labels.items())): s.value
            for family in text_string_to_metric_families(answer.text)
            for s in family.samples
        }
        assert samples["chatgauge_part_up", ("part", "api")] == 1
        assert samples["chatgauge_part_up", ("part", "rollup")] == 0
        where = ("group", "chatgauge-rollup"), ("part", "api"), ("partition", "3"), ("topic", "chat.requests")
        assert samples["chatgauge_lag_records", *where] == 4
        age = ("part", "api"), ("partition", "0"), ("worker", "rollup")
        assert samples["chatgauge_watermark_age_seconds", *age] == 30
        firing = ("part", "api"), ("state", "firing")
        assert samples["chatgauge_api_open_alerts", *firing] == 1
        assert samples["chatgauge_api_wrong_keys_total", ("part", "api")] == 1
        refused = ("part", "api"), ("topic", "chat.alerts")
        assert samples["chatgauge_api_records_refused_total", *refused] == 0
        answered = ("method", "GET"), ("part", "api"), ("route", "/api/metrics/current"), ("status", "200")
        assert samples["chatgauge_api_requests_total", *answered] == 1


class TestAround:
    @pytest.mark.parametrize(
        ("host", "status"),
        [
            ("localhost:8000", 200),
            ("127.0.0.1", 200),
            ("[::1]:8000", 200),
            ("Chat.Example", 200),
            ("evil.example", 421),
            ("localhost.evil.example:8000", 421),
        ],
    )
    async def test_only_known_hosts_are_served(self, http: httpx.AsyncClient, host: str, status: int) -> None:
        answer = await http.get("/api/metrics/current", headers={"Host": host})
        assert answer.status_code == status

    async def test_probes_may_ask_by_address(self, http: httpx.AsyncClient) -> None:
        assert (await http.get("/health/live", headers={"Host": "10.0.0.7:8000"})).status_code == 200

    async def test_other_origins_are_not_invited(self, http: httpx.AsyncClient) -> None:
        answer = await http.get("/api/metrics/current", headers={"Origin": "http://evil.example"})
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["cache-control"] == "no-store"

    async def test_unknown_addresses_are_problems_too(self, http: httpx.AsyncClient) -> None:
        answer = await http.get("/api/nothing")
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:chatgauge:problem:not-found")
        wrong = await http.post("/api/metrics/current")
        assert (wrong.status_code, wrong.headers["content-type"]) == (405, "application/problem+json")
        assert wrong.headers["allow"] == "GET"

    async def test_the_page_loads_nothing_from_elsewhere(self, http: httpx.AsyncClient) -> None:
        page = await http.get("/")
        assert page.status_code == 200
        assert "default-src 'self'" in page.headers["content-security-policy"]
        for name in ("page.js", "style.css", "icon.svg"):
            assert f"/page/{name}" in page.text
            asset = await http.get(f"/page/{name}")
            assert asset.status_code == 200
            assert "https://" not in asset.text


class TestDescription:
    @pytest.fixture
    async def described(self, http: httpx.AsyncClient) -> dict[str, Any]:
        body: dict[str, Any] = (await http.get("/openapi.json")).json()
        return body

    @pytest.mark.parametrize(
        "model",
        [
            current.Current,
            historical.Historical,
            problem.Problem,
            health.Readiness,
            health.Alive,
            alerts.Alert,
            alerts.OpenAlertList,
            alerts.AlertHistory,
            alert_detail.AlertDetail,
            backtest.Backtest,
            rules.RuleAnswer,
            rules.RuleList,
            silences.SilenceAnswer,
            silences.SilenceList,
            silences.SilenceDetail,
            endpoints.EndpointAnswer,
            endpoints.EndpointWithSecret,
            endpoints.EndpointList,
            endpoints.SentTest,
            endpoints.RedriveAnswer,
            deliveries.DeliveryLog,
            deliveries.RetryAnswer,
            events.Events,
        ],
    )
    def test_examples_are_what_the_models_say(self, model: Any) -> None:
        for example in model.model_config["json_schema_extra"]["examples"]:
            assert set(model.model_validate(example).model_dump()) == set(example)

    def test_the_example_of_readiness_is_one(self) -> None:
        assert health.Readiness.model_validate(health.READY_EXAMPLE).status == "ready"

    async def test_the_routes_are_these(self, described: dict[str, Any]) -> None:
        assert {
            f"{method.upper()} {path}" for path, methods in described["paths"].items() for method in methods
        } == {
            "GET /api/metrics/current",
            "GET /api/metrics/historical",
            "GET /api/events",
            "GET /api/alerts",
            "GET /api/alerts/history",
            "GET /api/alerts/{id}",
            "POST /api/alerts/{id}/acknowledge",
            "GET /api/rules",
            "POST /api/rules",
            "POST /api/rules/backtest",
            "GET /api/rules/{id}",
            "PUT /api/rules/{id}",
            "DELETE /api/rules/{id}",
            "GET /api/silences",
            "POST /api/silences",
            "GET /api/silences/{id}",
            "DELETE /api/silences/{id}",
            "GET /api/endpoints",
            "POST /api/endpoints",
            "GET /api/endpoints/{id}",
            "PUT /api/endpoints/{id}",
            "DELETE /api/endpoints/{id}",
            "POST /api/endpoints/{id}/rotate",
            "POST /api/endpoints/{id}/enable",
            "POST /api/endpoints/{id}/disable",
            "POST /api/endpoints/{id}/test",
            "POST /api/endpoints/{id}/redrive",
            "GET /api/deliveries",
            "POST /api/deliveries/{notification_id}/retry",
            "GET /health/live",
            "GET /health/ready",
            "GET /metrics",
        }

    async def test_every_route_is_described_with_an_example(self, described: dict[str, Any]) -> None:
        for operation in operations(described):
            assert operation["summary"]
            assert operation["description"]
            assert "422" not in operation["responses"]
            good = next(answer for status, answer in operation["responses"].items() if status[0] == "2")
            for content in good.get("content", {}).values():
                name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
                schema = described["components"]["schemas"].get(name, {})
                assert "example" in content or schema.get("examples")
            for content in operation.get("requestBody", {}).get("content", {}).values():
                assert content["example"]

    async def test_whatever_changes_something_says_that_it_takes_the_key(
        self, described: dict[str, Any]
    ) -> None:
        changing = [
            operation
            for path, methods in described["paths"].items()
            for method, operation in methods.items()
            if method != "get"
        ]
        assert changing
        for operation in changing:
            assert operation["security"] == [{"admin key": []}]
            assert {"401", "403", "429"} <= set(operation["responses"])

    async def test_every_reference_resolves(self, described: dict[str, Any]) -> None:
        def references(node: Any) -> set[str]:
            if isinstance(node, dict):
                own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
                return own.union(*(references(value) for value in node.values()))
            return set().union(*map(references, node)) if isinstance(node, list) else set()

        schemas = described["components"]["schemas"]
        assert {ref.rpartition("/")[2] for ref in references(described)} <= set(schemas)

    async def test_every_parameter_is_described(self, described: dict[str, Any]) -> None:
        for operation in operations(described):
            for parameter in operation.get("parameters", []):
                assert parameter.get("description"), parameter["name"]


def operations(described: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for methods in described["paths"].values() for operation in methods.values()]

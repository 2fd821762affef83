"""Alerts over HTTP: what is open, from memory; what was, from ClickHouse; why; and who was told."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from api.alerting.cursor import Cursor
from api.alerting.opened import OpenAlerts
from api.errors import BadParameterError
from api.models.endpoints import ENDPOINT_EXAMPLE
from api.models.rules import RULE_EXAMPLE
from api.times import to_time
from infra.settings import ClickHouseSettings
from schemas.time import SECOND
from schemas.topics import ALERTS, DECISIONS, DELIVERIES, NOTIFICATIONS, RULES, SILENCES
from streams.definitions.definition import Definition
from tests.api.around import ADMIN, NOON, Around, alert, read_back
from tests.api.conftest import store_records


class TestOpenAlerts:
    """Pure: out of the transitions, what is open."""

    def states(self, alerts: OpenAlerts) -> list[tuple[str, str, int]]:
        return [(each["alert_id"], each["state"], each["transition"]) for each in alerts.open()]

    def test_the_newest_transition_holds_and_the_one_that_changed_last_comes_first(self) -> None:
        alerts = OpenAlerts()
        alerts.apply(alert(state="pending"))
        alerts.apply(alert(alert_id="al_2", changed_at=NOON))
        alerts.apply(alert(transition=2))
        assert self.states(alerts) == [("al_2", "firing", 1), ("al_1", "firing", 2)]

    def test_what_is_told_again_or_late_changes_nothing(self) -> None:
        alerts = OpenAlerts()
        for record in (alert(transition=2, value=1.0), alert(transition=2, value=2.0), alert(transition=1)):
            alerts.apply(record)
        assert alerts.open()[0]["value"] == 1.0

    def test_a_correction_replaces_the_figures(self) -> None:
        alerts = OpenAlerts()
        alerts.apply(alert())
        alerts.apply(alert(revision=1, value=0.2))
        assert [each["value"] for each in alerts.open()] == [0.2]

    def test_a_resolved_alert_is_not_open_and_still_known(self) -> None:
        alerts = OpenAlerts()
        alerts.apply(alert())
        alerts.apply(alert(transition=2, state="resolved"))
        alerts.apply(alert(transition=1))
        assert (alerts.open(), alerts.firing) == ([], {})
        known = alerts.get("al_1")
        assert known is not None
        assert known["state"] == "resolved"

    def test_only_so_many_resolved_ones_are_known(self) -> None:
        alerts = OpenAlerts(most_resolved=2)
        for n in range(3):
            alerts.apply(alert(alert_id=f"al_{n}", state="resolved"))
        assert [alerts.get(f"al_{n}") is not None for n in range(3)] == [False, True, True]

    def test_those_that_fire_are_known_by_their_rule(self) -> None:
        alerts = OpenAlerts()
        alerts.apply(alert())
        alerts.apply(alert(alert_id="al_2", state="pending"))
        alerts.apply(alert(alert_id="al_3", rule_id="other"))
        assert {rule: list(of_rule) for rule, of_rule in alerts.firing.items()} == {
            "error-rate": ["al_1"],
            "other": ["al_3"],
        }


class TestCursors:
    def test_a_cursor_comes_back_as_it_went(self) -> None:
        text = Cursor.of(to_time(NOON + 1), "al_ä")
        assert Cursor.read(text) == (NOON + 1, "al_ä")

    @pytest.mark.parametrize("text", ["", "abc", "W10", "WzEsMl0", "é", "W10" * 100, "WzFlOTk5LCJhIl0"])
    def test_what_is_none_is_refused(self, text: str) -> None:
        with pytest.raises(BadParameterError, match="no cursor"):
            Cursor.read(text)


@pytest.fixture
async def around(away: ClickHouseSettings) -> AsyncIterator[Around]:
    """Everything is there but ClickHouse; one endpoint takes all alerts."""
    async with Around(away) as around:
        around.reads_alerts()
        async with around.http() as http:
            await http.post("/api/endpoints", json=ENDPOINT_EXAMPLE, headers=dict(ADMIN))
            await http.post("/api/rules", json=RULE_EXAMPLE, headers=dict(ADMIN))
        yield around


@pytest.fixture
async def http(around: Around) -> AsyncIterator[httpx.AsyncClient]:
    async with around.http() as http:
        http.headers.update(ADMIN)
        yield http


class TestCurrent:
    async def test_an_open_alert_says_what_why_and_where_there_is_more(
        self, around: Around, http: httpx.AsyncClient
    ) -> None:
        around.alerts.apply(alert())
        body = (await http.get("/api/alerts")).json()
        assert (body["complete"], body["missing"], body["left_out"]) == (True, [], 0)
        (told,) = body["alerts"]
        assert told["rule"] == {
            "id": "error-rate",
            "name": "Error rate",
            "kind": "threshold",
            "revision": 3,
        }
        assert (told["labels"], told["group"]) == ({"team": "support"}, {"service": "support-chat"})
        assert told["window"] == {"start": "2026-05-04T11:54:00Z", "end": "2026-05-04T11:59:00Z"}
        assert told["coverage"] == {"parts": 4, "parts_expected": 4, "complete": True}
        assert told["details"] == {"mean": "0.02"}
        assert told["links"] == {
            "self": "/api/alerts/al_1",
            "rule": "/api/rules/error-rate",
            "events": "/events?alert=al_1&transition=1",
        }
        assert told["held_back"] is None

    async def test_alerts_are_chosen_by_state_severity_rule_and_label(
        self, around: Around, http: httpx.AsyncClient
    ) -> None:
        around.alerts.apply(alert())
        around.alerts.apply(alert(alert_id="al_2", state="pending", severity="info", rule_id="slow"))
        around.alerts.apply(alert(alert_id="al_3", group=["service=search"], changed_at=NOON))

        async def ids(query: str) -> list[str]:
            return [each["alert_id"] for each in (await http.get(f"/api/alerts?{query}")).json()["alerts"]]

        assert await ids("") == ["al_3", "al_2", "al_1"]
        assert await ids("state=pending") == ["al_2"]
        assert await ids("severity=error&severity=critical") == ["al_3", "al_1"]
        assert await ids("rule=slow") == ["al_2"]
        assert await ids("label=team=support&label=service=search") == ["al_3"]
        first = (await http.get("/api/alerts?limit=1")).json()
        assert (len(first["alerts"]), first["left_out"]) == (1, 2)

    @pytest.mark.parametrize(
        ("query", "where"),
        [
            ("state=resolved", "state"),
            ("severity=bad", "severity"),
            ("label=x", "label"),
            ("limit=0", "limit"),
        ],
    )
    async def test_what_is_wrong_with_a_parameter_is_said(
        self, http: httpx.AsyncClient, query: str, where: str
    ) -> None:
        answer = await http.get(f"/api/alerts?{query}")
        assert (answer.status_code, answer.json()["where"]) == (400, where)

    async def test_before_all_is_read_it_says_so(self, around: Around, http: httpx.AsyncClient) -> None:
        around.follower.caught_up = False
        body = (await http.get("/api/alerts")).json()
        assert (body["complete"], len(body["missing"])) == (False, 1)
        around.follower.failure = "Kafka does not answer"
        assert (await http.get("/api/alerts")).json()["missing"] == ["Kafka does not answer"]


class TestHeldBack:
    async def held(self, http: httpx.AsyncClient) -> Any:
        return (await http.get("/api/alerts")).json()["alerts"][0]["held_back"]

    async def test_a_silence_holds_back_what_it_matches_while_it_holds(
        self, around: Around, http: httpx.AsyncClient
    ) -> None:
        around.alerts.apply(alert())
        silence = {"matchers": ["team=support"], "duration": "1h", "author": "Ada", "reason": "moving"}
        made = (await http.post("/api/silences", json=silence)).json()
        held = await self.held(http)
        assert (held["what"], held["by"]) == ("silenced", made["id"])
        assert "Ada" in held["reason"]
        assert "moving" in held["reason"]
        around.time.passes(3600)
        assert await self.held(http) is None

    async def test_an_acknowledgement_holds_until_it_is_taken_back_or_the_alert_resolves(
        self, around: Around, http: httpx.AsyncClient
    ) -> None:
        around.alerts.apply(alert())
        made = await http.post("/api/alerts/al_1/acknowledge", json={"author": "Ada", "reason": "on it"})
        assert made.status_code == 200
        told = made.json()
        assert (told["kind"], told["alert_id"], told["state"]) == ("acknowledgement", "al_1", "active")
        assert (await self.held(http))["what"] == "acknowledged"
        again = await http.post("/api/alerts/al_1/acknowledge", json={"author": "Grace"})
        assert (again.json()["id"], again.json()["author"]) == (told["id"], "Grace")
        assert (await http.delete(f"/api/silences/{told['id']}")).json()["state"] == "expired"
        assert await self.held(http) is None
        await http.post("/api/alerts/al_1/acknowledge", json={"author": "Ada"})
        around.alerts.apply(alert(transition=2, state="resolved"))
        assert (await http.get("/api/silences")).json() == {"silences": []}
        assert (await http.get("/api/silences?state=expired")).json()["silences"][0]["alert_id"] == "al_1"

    async def test_an_alert_that_another_explains_is_inhibited(
        self, around: Around, http: httpx.AsyncClient
    ) -> None:
        total = RULE_EXAMPLE | {"id": "down", "grouping": "total", "inhibits": ["error-rate"]}
        await around.topics.publish(RULES, Definition("down", 1, False, NOON, "", total))
        around.alerts.apply(alert())
        around.alerts.apply(
            alert(alert_id="al_0", rule_id="down", grouping="total", group=[], changed_at=NOON - 100 * SECOND)
        )
        held = await self.held(http)
        assert (held["what"], held["by"]) == ("inhibited", "al_0")

    async def test_quiet_hours_hold_back(self, around: Around, http: httpx.AsyncClient) -> None:
        quiet = RULE_EXAMPLE | {"quiet_hours": [{"start": "11:00", "end": "13:00"}]}
        made = await http.put("/api/rules/error-rate", json=quiet, headers={"If-Match": "*"})
        assert made.status_code == 200, made.text
        around.alerts.apply(alert())
        assert (await self.held(http))["what"] == "quiet"

    async def test_an_alert_that_no_endpoint_wants_is_unmatched(
        self, around: Around, http: httpx.AsyncClient
    ) -> None:
        around.alerts.apply(alert(severity="info"))
        assert (await self.held(http))["what"] == "unmatched"

    async def test_of_a_pending_alert_nobody_is_told_anyway(
        self, around: Around, http: httpx.AsyncClient
    ) -> None:
        around.alerts.apply(alert(state="pending", severity="info"))
        assert await self.held(http) is None

    async def test_what_can_not_be_read_holds_nothing_back(
        self, around: Around, http: httpx.AsyncClient
    ) -> None:
        await around.topics.publish(SILENCES, Definition("odd", 1, False, NOON, "", {"odd": True}))
        around.alerts.apply(alert())
        assert await self.held(http) is None


class TestAcknowledging:
    async def test_only_what_is_open_can_be_taken_charge_of(
        self, around: Around, http: httpx.AsyncClient
    ) -> None:
        around.alerts.apply(alert(state="resolved"))
        ada = {"author": "Ada"}
        assert (await http.post("/api/alerts/al_1/acknowledge", json=ada)).status_code == 409
        assert (await http.post("/api/alerts/al_9/acknowledge", json=ada)).status_code == 404
        around.follower.caught_up = False
        assert (await http.post("/api/alerts/al_9/acknowledge", json=ada)).status_code == 503

    async def test_it_takes_an_author(self, around: Around, http: httpx.AsyncClient) -> None:
        around.alerts.apply(alert())
        answer = await http.post("/api/alerts/al_1/acknowledge", json={})
        assert (answer.status_code, answer.json()["where"]) == (400, "acknowledgement.author")


class TestWithoutClickHouse:
    async def test_an_open_alert_is_still_explained(self, around: Around, http: httpx.AsyncClient) -> None:
        around.alerts.apply(alert())
        body = (await http.get("/api/alerts/al_1")).json()
        assert body["complete"] is False
        assert "ClickHouse" in body["missing"][0]
        assert body["cause"]["offsets"] == [
            {"topic": "chat.requests", "partition": 2, "first": 81204, "last": 83377},
            {"topic": "chat.requests", "partition": 3, "first": 5, "last": 9},
        ]
        assert body["cause"]["rule"]["revision"] == 3
        assert [each["transition"] for each in body["transitions"]] == [1]

    async def test_what_only_clickhouse_knows_is_not_said_to_be_absent(self, http: httpx.AsyncClient) -> None:
        for address in ("/api/alerts/al_9", "/api/alerts/history"):
            answer = await http.get(address)
            assert (answer.status_code, answer.json()["where"]) == (503, "clickhouse")
            assert int(answer.headers["retry-after"]) > 0


def numbered(number: int, **differing: Any) -> dict[str, Any]:
    return alert(alert_id=f"al_{number}", changed_at=NOON + number * SECOND, **differing)


@pytest.fixture(scope="module")
def stocked(shared_tables: ClickHouseSettings) -> ClickHouseSettings:
    store_records(
        shared_tables,
        ALERTS,
        [
            numbered(1),
            numbered(1),
            numbered(1, revision=1, value=0.2),
            numbered(2),
            numbered(2, transition=2, state="resolved", severity="critical"),
            numbered(3, rule_id="slow", group=["service=search"], severity="info"),
            numbered(4, state="pending"),
        ],
    )
    decision = {"decided_at": NOON + SECOND, "reason": "because", "alert_id": "al_1", "transition": 1}
    store_records(
        shared_tables,
        DECISIONS,
        [
            decision | {"decision_id": "de_1", "what": "firing", "value": 0.14},
            decision | {"decision_id": "de_2", "what": "silenced", "silence_id": "si_1"},
            decision | {"decision_id": "de_2", "what": "silenced", "silence_id": "si_1"},
            decision | {"decision_id": "de_3", "what": "notified", "notification_id": "nt_1"},
        ],
    )
    store_records(
        shared_tables,
        NOTIFICATIONS,
        [
            {
                "notification_id": "nt_1",
                "endpoint_id": "oncall",
                "type": "alert.firing",
                "created_at": NOON,
                "body": "{}",
                "alerts": ["al_1/1", "al_10/1"],
            }
        ],
    )
    attempt = {"notification_id": "nt_1", "endpoint_id": "oncall", "channel": "webhook"}
    store_records(
        shared_tables,
        DELIVERIES,
        [
            attempt
            | {
                "attempt_id": f"at_{n}",
                "type": "alert.firing",
                "attempt": n,
                "outcome": outcome,
                "started_at": NOON + n * SECOND,
            }
            for n, outcome in enumerate(("failed", "delivered"), 1)
        ],
    )
    return shared_tables


class TestHistory:
    """With the tables, and records in them as the sink writes them."""

    @pytest.fixture
    async def around(self, stocked: ClickHouseSettings) -> AsyncIterator[Around]:
        async with Around(stocked) as around:
            around.reads_alerts()
            silence = {
                "id": "si_1",
                "matchers": ["team=support"],
                "starts_at": "2026-05-04T11:00:00Z",
                "ends_at": "2026-05-04T13:00:00Z",
                "author": "Ada",
                "reason": "moving",
            }
            await around.topics.publish(SILENCES, Definition("si_1", 1, False, NOON, "", silence))
            around.alerts.apply(read_back(numbered(1, revision=1, value=0.2)))
            around.alerts.apply(read_back(numbered(3, transition=2, state="resolved", rule_id="slow")))
            yield around

    async def test_each_alert_is_there_once_as_it_is_now(self, http: httpx.AsyncClient) -> None:
        async def found(query: str) -> list[tuple[str, str, float | None]]:
            answer = await http.get(f"/api/alerts/history?{query}")
            assert answer.status_code == 200, answer.text
            return [(each["alert_id"], each["state"], each["value"]) for each in answer.json()["alerts"]]

        assert await found("") == [
            ("al_4", "pending", 0.14),
            ("al_3", "firing", 0.14),
            ("al_2", "resolved", 0.14),
            ("al_1", "firing", 0.2),
        ]
        assert [each[0] for each in await found("state=resolved")] == ["al_2"]
        assert [each[0] for each in await found("severity=info&rule=slow")] == ["al_3"]
        assert [each[0] for each in await found("label=service=search")] == ["al_3"]
        span = "start=2026-05-04T12:00:02Z&end=2026-05-04T12:00:04Z"
        assert [each[0] for each in await found(span)] == ["al_3", "al_2"]

    async def test_pages_follow_each_other_without_a_gap(self, http: httpx.AsyncClient) -> None:
        seen: list[str] = []
        cursor = ""
        while True:
            page = (await http.get(f"/api/alerts/history?limit=1{cursor}")).json()
            seen += [each["alert_id"] for each in page["alerts"]]
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        assert seen == ["al_4", "al_3", "al_2", "al_1"]

    async def test_one_alert_has_its_transitions_decisions_and_notifications(
        self, http: httpx.AsyncClient
    ) -> None:
        body = (await http.get("/api/alerts/al_1")).json()
        assert (body["complete"], body["missing"]) == (True, [])
        assert [(each["transition"], each["corrections"]) for each in body["transitions"]] == [(1, 1)]
        assert [each["what"] for each in body["decisions"]] == ["firing", "silenced", "notified"]
        assert body["notifications"] == [
            {
                "notification_id": "nt_1",
                "endpoint_id": "oncall",
                "type": "alert.firing",
                "created_at": "2026-05-04T12:00:00Z",
                "outcome": "delivered",
                "attempts": 2,
                "deliveries": "/api/deliveries?notification=nt_1",
            }
        ]
        assert body["alert"]["held_back"]["by"] == "si_1"

    async def test_what_is_newer_in_memory_comes_before_what_clickhouse_has(
        self, http: httpx.AsyncClient
    ) -> None:
        body = (await http.get("/api/alerts/al_3")).json()
        assert body["alert"]["state"] == "resolved"
        assert [each["state"] for each in body["transitions"]] == ["firing", "resolved"]
        assert body["notifications"] == []

    async def test_what_has_been_open_for_longer_than_kafka_remembers_is_recalled(
        self, around: Around
    ) -> None:
        await around.services.alerts.recall()
        assert [each["alert_id"] for each in around.alerts.open()] == ["al_1"]
        around.time.passes(40 * 86_400)
        await around.services.alerts.recall()
        assert [each["alert_id"] for each in around.alerts.open()] == ["al_4", "al_1"]

    async def test_what_there_never_was_is_not_found(self, http: httpx.AsyncClient) -> None:
        answer = await http.get("/api/alerts/al_9")
        assert (answer.status_code, answer.json()["where"]) == (404, "id")

    async def test_a_silence_shows_what_it_has_held_back(self, http: httpx.AsyncClient) -> None:
        told = (await http.get("/api/silences/si_1")).json()
        assert told["complete"] is True
        assert [(each["alert_id"], each["what"]) for each in told["held_back"]] == [("al_1", "silenced")]

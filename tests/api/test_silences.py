"""Silences over HTTP: set up with author and reason, listed, ended early; and what they hold back."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from api.models.silences import SILENCE_EXAMPLE
from infra.settings import ClickHouseSettings
from schemas.topics import SILENCES
from streams.definitions.definition import Definition
from streams.notifications.silence import Silence, parse_silence
from streams.notifications.transition import Transition
from tests.api.around import ADMIN, NOON, Around, alert


@pytest.fixture
async def around(away: ClickHouseSettings) -> AsyncIterator[Around]:
    async with Around(away) as around:
        around.reads_alerts()
        yield around


@pytest.fixture
async def http(around: Around) -> AsyncIterator[httpx.AsyncClient]:
    async with around.http() as http:
        http.headers.update(ADMIN)
        yield http


async def test_a_silence_is_set_up_and_the_notifier_finds_it(around: Around, http: httpx.AsyncClient) -> None:
    made = await http.post("/api/silences", json=SILENCE_EXAMPLE)
    assert made.status_code == 201
    told = made.json()
    assert (told["state"], told["starts_at"], told["ends_at"]) == (
        "active",
        "2026-05-04T12:00:00Z",
        "2026-05-04T14:00:00Z",
    )
    assert told["matchers"][0] == {"name": "rule", "operator": "=", "value": "error-rate"}
    assert made.headers["location"] == f"/api/silences/{told['id']}"
    assert (await http.get("/api/silences")).json() == {"silences": [told]}
    silence = parse_silence(around.topics[SILENCES].items[told["id"]].definition)
    assert isinstance(silence, Silence)
    assert silence.active(NOON)
    assert silence.matches(Transition.of(alert()).properties)


async def test_a_silence_may_begin_later(around: Around, http: httpx.AsyncClient) -> None:
    later = SILENCE_EXAMPLE | {"starts_at": "2026-05-04T20:00:00+02:00"}
    told = (await http.post("/api/silences", json=later)).json()
    assert (told["state"], told["ends_at"]) == ("pending", "2026-05-04T20:00:00Z")
    around.time.passes(7 * 3600)
    assert (await http.get(f"/api/silences/{told['id']}")).json()["state"] == "active"
    around.time.passes(2 * 3600)
    assert (await http.get(f"/api/silences/{told['id']}")).json()["state"] == "expired"
    assert (await http.get("/api/silences")).json()["silences"] == []
    assert len((await http.get("/api/silences?state=expired")).json()["silences"]) == 1


@pytest.mark.parametrize("starts_at", [None, "2026-05-05T00:00:00Z"])
async def test_a_silence_is_ended_early_and_stays_listed(
    around: Around, http: httpx.AsyncClient, starts_at: str | None
) -> None:
    made = (await http.post("/api/silences", json=SILENCE_EXAMPLE | {"starts_at": starts_at})).json()
    around.time.passes(60)
    ended = await http.delete(f"/api/silences/{made['id']}")
    assert (ended.status_code, ended.json()["state"]) == (200, "expired")
    assert ended.json()["ends_at"] == "2026-05-04T12:01:00Z"
    silence = parse_silence(around.topics[SILENCES].items[made["id"]].definition)
    assert isinstance(silence, Silence)
    assert not silence.active(around.time())
    again = await http.delete(f"/api/silences/{made['id']}")
    assert again.status_code == 409
    assert (await http.get("/api/silences?state=expired")).json()["silences"][0]["id"] == made["id"]


@pytest.mark.parametrize(
    ("change", "where", "says"),
    [
        ({"author": ""}, "silence.author", "at least 1"),
        ({"reason": None}, "silence.reason", "string"),
        ({"matchers": []}, "silence.matchers", "at least 1"),
        ({"matchers": ["model"]}, "silence.matchers.0", "model=gpt-4o"),
        ({"matchers": ["model=~gpt.*"]}, "silence.matchers.0", "wildcards"),
        ({"matchers": ["model!=x"]}, "silence.matchers", "almost everything"),
        ({"duration": "soon"}, "silence.duration", "5m"),
        ({"duration": None}, "silence.ends_at", "duration"),
        ({"ends_at": "2026-05-05T00:00:00Z"}, "silence.ends_at", "either"),
        ({"duration": "9999d"}, "silence", "366 days"),
        ({"starts_at": "2026-05-04T08:00:00Z"}, "silence.ends_at", "past"),
        ({"starts_at": "2026-05-04T08:00:00"}, "silence.starts_at", "timezone"),
        ({"autor": "x"}, "silence.autor", "no such field"),
    ],
)
async def test_what_is_wrong_with_a_silence_is_said(
    http: httpx.AsyncClient, change: dict[str, Any], where: str, says: str
) -> None:
    answer = await http.post("/api/silences", json=SILENCE_EXAMPLE | change)
    assert (answer.status_code, answer.json()["where"]) == (400, where)
    assert says in answer.json()["detail"]


async def test_old_silences_are_cleared_away_when_another_is_set_up(
    around: Around, http: httpx.AsyncClient
) -> None:
    first = (await http.post("/api/silences", json=SILENCE_EXAMPLE)).json()
    around.time.passes(29 * 86_400)
    await http.post("/api/silences", json=SILENCE_EXAMPLE)
    assert first["id"] in around.topics[SILENCES].items
    around.time.passes(2 * 86_400)
    await http.post("/api/silences", json=SILENCE_EXAMPLE)
    assert first["id"] not in around.topics[SILENCES].items


async def test_what_can_not_be_read_holds_up_nobody(around: Around, http: httpx.AsyncClient) -> None:
    await around.topics.publish(SILENCES, Definition("odd", 1, False, NOON, "", {"odd": True}))
    assert (await http.post("/api/silences", json=SILENCE_EXAMPLE)).status_code == 201
    assert len((await http.get("/api/silences")).json()["silences"]) == 1


async def test_without_clickhouse_a_silence_says_that_what_it_held_back_is_not_known(
    http: httpx.AsyncClient,
) -> None:
    made = (await http.post("/api/silences", json=SILENCE_EXAMPLE)).json()
    told = (await http.get(f"/api/silences/{made['id']}")).json()
    assert (told["complete"], told["held_back"]) == (False, [])
    assert "ClickHouse" in told["missing"][0]

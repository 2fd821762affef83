"""Endpoints over HTTP: secrets are shown once, kept encrypted, and rotated; what is wrong is said."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from api.definitions.endpoints import MASK
from api.models.endpoints import ENDPOINT_EXAMPLE
from api.times import to_time
from infra.settings import ClickHouseSettings
from schemas.topics import ENDPOINTS
from streams.definitions.definition import Definition
from streams.deliveries.signing import signature_headers
from streams.endpoints.endpoint import Endpoint, parse_endpoint
from tests.api.around import ADMIN, NOON, Around

PAGER = {"id": "pager", "channel": "pagerduty", "credential": "R0UT1NGK3Y"}


@pytest.fixture
async def around(away: ClickHouseSettings) -> AsyncIterator[Around]:
    async with Around(away, allow=["10.1.0.0/16"]) as around:
        yield around


@pytest.fixture
async def http(around: Around) -> AsyncIterator[httpx.AsyncClient]:
    async with around.http() as http:
        http.headers.update(ADMIN)
        yield http


def kept(around: Around, key: str) -> Endpoint:
    return parse_endpoint(around.topics[ENDPOINTS].items[key].definition)


def written(around: Around) -> bytes:
    """All that was ever written to chat.endpoints."""
    return b"".join(filter(None, around.topics[ENDPOINTS].history))


class TestSecrets:
    async def test_a_webhook_gets_a_secret_that_is_shown_once_and_kept_encrypted(
        self, around: Around, http: httpx.AsyncClient
    ) -> None:
        made = await http.post("/api/endpoints", json=ENDPOINT_EXAMPLE)
        assert made.status_code == 201
        secret = made.json()["secret"]
        assert secret.startswith("whsec_")
        assert made.json()["endpoint"]["secrets"][0]["value"] == MASK
        for answer in (await http.get("/api/endpoints"), await http.get("/api/endpoints/oncall")):
            assert secret not in answer.text
            assert kept(around, "oncall").secrets[0].value not in answer.text
        assert secret.encode() not in written(around)
        assert around.vault.decrypt(kept(around, "oncall").secrets[0].value, "oncall") == secret
        Webhook(secret)

    async def test_a_credential_goes_in_and_never_comes_out(
        self, around: Around, http: httpx.AsyncClient
    ) -> None:
        made = await http.post("/api/endpoints", json=PAGER)
        assert made.status_code == 201
        assert made.json()["secret"] is None
        assert made.json()["endpoint"]["credential"]["value"] == MASK
        assert PAGER["credential"] not in made.text
        assert PAGER["credential"].encode() not in written(around)
        credential = kept(around, "pager").credential
        assert credential is not None
        assert around.vault.decrypt(credential.value, "pager") == PAGER["credential"]

    async def test_what_was_read_is_sent_back_without_losing_what_is_masked(
        self, around: Around, http: httpx.AsyncClient
    ) -> None:
        hook = ENDPOINT_EXAMPLE | {"credential": "Bearer abc", "headers": {"X-Team": "support"}}
        await http.post("/api/endpoints", json=hook)
        before = kept(around, "oncall")
        read = (await http.get("/api/endpoints/oncall")).json()
        put = await http.put(
            "/api/endpoints/oncall",
            json=read["endpoint"] | {"name": "Night shift"},
            headers={"If-Match": f'"{read["revision"]}"'},
        )
        assert (put.status_code, put.headers["etag"]) == (200, '"2"')
        after = kept(around, "oncall")
        assert after.name == "Night shift"
        assert after.model_copy(update={"name": before.name}) == before

    async def test_without_a_word_of_it_a_credential_stays_and_null_takes_it_away(
        self, around: Around, http: httpx.AsyncClient
    ) -> None:
        await http.post("/api/endpoints", json=ENDPOINT_EXAMPLE | {"credential": "Bearer abc"})
        any_ = {"If-Match": "*"}
        await http.put("/api/endpoints/oncall", json=ENDPOINT_EXAMPLE, headers=any_)
        assert kept(around, "oncall").credential is not None
        await http.put(
            "/api/endpoints/oncall", json=ENDPOINT_EXAMPLE | {"credential": "Bearer x"}, headers=any_
        )
        credential = kept(around, "oncall").credential
        assert credential is not None
        assert around.vault.decrypt(credential.value, "oncall") == "Bearer x"
        await http.put("/api/endpoints/oncall", json=ENDPOINT_EXAMPLE | {"credential": None}, headers=any_)
        assert kept(around, "oncall").credential is None

    async def test_whoever_has_no_key_sees_neither_path_nor_headers(
        self, around: Around, http: httpx.AsyncClient
    ) -> None:
        hook = ENDPOINT_EXAMPLE | {"headers": {"X-Token": "t0ken"}}
        made = (await http.post("/api/endpoints", json=hook)).json()
        assert made["endpoint"]["url"] == ENDPOINT_EXAMPLE["url"]
        async with around.http() as anybody:
            answer = await anybody.get("/api/endpoints")
            wrong = await anybody.get("/api/endpoints", headers={"Authorization": "Bearer cg_no"})
        shown = answer.json()["endpoints"][0]["endpoint"]
        assert shown["url"] == f"https://example.org/{MASK}"
        assert "t0ken" not in answer.text
        assert wrong.status_code == 403


class TestRotation:
    async def test_the_old_secret_signs_beside_the_new_one_until_it_ends(
        self, around: Around, http: httpx.AsyncClient
    ) -> None:
        first = (await http.post("/api/endpoints", json=ENDPOINT_EXAMPLE)).json()["secret"]
        rotated = await http.post("/api/endpoints/oncall/rotate", json={"overlap": "2h"})
        assert rotated.status_code == 200
        second = rotated.json()["secret"]
        assert second not in (first, None)
        now = to_time(around.time())
        for later, accepted in ((timedelta(0), (first, second)), (timedelta(hours=2), (second,))):
            live = [
                around.vault.decrypt(each.value, "oncall")
                for each in kept(around, "oncall").live_secrets(now + later)
            ]
            assert live == list(reversed(accepted))
        headers = signature_headers("nt_1", "{}", [second, first], NOON / 1e6)
        assert len(headers["webhook-signature"].split()) == 2

    async def test_a_secret_that_has_become_known_ends_at_once(
        self, around: Around, http: httpx.AsyncClient
    ) -> None:
        await http.post("/api/endpoints", json=ENDPOINT_EXAMPLE)
        secret = (await http.post("/api/endpoints/oncall/rotate", json={"overlap": "0s"})).json()["secret"]
        (only,) = kept(around, "oncall").secrets
        assert around.vault.decrypt(only.value, "oncall") == secret

    async def test_without_a_word_the_old_one_has_a_day(
        self, around: Around, http: httpx.AsyncClient
    ) -> None:
        await http.post("/api/endpoints", json=ENDPOINT_EXAMPLE)
        assert (await http.post("/api/endpoints/oncall/rotate")).status_code == 200
        assert kept(around, "oncall").secrets[1].expires_at == to_time(NOON) + timedelta(days=1)

    async def test_rotating_often_never_leaves_more_than_eight(
        self, around: Around, http: httpx.AsyncClient
    ) -> None:
        await http.post("/api/endpoints", json=ENDPOINT_EXAMPLE)
        for _ in range(10):
            assert (await http.post("/api/endpoints/oncall/rotate")).status_code == 200
        assert len(kept(around, "oncall").secrets) == 8

    @pytest.mark.parametrize("overlap", ["31d", "soon"])
    async def test_an_impossible_overlap_is_refused(self, http: httpx.AsyncClient, overlap: str) -> None:
        answer = await http.post("/api/endpoints/oncall/rotate", json={"overlap": overlap})
        assert (answer.status_code, answer.json()["where"]) == (400, "rotation.overlap")

    async def test_what_does_not_sign_has_nothing_to_rotate(self, http: httpx.AsyncClient) -> None:
        await http.post("/api/endpoints", json=PAGER)
        answer = await http.post("/api/endpoints/pager/rotate")
        assert answer.status_code == 409
        assert "PUT /api/endpoints/pager" in answer.json()["detail"]


class TestSwitching:
    async def test_disabled_says_why_and_since_when_and_enabled_forgets_it(
        self, around: Around, http: httpx.AsyncClient
    ) -> None:
        await http.post("/api/endpoints", json=ENDPOINT_EXAMPLE)
        off = await http.post("/api/endpoints/oncall/disable", json={"reason": "it moves"})
        shown = off.json()["endpoint"]
        assert (shown["enabled"], shown["disabled_because"]) == (False, "it moves")
        assert shown["disabled_at"] == "2026-05-04T12:00:00Z"
        assert off.json().get("secret") is None
        on = (await http.post("/api/endpoints/oncall/enable")).json()["endpoint"]
        assert (on["enabled"], on["disabled_because"], on["disabled_at"]) == (True, None, None)
        assert kept(around, "oncall").enabled

    async def test_a_change_keeps_why_it_is_disabled(self, around: Around, http: httpx.AsyncClient) -> None:
        await http.post("/api/endpoints", json=ENDPOINT_EXAMPLE)
        await http.post("/api/endpoints/oncall/disable", json={"reason": "it moves"})
        read = (await http.get("/api/endpoints/oncall")).json()["endpoint"]
        await http.put("/api/endpoints/oncall", json=read, headers={"If-Match": '"2"'})
        assert kept(around, "oncall").disabled_because == "it moves"

    async def test_a_revision_that_is_gone_is_not_switched(self, http: httpx.AsyncClient) -> None:
        await http.post("/api/endpoints", json=ENDPOINT_EXAMPLE)
        await http.post("/api/endpoints/oncall/disable")
        late = await http.post("/api/endpoints/oncall/enable", headers={"If-Match": '"1"'})
        assert late.status_code == 412


class TestTesting:
    async def test_a_test_goes_the_way_of_all_notifications(
        self, around: Around, http: httpx.AsyncClient
    ) -> None:
        await http.post("/api/endpoints", json=ENDPOINT_EXAMPLE)
        sent = await http.post("/api/endpoints/oncall/test")
        assert sent.status_code == 202
        (notification,) = around.sent.notifications
        assert (notification.endpoint_id, notification.type) == ("oncall", "endpoint.test")
        assert notification.notification_id == sent.json()["notification_id"]
        assert sent.json()["deliveries"].endswith(notification.notification_id)
        assert '"endpoint_id":"oncall"' in notification.body

    async def test_a_disabled_endpoint_is_not_tested(self, around: Around, http: httpx.AsyncClient) -> None:
        await http.post("/api/endpoints", json=ENDPOINT_EXAMPLE)
        await http.post("/api/endpoints/oncall/disable")
        answer = await http.post("/api/endpoints/oncall/test")
        assert answer.status_code == 409
        assert "/enable first" in answer.json()["detail"]
        assert around.sent.notifications == []


async def test_an_endpoint_without_an_id_gets_one(http: httpx.AsyncClient) -> None:
    nameless = {key: value for key, value in ENDPOINT_EXAMPLE.items() if key != "id"}
    made = (await http.post("/api/endpoints", json=nameless)).json()
    assert made["id"].startswith("ep_")
    assert (await http.get(f"/api/endpoints/{made['id']}")).json()["endpoint"]["name"] == "On call"


async def test_a_deleted_endpoint_is_gone(http: httpx.AsyncClient) -> None:
    await http.post("/api/endpoints", json=ENDPOINT_EXAMPLE)
    assert (await http.delete("/api/endpoints/oncall")).status_code == 204
    assert (await http.get("/api/endpoints/oncall")).status_code == 404


@pytest.mark.parametrize(
    ("change", "where", "says"),
    [
        ({"url": "http://8.8.8.8/hook"}, "endpoint.url", "https"),
        ({"url": "https://169.254.169.254/latest"}, "endpoint.url", "CHATGAUGE_DELIVERY_ALLOW"),
        ({"url": "https://[::ffff:127.0.0.1]/"}, "endpoint.url", "CHATGAUGE_DELIVERY_ALLOW"),
        ({"url": "https://user:pw@example.org/"}, "endpoint.url", "credential"),
        ({"url": None}, "endpoint", "url"),
        ({"channel": "pigeon"}, "endpoint.channel", "webhook"),
        ({"id": "Not An Id"}, "endpoint.id", "pattern"),
        ({"id": 7}, "endpoint.id", "text"),
        ({"credential": 7}, "endpoint.credential", "text"),
        ({"credential": "a\nb"}, "endpoint.credential", "ASCII"),
        ({"subscriptions": [{"types": ["alarm.*"]}]}, "endpoint.subscriptions.0.types", "alert.firing"),
        ({"template": "{% if %}"}, "endpoint.template", "line 1"),
        ({"concurency": 4}, "endpoint.concurency", "no such field"),
        ({"headers": {"Host": "x"}}, "endpoint.headers", "not to be set"),
    ],
)
async def test_what_is_wrong_with_an_endpoint_is_said(
    http: httpx.AsyncClient, change: dict[str, Any], where: str, says: str
) -> None:
    answer = await http.post("/api/endpoints", json=ENDPOINT_EXAMPLE | change)
    assert (answer.status_code, answer.json()["where"]) == (400, where)
    assert says in answer.json()["detail"]


async def test_exceptions_to_what_may_be_called_hold_here_too(http: httpx.AsyncClient) -> None:
    inside = ENDPOINT_EXAMPLE | {"url": "http://10.1.2.3:9000/hook"}
    assert (await http.post("/api/endpoints", json=inside)).status_code == 201


async def test_an_endpoint_stays_what_it_is(http: httpx.AsyncClient) -> None:
    await http.post("/api/endpoints", json=ENDPOINT_EXAMPLE)
    other = ENDPOINT_EXAMPLE | {"channel": "slack"}
    answer = await http.put("/api/endpoints/oncall", json=other, headers={"If-Match": "*"})
    assert (answer.status_code, answer.json()["where"]) == (400, "endpoint.channel")


async def test_one_that_can_not_be_read_is_named_and_can_be_deleted(
    around: Around, http: httpx.AsyncClient
) -> None:
    await around.topics.publish(ENDPOINTS, Definition("odd", 1, False, NOON, "", {"odd": True}))
    assert (await http.get("/api/endpoints")).json()["unreadable"] == ["odd"]
    assert (await http.get("/api/endpoints/odd")).status_code == 409
    assert (await http.delete("/api/endpoints/odd")).status_code == 204

"""Webhooks: what arrives, and what every answer means."""

import asyncio
import json
import re
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from streams.deliveries.channels.webhook import WebhookChannel
from streams.deliveries.client import DeliveryClient
from streams.deliveries.outcome import Verdict
from streams.deliveries.rendering import Renderer
from streams.deliveries.signing import new_secret
from tests.streams.deliveries.channels.samples import VAULT, alert, endpoint, of_alerts, secret
from tests.streams.deliveries.receivers import Received, answer, receiver


@pytest.fixture
def channel(client: DeliveryClient, renderer: Renderer) -> WebhookChannel:
    return WebhookChannel(client, VAULT, renderer)


async def test_a_webhook_carries_the_event_and_a_signature_that_verifies(channel: WebhookChannel) -> None:
    whsec, now = new_secret(), time.time()
    notification = of_alerts([alert(summary="ünïcode")])
    async with receiver() as served:
        sent = endpoint("webhook", f"{served.url}/hook?token=geheim", secrets=[secret(whsec)])
        response = await channel.send(sent, notification, 1, now)

    (request,) = served.requests
    assert response.verdict is Verdict.DELIVERED
    assert (response.status, response.error, response.response) == (200, None, "ok")
    assert request.body.decode() == notification.body
    assert request.target == "/hook?token=geheim"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == notification.notification_id
    assert request.headers["webhook-timestamp"] == str(int(now))
    assert Webhook(whsec).verify(request.body, request.headers) == json.loads(notification.body)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(request.body, request.headers)


async def test_while_a_secret_is_replaced_both_verify_and_after_that_only_the_new_one(
    channel: WebhookChannel,
) -> None:
    old, new, now = new_secret(), new_secret(), time.time()
    async with receiver() as served:
        rotating = endpoint(
            "webhook",
            served.url,
            secrets=[
                secret(old, created_at=now - 900, expires_at=now + 100),
                secret(new, created_at=now - 10),
            ],
        )
        await channel.send(rotating, of_alerts([alert()]), 1, now)
        await channel.send(rotating, of_alerts([alert()]), 1, now + 101)

    during, after = served.requests
    assert len(during.headers["webhook-signature"].split(" ")) == 2
    Webhook(old).verify(during.body, during.headers)
    Webhook(new).verify(during.body, during.headers)
    Webhook(new).verify(after.body, after.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(old).verify(after.body, after.headers)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, Verdict.DELIVERED),
        (201, Verdict.DELIVERED),
        (204, Verdict.DELIVERED),
        (299, Verdict.DELIVERED),
        (301, Verdict.FAILED),
        (304, Verdict.FAILED),
        (400, Verdict.FAILED),
        (401, Verdict.FAILED),
        (404, Verdict.FAILED),
        (410, Verdict.GONE),
        (429, Verdict.FAILED),
        (500, Verdict.FAILED),
        (503, Verdict.FAILED),
    ],
)
async def test_2xx_alone_is_success_and_410_is_the_end(
    channel: WebhookChannel, status: int, verdict: Verdict
) -> None:
    async with receiver(answer(status, b"" if status in (204, 304) else b"said")) as served:
        response = await channel.send(endpoint("webhook", served.url), of_alerts([alert()]), 1, time.time())

    assert (response.verdict, response.status) == (verdict, status)
    assert (response.error is None) == (verdict is Verdict.DELIVERED)
    assert response.error is None or str(status) in response.error


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tue, 14 Nov 2023 22:13:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("9" * 40, 999_999_999_999.0),
    ],
)
async def test_retry_after_is_read_as_seconds_or_as_a_date(
    channel: WebhookChannel, header: str, seconds: float | None
) -> None:
    async with receiver(answer(503, headers={"retry-after": header})) as served:
        response = await channel.send(endpoint("webhook", served.url), of_alerts([alert()]), 1, 1_700_000_000)

    assert response.retry_after == seconds


async def test_nobody_there_no_answer_and_a_forbidden_address_are_told_apart(channel: WebhookChannel) -> None:
    async def silent(_request: Received, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    notification = of_alerts([alert()])
    async with receiver(silent) as served:
        slow = await channel.send(endpoint("webhook", served.url, timeout=0.2), notification, 1, time.time())
    nobody = await channel.send(endpoint("webhook", "http://127.0.0.1:1/"), notification, 1, time.time())
    forbidden = await channel.send(endpoint("webhook", "https://10.0.0.1/"), notification, 1, time.time())

    assert slow.verdict is Verdict.FAILED
    # What is left of the time when the request is sent.
    assert re.fullmatch(r"no answer within 0\.[012]\d* s", str(slow.error))
    assert nobody.verdict is Verdict.FAILED
    assert forbidden.verdict is Verdict.REFUSED
    assert "10.0.0.1, a private address" in str(forbidden.error)
    assert slow.status is nobody.status is forbidden.status is None


async def test_the_log_shows_what_was_sent_without_secrets_and_within_bounds(channel: WebhookChannel) -> None:
    whsec = new_secret()
    async with receiver(answer(500, b"you sent Bearer geheim-1234 " + b"x" * 5000)) as served:
        sent = endpoint(
            "webhook",
            f"{served.url}/hook?token=geheim-5678",
            secrets=[secret(whsec)],
            credential=secret("Bearer geheim-1234"),
            headers={"X-Team": "search"},
        )
        response = await channel.send(sent, of_alerts([alert(summary="ü" * 9000)]), 1, time.time())

    (request,) = served.requests
    assert request.headers["authorization"] == "Bearer geheim-1234"
    assert request.headers["x-team"] == "search"
    shown = response.request + response.response + str(response.error)
    assert "geheim" not in shown
    assert whsec not in shown
    assert request.headers["webhook-signature"] not in shown
    assert f"POST {served.url}/***" in response.request
    assert "X-Team: ***" in response.request
    assert f"webhook-id: {of_alerts([alert()]).notification_id}" in response.request
    assert '"type":"alert.firing"' in response.request
    assert len(response.request.encode()) <= 8 * 1024
    assert len(response.response.encode()) <= 2 * 1024


async def test_a_template_makes_the_body_and_its_output_is_signed(channel: WebhookChannel) -> None:
    whsec = new_secret()
    template = '{"text": {{ data.alerts[0].summary | tojson }}, "id": "{{ id }}"}'
    async with receiver() as served:
        sent = endpoint("webhook", served.url, template=template, secrets=[secret(whsec)])
        response = await channel.send(sent, of_alerts([alert()]), 1, time.time())

    (request,) = served.requests
    assert response.verdict is Verdict.DELIVERED
    assert Webhook(whsec).verify(request.body, request.headers) == {
        "text": "25.3 % of the requests of space s1 failed",
        "id": "nt_0123456789abcdef01234567",
    }


async def test_a_template_may_make_something_else_than_json(channel: WebhookChannel) -> None:
    async with receiver() as served:
        sent = endpoint(
            "webhook", served.url, template="{{ type }}!", content_type="text/plain; charset=utf-8"
        )
        await channel.send(sent, of_alerts([alert()]), 1, time.time())

    assert served.requests[0].body == b"alert.firing!"
    assert served.requests[0].headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("template", "note"),
    [
        ("\n{{ data.nothing.there }}", "line 2: 'dict object' has no attribute 'nothing'"),
        ('{"a": \n oops}', "line 2 of what it made is not JSON"),
    ],
)
async def test_where_a_template_fails_the_alert_still_arrives_and_the_log_says_why(
    channel: WebhookChannel, template: str, note: str
) -> None:
    notification = of_alerts([alert()])
    async with receiver() as served:
        response = await channel.send(
            endpoint("webhook", served.url, template=template), notification, 1, time.time()
        )

    assert response.verdict is Verdict.DELIVERED
    assert served.requests[0].body.decode() == notification.body
    assert note in response.request


async def test_a_secret_that_can_t_be_decrypted_is_a_failure_that_may_pass(channel: WebhookChannel) -> None:
    async with receiver() as served:
        broken = secret("whsec_") | {"value": "v1.00000000.AAAA"}
        response = await channel.send(
            endpoint("webhook", served.url, secrets=[broken]), of_alerts([alert()]), 1, time.time()
        )

    assert response.verdict is Verdict.FAILED
    assert "encrypted with the key 00000000" in str(response.error)
    assert served.connections == 0

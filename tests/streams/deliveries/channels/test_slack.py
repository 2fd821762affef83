"""Messages for Slack: within its limits, and with nothing in them that somebody else put there."""

import json
from typing import Any

import pytest

from streams.deliveries.channels.message import message
from streams.deliveries.channels.slack import SlackChannel, payload
from streams.deliveries.client import DeliveryClient
from streams.deliveries.outcome import Verdict
from streams.deliveries.rendering import Renderer
from tests.streams.deliveries.channels.samples import (
    NASTY,
    NOW,
    alert,
    alerts,
    endpoint,
    of_alerts,
    of_failing,
    of_test,
)
from tests.streams.deliveries.receivers import Received, answer, receiver


@pytest.fixture
def channel(client: DeliveryClient, renderer: Renderer) -> SlackChannel:
    return SlackChannel(client, renderer)


def sections(made: dict[str, Any]) -> list[str]:
    return [block["text"]["text"] for block in made["blocks"] if block["type"] == "section"]


def test_an_alert_is_a_header_and_what_is_to_be_known() -> None:
    made = payload(message(of_alerts([alert()])))

    assert made["blocks"][0] == {
        "type": "header",
        "text": {"type": "plain_text", "text": "[FIRING] error: Error rate (space_id=s1)"},
    }
    (section,) = sections(made)
    assert section.startswith(
        "🟠 <https://chatgauge.example/events?alert=al_0123456789abcdef0123&amp;transition=2|"
    )
    assert "25.3 % of the requests of space s1 failed" in section
    assert "*threshold:* 10 %" in section
    assert made["text"].startswith("[FIRING] error: Error rate (space_id=s1)")


@pytest.mark.parametrize(
    "notification",
    [
        of_alerts([alert(summary="x" * 9000, labels=[f"k{n}={'v' * 300}" for n in range(100)])]),
        of_alerts(alerts(200)),
        of_alerts(alerts(200, summary="&" * 500, rule_name="<" * 500)),
        of_alerts(alerts(200, summary="ü" * 500), part=2, parts=5),
        of_failing(),
        of_test(),
    ],
)
def test_every_message_is_within_the_limits(notification: Any) -> None:
    made = payload(message(notification))

    assert len(made["blocks"]) <= 50
    assert len(made["blocks"][0]["text"]["text"]) <= 150
    assert all(0 < len(text) <= 3000 for text in sections(made))
    assert sum(map(len, sections(made))) <= 13_000
    assert len(made["text"]) <= 40_000


def test_a_storm_names_each_alert_or_says_how_many_more_there_are() -> None:
    few = "\n".join(sections(payload(message(of_alerts(alerts(40))))))
    many = "\n".join(sections(payload(message(of_alerts(alerts(200))))))

    assert all(f"space-{number}|" in few or f"space-{number})" in few for number in range(40))
    named = sum(f"(space_id=space-{number})" in many for number in range(200))
    assert f"… and {200 - named} more" in many


def test_names_can_t_mention_anybody_or_become_links() -> None:
    told = [alert(rule_name=NASTY, summary=NASTY, group=[f"space_id={NASTY}"], labels=[f"a={NASTY}"])]
    for notification in (of_alerts(told), of_alerts(told * 2)):
        made = payload(message(notification))
        for text in (*sections(made), made["text"]):
            for link in (
                f"<{each['links']['events']}" for each in json.loads(notification.body)["data"]["alerts"]
            ):
                text = text.replace(link.replace("&", "&amp;"), "")
            assert "<" not in text.replace("<!", "!!!") or "<script" not in text
            assert "<!" not in text
            assert "<script" not in text
            assert "@all" not in text
            assert "](http" not in text


async def test_slack_gets_the_message_and_the_log_doesn_t_get_slack_s_url(channel: SlackChannel) -> None:
    async with receiver(answer(200, b"ok")) as served:
        sent = endpoint("slack", f"{served.url}/services/T000/B000/geheim")
        response = await channel.send(sent, of_alerts([alert()]), 1, NOW)

    (request,) = served.requests
    assert response.verdict is Verdict.DELIVERED
    assert json.loads(request.body) == payload(message(of_alerts([alert()])))
    assert request.headers["content-type"].startswith("application/json")
    assert "geheim" not in response.request
    assert f"POST {served.url}/***" in response.request


@pytest.mark.parametrize("status", [400, 413])
async def test_blocks_that_are_refused_go_again_as_text_at_once(channel: SlackChannel, status: int) -> None:
    async def no_blocks(request: Received, writer: Any) -> None:
        refused = b"blocks" in request.body
        await answer(status if refused else 200, b"invalid_blocks" if refused else b"ok")(request, writer)

    async with receiver(no_blocks) as served:
        response = await channel.send(endpoint("slack", served.url), of_alerts([alert()]), 1, NOW)

    assert response.verdict is Verdict.DELIVERED
    assert len(served.requests) == 2
    assert json.loads(served.requests[1].body)["text"].startswith("[FIRING] error: Error rate")
    assert "invalid_blocks" in response.request


@pytest.mark.parametrize(
    ("status", "headers", "verdict", "pause"),
    [
        (429, {"retry-after": "30"}, Verdict.FAILED, 30.0),
        (404, {}, Verdict.FAILED, None),
        (410, {}, Verdict.GONE, None),
        (500, {}, Verdict.FAILED, None),
    ],
)
async def test_what_slack_s_answers_mean(
    channel: SlackChannel, status: int, headers: dict[str, str], verdict: Verdict, pause: float | None
) -> None:
    async with receiver(answer(status, b"no_service", headers)) as served:
        response = await channel.send(endpoint("slack", served.url), of_alerts([alert()]), 1, NOW)

    assert (response.verdict, response.status, response.retry_after) == (verdict, status, pause)
    assert len(served.requests) == 1


@pytest.mark.parametrize(
    ("template", "body"),
    [
        ('{"text": {{ data.total | tojson }}, "channel": "#ops"}', {"text": 1, "channel": "#ops"}),
        ("{{ data.alerts[0].rule_name }}!", {"text": "Error rate!"}),
    ],
)
async def test_a_template_makes_a_message_or_the_text_of_one(
    channel: SlackChannel, template: str, body: dict[str, Any]
) -> None:
    async with receiver() as served:
        await channel.send(endpoint("slack", served.url, template=template), of_alerts([alert()]), 1, NOW)

    assert json.loads(served.requests[0].body) == body

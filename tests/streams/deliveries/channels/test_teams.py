"""Cards for Teams: within its limits, and with nothing in them that somebody else put there."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from streams.deliveries.channels.message import message
from streams.deliveries.channels.teams import TeamsChannel, payload
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
from tests.streams.deliveries.receivers import answer, receiver


@pytest.fixture
def channel(client: DeliveryClient, renderer: Renderer) -> TeamsChannel:
    return TeamsChannel(client, renderer)


def card(made: dict[str, Any]) -> dict[str, Any]:
    (attachment,) = made["attachments"]
    assert made["type"] == "message"
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    content: dict[str, Any] = attachment["content"]
    return content


def texts(made: dict[str, Any]) -> Iterator[str]:
    for block in card(made)["body"]:
        assert block["type"] == "RichTextBlock"
        assert all(run["type"] == "TextRun" for run in block["inlines"])
        yield "".join(run["text"] for run in block["inlines"])


def test_an_alert_is_a_card_with_a_link() -> None:
    made = payload(message(of_alerts([alert()])))

    assert card(made)["type"] == "AdaptiveCard"
    assert list(texts(made)) == [
        "[FIRING] error: Error rate (space_id=s1)",
        "25.3 % of the requests of space s1 failed",
        "severity: error",
        "value: 25.3 %",
        "threshold: 10 %",
        "since: 2023-11-14 22:10:00 UTC",
        "labels: team=search",
    ]
    (action,) = card(made)["actions"]
    assert action["url"].startswith("https://chatgauge.example/events?alert=al_")


@pytest.mark.parametrize(
    "notification",
    [
        of_alerts([alert(summary="x" * 9000, labels=[f"k{n}={'v' * 300}" for n in range(100)])]),
        of_alerts(alerts(200)),
        of_alerts(alerts(200, summary="ü" * 500, rule_name="\U0001f525" * 100)),
        of_failing(),
        of_test(),
    ],
)
def test_every_message_is_within_28_kb_of_utf_16(notification: Any) -> None:
    body = json.dumps(payload(message(notification)), ensure_ascii=False, separators=(",", ":"))

    assert len(body.encode("utf-16-le")) <= 28_000


def test_a_storm_says_how_many_more_there_are() -> None:
    told = "\n".join(texts(payload(message(of_alerts(alerts(200))))))
    named = sum(f"(space_id=space-{number})" in told for number in range(200))

    assert named >= 30
    assert f"… and {200 - named} more alerts" in told


def test_what_is_inserted_stands_where_markdown_is_not_read() -> None:
    said = message(of_alerts([alert(rule_name=NASTY, summary=NASTY)]))

    assert any("[x](https://evil.example)" in text for text in texts(payload(said)))


async def test_teams_gets_the_card_and_the_log_doesn_t_get_its_url(channel: TeamsChannel) -> None:
    async with receiver(answer(202, b"")) as served:
        sent = endpoint("teams", f"{served.url}/workflows/geheim?sig=geheim")
        response = await channel.send(sent, of_alerts([alert()]), 1, NOW)

    assert response.verdict is Verdict.DELIVERED
    assert json.loads(served.requests[0].body) == payload(message(of_alerts([alert()])))
    assert "geheim" not in response.request


async def test_a_200_that_says_it_was_not_delivered_is_a_failure(channel: TeamsChannel) -> None:
    said = b"Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error 429"
    async with receiver(answer(200, said)) as served:
        response = await channel.send(endpoint("teams", served.url), of_alerts([alert()]), 1, NOW)

    assert response.verdict is Verdict.FAILED
    assert "HTTP error 429" in response.response


async def test_a_template_makes_the_text_of_a_card(channel: TeamsChannel) -> None:
    async with receiver() as served:
        sent = endpoint("teams", served.url, template="{{ data.alerts[0].rule_name }}!")
        await channel.send(sent, of_alerts([alert()]), 1, NOW)

    assert "Error rate!" in list(texts(json.loads(served.requests[0].body)))

"""Teams-compatible incoming webhooks: an Adaptive Card in the envelope that Teams' workflows take.

Teams refuses messages of more than 28 KB, and counts in UTF-16. What is inserted stands in text runs, which
know no Markdown.
"""

from typing import Any

import orjson

from streams.deliveries.channel import Response
from streams.deliveries.channels.message import Alert, Message, message, shortened
from streams.deliveries.channels.posting import JSON, Posting, by_status, deadline_of, post
from streams.deliveries.channels.templating import made
from streams.deliveries.client import Answer, DeliveryClient
from streams.deliveries.notification import Notification
from streams.deliveries.outcome import Verdict
from streams.deliveries.rendering import Renderer
from streams.endpoints.endpoint import Endpoint

_BYTES = 13_000
_COLOURS = {"info": "Accent", "warning": "Warning", "error": "Attention", "critical": "Attention"}
_RESOLVED = "Good"
# The older connectors answer 200, and say in the body that they could not deliver.
_NOT_DELIVERED = "Webhook message delivery failed"


def payload(said: Message) -> dict[str, Any]:
    """The message as JSON, within Teams' limits."""
    title = _run(shortened(said.title, 300), weight="Bolder", size="Medium", color=_colour(said))
    body = [_block([title])]
    if said.text and len(said.alerts) != 1:
        body.append(_block([_run(shortened(said.text, 1_000))]))
    if len(said.alerts) == 1:
        alert = said.alerts[0]
        body.append(_block([_run(shortened(alert.summary, 1_000))]))
        body += [_fact(name, value) for name, value in alert.facts()]
    body += [_fact(name, value) for name, value in said.facts]
    link = said.alerts[0].link if len(said.alerts) == 1 else said.link
    card = _card(body, link)
    if len(said.alerts) > 1:
        length = len(orjson.dumps(card))
        for told, alert in enumerate(said.alerts):
            block = _block(_line(alert))
            length += len(orjson.dumps(block)) + 1
            if length > _BYTES:
                body.append(_block([_run(f"… and {len(said.alerts) - told} more alerts")]))
                break
            body.append(block)
    return {
        "type": "message",
        "attachments": [
            {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
        ],
    }


def _card(body: list[dict[str, Any]], link: str | None) -> dict[str, Any]:
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": body,
    }
    if link:
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Open", "url": link}]
    return card


def _run(text: str, **looks: Any) -> dict[str, Any]:
    return {"type": "TextRun", "text": text, **looks}


def _block(runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": runs}


def _fact(name: str, value: str) -> dict[str, Any]:
    return _block([_run(f"{name}: ", weight="Bolder"), _run(shortened(value, 300))])


def _line(alert: Alert) -> list[dict[str, Any]]:
    colour = _RESOLVED if alert.resolved else _COLOURS.get(alert.severity, "Attention")
    runs = [_run("● ", color=colour), _run(shortened(alert.title, 120), weight="Bolder")]
    if alert.summary:
        runs.append(_run(f" {shortened(alert.summary, 120)}"))
    return runs


def _colour(said: Message) -> str:
    return _RESOLVED if said.resolved else _COLOURS.get(said.severity, "Attention")


def _judged(answer: Answer) -> Verdict:
    if answer.status == 200 and _NOT_DELIVERED in answer.text:
        return Verdict.FAILED
    return by_status(answer)


class TeamsChannel:
    """Posts to a Teams-compatible webhook, whose URL is its secret."""

    def __init__(self, client: DeliveryClient, renderer: Renderer) -> None:
        self._client = client
        self._renderer = renderer

    async def send(
        self, endpoint: Endpoint, notification: Notification, attempt: int, now: float
    ) -> Response:
        """See `Channel.send`."""
        assert endpoint.url is not None
        deadline = deadline_of(endpoint)
        said = message(notification)
        own = await made(self._renderer, endpoint, notification, endpoint.template)
        body = orjson.dumps(payload(said)).decode() if own.text is None else _own(own.text, said)
        posting = Posting(endpoint.url, body, JSON, note=own.note)
        return await post(self._client, posting, deadline, now, _judged)

    async def close(self) -> None:
        """Nothing: the client is shared."""


def _own(text: str, said: Message) -> str:
    """What a template made: a message in JSON, or the text of one."""
    try:
        if isinstance(orjson.loads(text), dict):
            return text
    except orjson.JSONDecodeError:
        pass
    own = Message(said.type, said.title, shortened(text, 8_000), said.severity, said.resolved, link=said.link)
    return orjson.dumps(payload(own)).decode()

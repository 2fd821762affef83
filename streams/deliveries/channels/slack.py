"""Slack-compatible incoming webhooks (Slack, Mattermost, Rocket.Chat, ...).

A message has at most 50 blocks, a section 3,000 characters, a header 150, a field 2,000; all blocks
together may not be much longer than 13,000. `&`, `<` and `>` are escaped, so that nothing in an alert can
mention a channel or make a link.
"""

from typing import Any

import orjson

from streams.deliveries.channel import Response
from streams.deliveries.channels.message import Alert, Message, message, shortened
from streams.deliveries.channels.posting import JSON, Posting, deadline_of, post
from streams.deliveries.channels.templating import Made, made
from streams.deliveries.client import DeliveryClient
from streams.deliveries.notification import Notification
from streams.deliveries.outcome import Verdict
from streams.deliveries.rendering import Renderer
from streams.endpoints.endpoint import Endpoint

_HEADER = 150
_SECTION = 3_000
_TEXT = 4_000
_ALL = 12_000
_LONGEST_LINE = 600
_SIGNS = {"info": "🔵", "warning": "🟡", "error": "🟠", "critical": "🔴"}
_RESOLVED = "🟢"
_PLAIN_AFTER = (400, 413)
_NOTHING = "\u200b"


def escaped(text: str) -> str:
    """Text that is shown as it is, also by those who read `@all` and Markdown's links."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("@", f"@{_NOTHING}").replace("](", f"]{_NOTHING}(")


def payload(said: Message) -> dict[str, Any]:
    """The message as JSON, within Slack's limits."""
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": shortened(said.title, _HEADER)}}
    ]
    blocks += [{"type": "section", "text": {"type": "mrkdwn", "text": text}} for text in _sections(said)]
    return {**plain(said), "blocks": blocks}


def plain(said: Message) -> dict[str, Any]:
    """The same without blocks: what shows in a push notification, and where blocks aren't understood."""
    return {"text": escaped(shortened(f"{said.title}\n{said.text}".strip(), _TEXT // 2))}


def _sections(said: Message) -> list[str]:
    lines = [escaped(said.text)] if said.text and len(said.alerts) != 1 else []
    lines += [_line(alert, whole=len(said.alerts) == 1) for alert in said.alerts]
    lines += [f"*{escaped(name)}:* {escaped(value)}" for name, value in said.facts]
    if said.link:
        lines.append(_link(said.link, "Open"))
    sections: list[str] = []
    length = len(said.title)
    for told, line in enumerate(lines):
        length += len(line) + 1
        if length > _ALL:
            sections.append(f"… and {len(lines) - told} more")
            break
        if sections and len(sections[-1]) + 1 + len(line) <= _SECTION:
            sections[-1] += f"\n{line}"
        else:
            sections.append(line)
    return sections


def _line(alert: Alert, *, whole: bool) -> str:
    sign = _RESOLVED if alert.resolved else _SIGNS.get(alert.severity, "🟠")
    title = escaped(shortened(alert.title, 150))
    head = f"{sign} {_link(alert.link, title) if alert.link else f'*{title}*'}"
    if whole:
        facts = "\n".join(
            f"*{escaped(name)}:* {escaped(shortened(value, 200))}" for name, value in alert.facts()
        )
        return f"{head}\n{escaped(shortened(alert.summary, _LONGEST_LINE))}\n{facts}"
    return f"{head} {escaped(shortened(alert.summary, 200))}"


def _link(url: str, text: str) -> str:
    # A bar or an angle bracket would end the address.
    address = escaped(url).replace("|", "%7C")
    return f"<{address}|{text.replace('|', '¦')}>"


class SlackChannel:
    """Posts to a Slack-compatible incoming webhook, whose URL is its secret."""

    def __init__(self, client: DeliveryClient, renderer: Renderer) -> None:
        self._client = client
        self._renderer = renderer

    async def send(
        self, endpoint: Endpoint, notification: Notification, attempt: int, now: float
    ) -> Response:
        """See `Channel.send`. A message whose blocks are refused is sent again as plain text."""
        assert endpoint.url is not None
        deadline = deadline_of(endpoint)
        said = message(notification)
        own = await made(self._renderer, endpoint, notification, endpoint.template)
        body = _own(own, endpoint) or orjson.dumps(payload(said)).decode()
        response = await post(self._client, Posting(endpoint.url, body, JSON, note=own.note), deadline, now)
        if response.verdict is Verdict.FAILED and response.status in _PLAIN_AFTER:
            body = orjson.dumps(plain(said)).decode()
            note = f"plain text, as the message was refused: {response.response}"
            response = await post(self._client, Posting(endpoint.url, body, JSON, note=note), deadline, now)
        return response

    async def close(self) -> None:
        """Nothing: the client is shared."""


def _own(own: Made, endpoint: Endpoint) -> str | None:
    """What a template made: a message in JSON, or the text of one."""
    if own.text is None:
        return None
    try:
        if isinstance(orjson.loads(own.text), dict):
            return own.text
    except orjson.JSONDecodeError:
        pass
    return orjson.dumps({"text": own.text}).decode()

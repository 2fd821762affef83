"""What the channels over HTTP have in common: a POST, what came of it, and what the log may show of both."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from streams.deliveries.channel import Response
from streams.deliveries.client import Answer, DeliveryClient
from streams.deliveries.errors import AddressRefusedError, UnansweredError
from streams.deliveries.outcome import Verdict, of_status
from streams.endpoints.endpoint import Endpoint

_REQUEST_BYTES = 8 * 1024
_RESPONSE_BYTES = 2 * 1024
_HIDDEN = "***"
_SHORTEST_SECRET = 6
_SHORTEST_PATH = 16
_SHORTEST_S = 0.01
JSON = {"Content-Type": "application/json; charset=utf-8"}
# Values of other headers are an endpoint's own, and shown to its administrators only.
_SHOWN_HEADERS = frozenset({"content-type", "webhook-id", "webhook-timestamp"})

Judge = Callable[[Answer], Verdict]


@dataclass(frozen=True, slots=True)
class Posting:
    """A request as it is sent, and as the log may show it."""

    url: str
    body: str
    headers: Mapping[str, str]
    hidden: tuple[str, ...] = ()
    """Secrets that the log must not show, wherever they turn up; the URL's path and query are, anyway."""
    note: str | None = None
    """Something that the log should say about it."""

    def shown(self) -> str:
        """What was sent, without secrets, cut to 8 KiB."""
        lines = [f"({self.note})"] if self.note else []
        lines.append(f"POST {without_path(self.url)}")
        for name, value in self.headers.items():
            lines.append(f"{name}: {value if name.lower() in _SHOWN_HEADERS else _HIDDEN}")
        return self.masked("\n".join([*lines, "", self.body]), _REQUEST_BYTES)

    def masked(self, text: str, most: int = _RESPONSE_BYTES) -> str:
        """The text without this request's secrets, in at most so many bytes."""
        path = _path(self.url)
        for secret in (self.url, *self.hidden, *([path] if len(path) >= _SHORTEST_PATH else [])):
            if len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, _HIDDEN)
        return cut(text, most)


def cut(text: str, most: int) -> str:
    """The beginning of a text, in at most so many bytes of UTF-8."""
    encoded = text.encode("utf-8", "replace")
    return encoded[:most].decode("utf-8", "ignore") if len(encoded) > most else text


def without_path(url: str) -> str:
    """A URL of which only the host is told: those of chats are secrets, and others hold tokens."""
    parts = urlsplit(url)
    return parts._replace(path=f"/{_HIDDEN}", query="", fragment="").geturl()


def _path(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(scheme="", netloc="", fragment="").geturl()


def by_status(answer: Answer) -> Verdict:
    """By the status alone."""
    return of_status(answer.status)


def deadline_of(endpoint: Endpoint) -> float:
    """When an attempt that begins now has to be over, by the event loop's clock."""
    return asyncio.get_running_loop().time() + endpoint.timeout


async def post(
    client: DeliveryClient, posting: Posting, deadline: float, now: float, judge: Judge = by_status
) -> Response:
    """Post once, until `deadline` by the event loop's clock; `now` in seconds since 1970."""
    seconds = max(_SHORTEST_S, deadline - asyncio.get_running_loop().time())
    said = Response(Verdict.FAILED, request=posting.shown())
    try:
        answer = await client.post(posting.url, posting.body.encode(), posting.headers, seconds)
    except AddressRefusedError as error:
        return replace(said, verdict=Verdict.REFUSED, error=posting.masked(str(error)))
    except UnansweredError as error:
        return replace(said, error=posting.masked(str(error)))
    verdict = judge(answer)
    return replace(
        said,
        verdict=verdict,
        status=answer.status,
        error=None if verdict is Verdict.DELIVERED else _refusal(answer),
        retry_after=None if verdict is Verdict.DELIVERED else retry_after(answer, now),
        response=posting.masked(answer.text),
    )


def _refusal(answer: Answer) -> str:
    if 300 <= answer.status < 400:
        return f"it answered {answer.status}, a redirect, and redirects aren't followed: enter the final URL"
    if answer.status == 410:
        return "it answered 410: it wants nothing more"
    return f"it answered {answer.status}"


def retry_after(answer: Answer, now: float) -> float | None:
    """Seconds that the answer asks to wait: a number, or a date."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.fromtimestamp(now, UTC)).total_seconds())

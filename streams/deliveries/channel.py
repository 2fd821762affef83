"""The contract between the delivery agent and the ways out: webhook, mail, and so on."""

from dataclasses import dataclass
from typing import Protocol

from streams.deliveries.notification import Notification
from streams.deliveries.outcome import Verdict
from streams.endpoints.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Response:
    """What came of an attempt."""

    verdict: Verdict
    status: int | None = None
    """The HTTP status or the SMTP reply code, where there was one."""
    error: str | None = None
    """What went wrong, in a sentence for a person; null when delivered."""
    retry_after: float | None = None
    """Seconds, where the receiver has asked for a pause."""
    request: str = ""
    """What was sent, without secrets, cut to 8 KiB."""
    response: str = ""
    """What came back, cut to 2 KiB."""


class Channel(Protocol):
    """One way out. It holds no state of deliveries: it tries once, and says what came of it."""

    async def send(
        self, endpoint: Endpoint, notification: Notification, attempt: int, now: float
    ) -> Response:
        """Try once, within `endpoint.timeout` seconds; never retries.

        `attempt` counts from 1; `now` is the clock in seconds since 1970 (the `webhook-timestamp`). Every
        foreseeable failure is a Response; an exception counts as a failed attempt. Cancelling it closes the
        connection.
        """

    async def close(self) -> None:
        """Give up connections that are kept open."""

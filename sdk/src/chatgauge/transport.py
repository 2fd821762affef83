"""How encoded events leave the process: the contract that every way out keeps."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

REQUESTS = "chat.requests"
SPANS = "chat.spans"
SAMPLES = "chat.samples"
TOPICS = (REQUESTS, SPANS, SAMPLES)


@dataclass(frozen=True, slots=True, eq=False)
class EncodedMessage:
    """One encoded event."""

    topic: str
    key: bytes
    value: bytes
    charge: int = 0
    """What it holds of the buffer, in bytes."""
    own: bool = False
    """The library's own report, which is not counted as the service's event."""


@dataclass(slots=True)
class Delivery:
    """What became of the messages handed over: each is in exactly one of the three lists."""

    sent: list[EncodedMessage] = field(default_factory=list)
    """Acknowledged."""
    refused: list[EncodedMessage] = field(default_factory=list)
    """Will never be taken: sending them again is of no use."""
    unsent: list[EncodedMessage] = field(default_factory=list)
    """To be sent again. Some may have arrived although no acknowledgement came."""
    reason: str = ""
    """Why messages were refused or not sent, for a person to read."""


class Transport(Protocol):
    """A way out. All methods are called by the sending thread alone, except `abandon`."""

    def deliver(self, messages: Sequence[EncodedMessage]) -> Delivery:
        """Send, and wait for acknowledgements, within a bounded time.

        Must not raise because the other side is away: that is `unsent`, with its reason.
        """

    def close(self) -> None:
        """Give connections back, within a bounded time."""

    def abandon(self) -> None:
        """Forget, in a forked child, the connections that belong to the parent, without closing them."""

"""What can be wrong with what a person has set up for deliveries.

DeliveryError
├── AllowListError       an entry of the allow-list can't be read
├── AddressRefusedError  a URL, or the address behind it, is not to be called
├── UnansweredError      there was no answer: no connection, no TLS, too slow, broken off
├── TemplateError        a template is wrong, or asks for too much
└── BodyGoneError        a notification is not in chat.notifications any more
"""


class DeliveryError(Exception):
    pass


class AllowListError(DeliveryError):
    """An entry of the allow-list can't be read; the message quotes it."""


class AddressRefusedError(DeliveryError):
    """The URL, or an address that its host resolves to, is not to be called."""


class UnansweredError(DeliveryError):
    """The endpoint gave no answer that could be read."""


class BodyGoneError(DeliveryError):
    """A notification is not in chat.notifications any more: retention has removed it, or a person."""


class TemplateError(DeliveryError):
    """A template can't be rendered. `line` is where, counted from 1, as far as it is known."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(f"line {line}: {reason}" if line else reason)
        self.reason = reason
        self.line = line

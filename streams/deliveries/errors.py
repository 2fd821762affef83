"""What can be wrong with what a person has set up for deliveries.

DeliveryError
├── EndpointError        an endpoint's definition can't be read; it says where and what would be right
├── AllowListError       an entry of the allow-list can't be read
├── AddressRefusedError  a URL, or the address behind it, is not to be called
├── UnansweredError      there was no answer: no connection, no TLS, too slow, broken off
├── SecretError          a secret can't be encrypted or decrypted
├── TemplateError        a template is wrong, or asks for too much
└── BodyGoneError        a notification is not in chat.notifications any more
"""

from collections.abc import Sequence
from typing import NamedTuple


class Fault(NamedTuple):
    """One thing that is wrong with a definition."""

    where: str
    """The path of the field: `subscriptions.0.types.1`."""
    message: str
    """What is wrong with it, and what would be right."""


class DeliveryError(Exception):
    pass


class EndpointError(DeliveryError):
    """A definition that is no endpoint."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{fault.where}: {fault.message}" for fault in faults))
        self.faults = tuple(faults)


class AllowListError(DeliveryError):
    """An entry of the allow-list can't be read; the message quotes it."""


class AddressRefusedError(DeliveryError):
    """The URL, or an address that its host resolves to, is not to be called."""


class UnansweredError(DeliveryError):
    """The endpoint gave no answer that could be read."""


class SecretError(DeliveryError):
    """A secret can't be encrypted or decrypted, or there is no key to do it with."""


class BodyGoneError(DeliveryError):
    """A notification is not in chat.notifications any more: retention has removed it, or a person."""


class TemplateError(DeliveryError):
    """A template can't be rendered. `line` is where, counted from 1, as far as it is known."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(f"line {line}: {reason}" if line else reason)
        self.reason = reason
        self.line = line

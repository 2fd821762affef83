"""What can be wrong with an endpoint that a person has set up.

EndpointError    a definition that is no endpoint; it says where, and what would be right
SecretError      a secret can't be encrypted or decrypted
"""

from collections.abc import Sequence
from typing import NamedTuple


class Fault(NamedTuple):
    """One thing that is wrong with a definition."""

    where: str
    """The path of the field: `subscriptions.0.types.1`."""
    message: str
    """What is wrong with it, and what would be right."""


class EndpointError(Exception):
    """A definition that is no endpoint."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{fault.where}: {fault.message}" for fault in faults))
        self.faults = tuple(faults)


class SecretError(Exception):
    """A secret can't be encrypted or decrypted, or there is no key to do it with."""

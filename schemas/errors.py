"""What can go wrong with the contract.

SchemaError
  UnknownRecordError        no such record in schemas/*.avsc
  UnsupportedSchemaError    a schema that the readers can't take, or that doesn't resolve
  InvalidRecordError        a record that doesn't fit the schema it is to be written with
  RefusedError              a value that can't be read; carries a Reason
  RegistryError
    RegistryUnavailableError   try again later: nothing is known about the schema
    RegistryRejectedError      the registry answered, and said no
"""

from enum import StrEnum


class Reason(StrEnum):
    """Why a value is refused: the values of `DeadLetter.reason`."""

    EMPTY = "empty"
    UNKNOWN_FORMAT = "unknown_format"
    UNKNOWN_SCHEMA = "unknown_schema"
    MALFORMED = "malformed"
    LEFT_OVER_BYTES = "left_over_bytes"
    IN_THE_FUTURE = "in_the_future"
    INVALID = "invalid"


class SchemaError(Exception):
    """Root of the package's errors."""


class UnknownRecordError(SchemaError):
    """No record of that name is in the contract."""


class UnsupportedSchemaError(SchemaError):
    """A schema uses types that the readers don't take, or doesn't resolve to the reader's."""


class InvalidRecordError(SchemaError):
    """A record can't be written: a field is missing, unknown, or of the wrong type."""


class RefusedError(SchemaError):
    """A value can't be read. `reason` and `detail` go into its dead letter."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class RegistryError(SchemaError):
    """The schema registry gave no usable answer."""


class RegistryUnavailableError(RegistryError):
    """The registry can't be reached, or fails; the same call may succeed later."""


class RegistryRejectedError(RegistryError):
    """The registry refused, for instance because a schema is incompatible with its predecessors."""

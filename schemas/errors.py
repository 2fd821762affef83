"""What can go wrong with the contract.

SchemaError
  UnknownRecordError        no such record in schemas/*.avsc
  UnsupportedSchemaError    a schema that the readers can't take, or that doesn't resolve
  InvalidRecordError        a record that doesn't fit the schema it is to be written with
  RefusedError              a value that can't be read; carries a Reason
  UnpackError               a record batch that can't be unpacked; its words follow "the batch"
    UnknownCodecError
    CorruptStreamError
    UnpackedTooLargeError
  GarbledRecordsError       a record batch that is garbled from some record on
  RegistryError
    RegistryUnavailableError   try again later: nothing is known about the schema
    RegistryRejectedError      the registry answered, and said no
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any


class Reason(StrEnum):
    """Why a value is refused: the values of `DeadLetter.reason`."""

    EMPTY = "empty"
    UNKNOWN_FORMAT = "unknown_format"
    UNKNOWN_SCHEMA = "unknown_schema"
    MALFORMED = "malformed"
    LEFT_OVER_BYTES = "left_over_bytes"
    IN_THE_FUTURE = "in_the_future"
    INVALID = "invalid"
    UNREADABLE_BATCH = "unreadable_batch"


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


class UnpackError(SchemaError):
    """The records of a batch can't be unpacked. The words say why, and follow "the batch"."""


class UnknownCodecError(UnpackError):
    """It names a codec that Kafka doesn't have."""


class CorruptStreamError(UnpackError):
    """Its bytes are not what the codec writes."""


class UnpackedTooLargeError(UnpackError):
    """It unpacks to more than may be."""


class GarbledRecordsError(SchemaError):
    """The records of a batch can't be told apart from some record on. The words say why.

    `offset` is the first that is lost, `read` are the records before it (`records.KafkaRecord`).
    """

    def __init__(self, offset: int, detail: str, read: Sequence[Any] = ()) -> None:
        super().__init__(detail)
        self.offset = offset
        self.read = read


class RegistryError(SchemaError):
    """The schema registry gave no usable answer."""


class RegistryUnavailableError(RegistryError):
    """The registry can't be reached, or fails; the same call may succeed later."""


class RegistryRejectedError(RegistryError):
    """The registry refused, for instance because a schema is incompatible with its predecessors."""

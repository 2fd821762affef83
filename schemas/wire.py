"""How a value on Kafka says which schema it was written with: a header before the Avro body.

Single-object encoding: `C3 01`, then the schema's CRC-64-AVRO fingerprint (8 bytes, little-endian).
Confluent: `00`, then the schema's id in the registry (4 bytes, big-endian).
"""

import struct

from schemas.errors import Reason, RefusedError

SINGLE_OBJECT = b"\xc3\x01"
CONFLUENT = b"\x00"
SINGLE_OBJECT_SIZE = 10
CONFLUENT_SIZE = 5


def single_object_header(fingerprint: bytes) -> bytes:
    """10 bytes, from a fingerprint of 8."""
    if len(fingerprint) != 8:
        raise ValueError(f"a fingerprint has 8 bytes, not {len(fingerprint)}")
    return SINGLE_OBJECT + fingerprint


def confluent_header(schema_id: int) -> bytes:
    """5 bytes."""
    return struct.pack(">bI", 0, schema_id)


def schema_id(header: bytes) -> int:
    """The registry id in a Confluent header."""
    return int.from_bytes(header[1:CONFLUENT_SIZE], "big")


def is_confluent(header: bytes) -> bool:
    return header.startswith(CONFLUENT)


def header_of(value: bytes | None) -> bytes:
    """The header of `value`: 10 or 5 bytes. Raises RefusedError when there is none."""
    if not value:
        raise RefusedError(Reason.EMPTY, "the value is null or has no bytes")
    if value.startswith(CONFLUENT):
        size = CONFLUENT_SIZE
    elif value.startswith(SINGLE_OBJECT):
        size = SINGLE_OBJECT_SIZE
    else:
        raise RefusedError(
            Reason.UNKNOWN_FORMAT,
            f"starts with {value[:2].hex(' ')}: neither c3 01 (Avro single-object) nor 00 (Confluent)",
        )
    if len(value) < size:
        raise RefusedError(Reason.MALFORMED, f"ends inside its header: {len(value)} of {size} bytes")
    return value[:size]

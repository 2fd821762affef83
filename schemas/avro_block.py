"""An Avro object container of one block, as Polars takes it."""

import json
from collections.abc import Sequence
from typing import Any, Final

SYNC: Final = bytes(16)
"""Ends the head of a container, and its block."""


def prologue(fields: Sequence[dict[str, Any]]) -> bytes:
    """What begins a container whose rows have these fields; the counts of rows and bytes follow it."""
    schema = json.dumps({"type": "record", "name": "Block", "fields": list(fields)}).encode()
    return b"".join([b"Obj\x01", long(1), long(11), b"avro.schema", long(len(schema)), schema, long(0), SYNC])


def long(number: int) -> bytes:
    """A non-negative Avro long."""
    number <<= 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)

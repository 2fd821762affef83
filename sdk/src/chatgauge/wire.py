"""Records as bytes: Avro single-object encoding, which any Avro library reads.

`C3 01`, the schema's CRC-64-AVRO fingerprint (8 bytes, little-endian), the body.
https://avro.apache.org/docs/1.12.0/specification/#single-object-encoding
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from io import BytesIO
from typing import Any

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from chatgauge.transport import REQUESTS, SAMPLES, SPANS

MARKER = b"\xc3\x01"

_FILES: Mapping[str, str] = {
    REQUESTS: "request_event.avsc",
    SPANS: "span_event.avsc",
    SAMPLES: "sample.avsc",
}


class RecordType:
    """The record type of one topic."""

    def __init__(self, topic: str) -> None:
        definition = json.loads((files("chatgauge") / "_avro" / _FILES[topic]).read_text("utf-8"))
        self.fields = frozenset(field["name"] for field in definition["fields"])
        self.fingerprint = bytes.fromhex(fingerprint(to_parsing_canonical_form(definition), "CRC-64-AVRO"))
        self._parsed = fastavro.parse_schema(definition)

    def encode(self, record: Mapping[str, Any]) -> bytes:
        """Header and body. Raises what fastavro raises when a field doesn't fit."""
        out = BytesIO()
        out.write(MARKER)
        out.write(self.fingerprint)
        fastavro.schemaless_writer(out, self._parsed, record)
        return out.getvalue()

    def decode(self, value: bytes) -> dict[str, Any]:
        """The record of a value that `encode` made."""
        header = MARKER + self.fingerprint
        if not value.startswith(header):
            raise ValueError("not a value of this record type")
        body = BytesIO(value[len(header) :])
        record = fastavro.schemaless_reader(body, self._parsed, None)
        if body.read(1):
            raise ValueError("bytes left over behind the record")
        return dict(record)  # type: ignore[arg-type]


@cache
def record_type(topic: str) -> RecordType:
    """The record type of a topic, read once."""
    return RecordType(topic)

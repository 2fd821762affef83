"""The records that travel on Kafka, as `schemas/*.avsc` define them, and their earlier versions."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

from schemas.errors import UnknownRecordError, UnsupportedSchemaError

_HOME = Path(__file__).parent
HISTORY = _HOME / "history"
"""`<record>/<version>.avsc`: what was published, version by version."""


@dataclass(frozen=True, eq=False)
class Schema:
    """One version of a record."""

    name: str
    definition: dict[str, Any]
    """As in the .avsc file."""
    parsed: Any
    """As fastavro takes it."""
    fingerprint: bytes
    """CRC-64-AVRO of the parsing canonical form, 8 bytes, little-endian: as it stands on the wire."""

    @property
    def fields(self) -> Mapping[str, Mapping[str, Any]]:
        """The fields' definitions by name, in the schema's order."""
        return {field["name"]: field for field in self.definition["fields"]}

    @classmethod
    def of(cls, definition: dict[str, Any]) -> "Schema":
        """From a record's Avro definition. Raises UnsupportedSchemaError if it isn't one."""
        if not isinstance(definition, dict) or definition.get("type") != "record":
            raise UnsupportedSchemaError("the schema is not a record")
        try:
            parsed = parse_schema(definition, _write_hint=False)
            digest = fingerprint(to_parsing_canonical_form(parsed), "CRC-64-AVRO")
        except Exception as error:
            # fastavro reports bad schemas with KeyError, TypeError and errors of its own alike.
            raise UnsupportedSchemaError(f"not a valid Avro schema: {error!r}") from error
        return cls(
            name=definition["name"].rpartition(".")[2],
            definition=definition,
            parsed=parsed,
            fingerprint=bytes.fromhex(digest),
        )


@cache
def schema(name: str) -> Schema:
    """Today's version of the record `name`, e.g. `RequestEvent`."""
    path = _HOME / f"{_snake(name)}.avsc"
    if name not in names():
        raise UnknownRecordError(f"no record is called {name}; there are {', '.join(names())}")
    return Schema.of(json.loads(path.read_text("utf-8")))


@cache
def history(name: str) -> tuple[Schema, ...]:
    """Every version that was ever published, oldest first; the last is today's."""
    if name not in names():
        raise UnknownRecordError(f"no record is called {name}; there are {', '.join(names())}")
    paths = sorted((HISTORY / name).glob("*.avsc"), key=lambda path: int(path.stem))
    return tuple(Schema.of(json.loads(path.read_text("utf-8"))) for path in paths)


@cache
def names() -> tuple[str, ...]:
    """The records of the contract, in alphabetical order."""
    return tuple(sorted(_camel(path.stem) for path in _HOME.glob("*.avsc")))


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _camel(stem: str) -> str:
    return "".join(word.capitalize() for word in stem.split("_"))

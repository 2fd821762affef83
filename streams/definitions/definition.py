"""A definition: something that a person has set up, as a record of its topic."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from schemas.codec import Codec
from schemas.contract import schema
from schemas.time import Micros, micros_of

_CODEC: Final = Codec(schema("Definition"))


@dataclass(frozen=True)
class Definition:
    """The present version of something that was set up."""

    id: str
    revision: int
    provisioned: bool
    """Comes from a file: not to be changed through the API."""
    changed_at: Micros
    changed_by: str
    definition: Mapping[str, Any]


def encode(definition: Definition) -> bytes:
    """The definition as a message's value."""
    return _CODEC.encode(
        {
            "id": definition.id,
            "revision": definition.revision,
            "provisioned": definition.provisioned,
            "changed_at": definition.changed_at,
            "changed_by": definition.changed_by,
            "definition": json.dumps(dict(definition.definition), ensure_ascii=False, sort_keys=True),
        }
    )


def decode(value: bytes) -> Definition:
    """The definition in a message's value. Raises SchemaError, or ValueError where the JSON is no object."""
    record = _CODEC.decode(value)
    try:
        definition = json.loads(record["definition"])
    except RecursionError:
        raise ValueError("the JSON of the definition is nested too deeply") from None
    if not isinstance(definition, dict):
        raise ValueError(f"the JSON of the definition is no object: {record['definition'][:40]}")
    return Definition(
        record["id"],
        record["revision"],
        record["provisioned"],
        micros_of(record["changed_at"]),
        record["changed_by"],
        definition,
    )

"""Definitions as they are read from their topic: anything may be on it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.contract import schema
from schemas.errors import SchemaError
from streams.definitions.definition import Definition, decode, encode

CODEC = Codec(schema("Definition"))


def written(json: str) -> bytes:
    return CODEC.encode(
        {
            "id": "a",
            "revision": 1,
            "provisioned": False,
            "changed_at": 1_777_896_000_000_000,
            "changed_by": "somebody",
            "definition": json,
        }
    )


def test_what_is_written_is_read() -> None:
    definition = Definition(
        "a", 3, False, 1_777_896_000_000_000, "somebody", {"name": "Slow", "keys": [1, 2]}
    )

    assert decode(encode(definition)) == definition


@pytest.mark.parametrize(
    ("json", "reason"),
    [
        ('{"a": ' + "[" * 100_000, "nested too deeply"),
        ("[1, 2]", r"no object: \[1, 2\]"),
        ("null", "no object: null"),
        ("{", "Expecting property name"),
    ],
)
def test_json_that_is_no_definition_is_refused_by_name(json: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode(written(json))


@given(st.text())
def test_any_text_is_read_as_an_object_or_refused(json: str) -> None:
    try:
        found = decode(written(json))
    except ValueError:
        return
    assert isinstance(found.definition, dict)


@given(st.binary())
def test_any_bytes_are_refused(value: bytes) -> None:
    with pytest.raises((SchemaError, ValueError)):
        decode(value)

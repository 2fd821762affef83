"""The contract's own rules: what a schema may use, and how it may change."""

import copy
import itertools

import pytest

from schemas import contract
from schemas.compatibility import incompatibilities
from schemas.contract import Schema
from schemas.errors import UnknownRecordError, UnsupportedSchemaError
from schemas.resolution import field_types
from schemas.topics import TOPICS

RULES = "see «How schemas change» in docs/events.md"


@pytest.mark.parametrize("name", contract.names())
def test_todays_schema_is_the_newest_in_its_history(name: str) -> None:
    versions = contract.history(name)
    assert versions, f"copy the schema of {name} to schemas/history/{name}/1.avsc"
    assert versions[-1].definition == contract.schema(name).definition, (
        f"the schema of {name} has changed: copy it to schemas/history/{name}/{len(versions) + 1}.avsc, and "
        f"leave the versions before it as they are; values written with them are still in Kafka ({RULES})"
    )


@pytest.mark.parametrize("name", contract.names())
def test_versions_are_numbered_from_one_without_gaps(name: str) -> None:
    folder = contract.HISTORY / name
    numbers = sorted(int(path.stem) for path in folder.iterdir())
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("name", contract.names())
def test_every_version_reads_every_other(name: str) -> None:
    for writer, reader in itertools.permutations(contract.history(name), 2):
        problems = incompatibilities(writer, reader)
        assert not problems, (
            f"{name}: what was written with fingerprint {writer.fingerprint.hex()} can't be read with "
            f"{reader.fingerprint.hex()}: {'; '.join(problems)}. Add fields with a default only, remove only "
            f"such, never change a type or a name ({RULES})"
        )


@pytest.mark.parametrize("name", contract.names())
def test_schemas_keep_to_the_types_that_the_columnar_reader_takes(name: str) -> None:
    schema = contract.schema(name)
    assert list(field_types(schema)) == [field["name"] for field in schema.definition["fields"]]
    undocumented = [field for field, definition in schema.fields.items() if not definition.get("doc")]
    assert not undocumented, "every field says what it holds"


def test_every_topic_has_a_record_and_every_record_a_topic() -> None:
    assert {topic.record for topic in TOPICS} == set(contract.names())


def test_an_unknown_record_is_named_in_the_error() -> None:
    with pytest.raises(UnknownRecordError, match="NoSuchEvent"):
        contract.schema("NoSuchEvent")
    with pytest.raises(UnknownRecordError, match="NoSuchEvent"):
        contract.history("NoSuchEvent")


@pytest.mark.parametrize(
    "avro",
    [
        {"type": "map", "values": "string"},
        ["null", {"type": "enum", "name": "E", "symbols": ["A"]}],
        ["string", "null"],
        ["null", "string", "long"],
        {"type": "array", "items": "long"},
        {"type": "fixed", "name": "F", "size": 4},
        {"type": "long", "logicalType": "timestamp-millis"},
        "null",
    ],
)
def test_types_that_polars_would_stumble_over_are_not_taken(avro: object) -> None:
    schema = Schema.of({"type": "record", "name": "R", "fields": [{"name": "f", "type": avro}]})
    with pytest.raises(UnsupportedSchemaError, match="f: "):
        field_types(schema)


@pytest.mark.parametrize("definition", ["string", {"type": "enum", "name": "E", "symbols": ["A"]}, {}, []])
def test_what_is_no_record_is_no_schema(definition: object) -> None:
    with pytest.raises(UnsupportedSchemaError):
        Schema.of(definition)  # type: ignore[arg-type]


class TestIncompatibilities:
    """The check that the others rest on sees what it should."""

    def changed(self, **fields: object) -> Schema:
        """Sample with fields replaced, added, or (None) removed."""
        definition = copy.deepcopy(contract.schema("Sample").definition)
        kept = [field for field in definition["fields"] if field["name"] not in fields]
        definition["fields"] = kept + [{"name": name} | field for name, field in fields.items() if field]  # type: ignore[operator]
        return Schema.of(definition)

    def both_ways(self, schema: Schema) -> str:
        today = contract.schema("Sample")
        return "; ".join([*incompatibilities(today, schema), *incompatibilities(schema, today)])

    def test_a_field_with_a_default_may_come_and_go(self) -> None:
        assert self.both_ways(self.changed(unit={"type": ["null", "string"], "default": None})) == ""
        assert self.both_ways(self.changed(state=None)) == ""

    def test_a_field_without_a_default_may_not(self) -> None:
        assert "no default" in self.both_ways(self.changed(unit={"type": "string"}))
        assert "no default" in self.both_ways(self.changed(value=None))

    def test_a_type_may_not_change(self) -> None:
        assert "can't be read as" in self.both_ways(self.changed(value={"type": "long"}))
        assert "may be null" in self.both_ways(self.changed(service={"type": ["null", "string"]}))

    def test_an_enum_may_grow_only_if_it_has_a_default(self) -> None:
        def kinds(*symbols: str, **default: str) -> Schema:
            enum = {"type": "enum", "name": "Kind", "symbols": list(symbols)} | default
            return self.changed(kind={"type": enum, "default": symbols[0]})

        assert "no default" in "".join(incompatibilities(kinds("a", "b"), kinds("a")))
        assert incompatibilities(kinds("a", "b"), kinds("a", default="a")) == []

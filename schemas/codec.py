"""Writes and reads one record at a time. For batches there is `schemas.columnar`."""

import io
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import fastavro

from schemas import wire
from schemas.contract import Schema
from schemas.errors import InvalidRecordError, Reason, RefusedError, UnsupportedSchemaError
from schemas.registry import SchemaRegistry
from schemas.resolution import MICROS, field_types, resolve
from schemas.scan import Scan
from schemas.topics import TOPICS
from schemas.writers import WriterSchemas


class Codec:
    """Encodes and decodes records of `schema`.

    Without a registry, values carry the schema's fingerprint. With one, they carry the id that the
    schema gets as that of the values of `topic`, which may be left out if only one topic has it.
    """

    def __init__(
        self, schema: Schema, registry: SchemaRegistry | None = None, topic: str | None = None
    ) -> None:
        self._schema = schema
        self._registry = registry
        self._topic = topic
        self._writers = WriterSchemas(schema, registry)
        self._instants = [name for name, kind in field_types(schema).items() if kind.kind == MICROS]
        self._readers: dict[bytes, tuple[Schema, Scan]] = {}
        self._header = None if registry else wire.single_object_header(schema.fingerprint)

    def encode(self, record: Mapping[str, Any]) -> bytes:
        """The record's value on Kafka. Fields that have a default may be left out; instants are aware
        datetimes or microseconds since 1970.

        Raises InvalidRecordError; with a registry, RegistryError too.
        """
        for name in self._instants:
            value = record.get(name)
            if isinstance(value, datetime) and value.tzinfo is None:
                raise InvalidRecordError(f"{self._schema.name}.{name} has no time zone: {value}")
        body = io.BytesIO()
        try:
            fastavro.schemaless_writer(body, self._schema.parsed, dict(record), strict_allow_default=True)
        except Exception as error:
            # fastavro has no error of its own for this: ValueError, TypeError, KeyError, ...
            raise InvalidRecordError(f"not a {self._schema.name}: {error}") from error
        if self._header is None:
            self._header = self._registered_header()
        return self._header + body.getvalue()

    def decode(self, value: bytes) -> dict[str, Any]:
        """The record, as the reader's schema has it; instants are datetimes in UTC.

        Raises RefusedError; with a registry, RegistryUnavailableError too.
        """
        header = wire.header_of(value)
        writer, scan = self._reader(header)
        body = value[len(header) :]
        scan.check(body)
        reader = None if writer is self._schema else self._schema.parsed
        try:
            record: dict[str, Any] = fastavro.schemaless_reader(io.BytesIO(body), writer.parsed, reader)  # type: ignore[assignment]
        except Exception as error:
            # Likewise: IndexError for an enum, OverflowError for an instant, errors of its own, ...
            raise RefusedError(Reason.MALFORMED, f"not a {self._schema.name}: {error!r}") from error
        return record

    def _reader(self, header: bytes) -> tuple[Schema, Scan]:
        known = self._readers.get(header)
        if known is None:
            writer = self._writers.of(header)
            try:
                types = resolve(writer, self._schema, tuple(self._schema.fields)).types
            except UnsupportedSchemaError as error:
                raise self._writers.refusal(error) from error
            known = self._readers[header] = (writer, Scan(types, types.keys(), strict=True))
        return known

    def _registered_header(self) -> bytes:
        if self._registry is None:
            raise ValueError("no registry")
        topics = [topic.name for topic in TOPICS if topic.record == self._schema.name]
        if self._topic is None and len(topics) != 1:
            raise ValueError(
                f"{self._schema.name} is on {len(topics)} topics: say which, so that it can be registered"
            )
        return wire.confluent_header(self._registry.register(self._topic or topics[0], self._schema))

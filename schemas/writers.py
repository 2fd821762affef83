"""Which schema a value was written with, from its header."""

from schemas import contract, wire
from schemas.contract import Schema
from schemas.errors import Reason, RefusedError, RegistryRejectedError, UnsupportedSchemaError
from schemas.registry import SchemaRegistry


class WriterSchemas:
    """The writers' schemas that a reader of `schema` knows: its history, and what a registry adds."""

    def __init__(self, schema: Schema, registry: SchemaRegistry | None = None) -> None:
        self._reader = schema
        self._registry = registry
        known = contract.history(schema.name) if schema.name in contract.names() else ()
        # Versions which differ in defaults or docs only share a fingerprint, and are written alike.
        self._by_fingerprint = {known.fingerprint: known for known in (*known, schema)}

    def of(self, header: bytes) -> Schema:
        """The schema that `header` names.

        Raises RefusedError if it is none of this record's, RegistryUnavailableError if that can't
        be known now: then the value must be read again later, not refused.
        """
        if wire.is_confluent(header):
            return self._from_registry(wire.schema_id(header))
        fingerprint = header[len(wire.SINGLE_OBJECT) :]
        writer = self._by_fingerprint.get(fingerprint)
        if writer is None:
            raise RefusedError(
                Reason.UNKNOWN_SCHEMA,
                f"fingerprint {fingerprint.hex()} is no version of {self._reader.name}",
            )
        return writer

    def refusal(self, error: UnsupportedSchemaError) -> RefusedError:
        """What becomes of values whose writer's schema is known, but doesn't resolve."""
        return RefusedError(
            Reason.UNKNOWN_SCHEMA, f"the writer's schema can't be read as {self._reader.name}: {error}"
        )

    def _from_registry(self, schema_id: int) -> Schema:
        if self._registry is None:
            raise RefusedError(
                Reason.UNKNOWN_SCHEMA,
                f"schema id {schema_id} needs a registry: set CHATGAUGE_SCHEMA_REGISTRY_URL",
            )
        try:
            writer = self._registry.schema(schema_id)
        except RegistryRejectedError as error:
            raise RefusedError(Reason.UNKNOWN_SCHEMA, f"schema id {schema_id}: {error}") from error
        if writer.name != self._reader.name:
            raise RefusedError(
                Reason.UNKNOWN_SCHEMA, f"schema id {schema_id} is {writer.name}, not {self._reader.name}"
            )
        return writer

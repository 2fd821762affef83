"""How the bodies of one writer's schema become columns of the reader's.

Every field is declared to Polars by its plainest type of the same encoding (an enum or an int as a
long, a timestamp as its microseconds): what Polars would cut off or not check, is checked here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from schemas.contract import Schema
from schemas.errors import UnsupportedSchemaError
from schemas.extremes import any_above, any_below

MICROS = "timestamp-micros"
_INT = 2**31

_TYPES: dict[str, pl.DataType] = {
    "boolean": pl.Boolean(),
    "int": pl.Int32(),
    "long": pl.Int64(),
    "float": pl.Float32(),
    "double": pl.Float64(),
    "string": pl.String(),
    "bytes": pl.Binary(),
    MICROS: pl.Datetime("us", "UTC"),
    "array": pl.List(pl.String()),
}
_PROMOTIONS = {
    ("int", "long"),
    ("int", "float"),
    ("int", "double"),
    ("long", "float"),
    ("long", "double"),
} | {
    ("float", "double"),
    # A timestamp is a long that says what it means.
    ("long", MICROS),
    (MICROS, "long"),
}


@dataclass(frozen=True)
class FieldType:
    """The type of a field: one of those that the readers take."""

    kind: str
    """boolean, int, long, float, double, string, bytes, enum, timestamp-micros or array (of string)."""
    nullable: bool
    symbols: tuple[str, ...] = ()
    default_symbol: str | None = None

    @classmethod
    def of(cls, name: str, avro: Any) -> "FieldType":
        """From the `type` of an Avro field. Raises UnsupportedSchemaError."""
        nullable = isinstance(avro, list)
        if nullable:
            if len(avro) != 2 or avro[0] != "null":
                raise UnsupportedSchemaError(f'{name}: the only union that is taken is ["null", T]')
            avro = avro[1]
        definition = avro if isinstance(avro, dict) else {"type": avro}
        kind = definition.get("type")
        if definition.get("logicalType") == MICROS and kind == "long":
            return cls(MICROS, nullable)
        if kind == "enum" and not nullable:
            return cls("enum", nullable, tuple(definition["symbols"]), definition.get("default"))
        if kind == "array" and not nullable and definition.get("items") == "string":
            return cls("array", nullable)
        if kind in _TYPES and kind not in ("array", MICROS) and "logicalType" not in definition:
            return cls(str(kind), nullable)
        raise UnsupportedSchemaError(
            f"{name}: {'nullable ' if nullable else ''}{kind} is not taken; use boolean, int, long, float, "
            'double, string, bytes, timestamp-micros, ["null", one of these], an enum, or an array of string'
        )

    @property
    def dtype(self) -> pl.DataType:
        """What the field is in a frame."""
        return pl.Enum(self.symbols) if self.kind == "enum" else _TYPES[self.kind]

    @property
    def encoding(self) -> Any:
        """The plainest Avro type of the same bytes."""
        plain: Any = {"enum": "long", "int": "long", MICROS: "long"}.get(self.kind, self.kind)
        if plain == "array":
            plain = {"type": "array", "items": "string"}
        return ["null", plain] if self.nullable else plain


@dataclass(frozen=True)
class Fault:
    """What makes a decoded row unreadable all the same."""

    what: str
    rows: pl.Expr
    """True where it is so; null as false."""
    suspicious: Callable[[pl.DataFrame], bool]
    """Cheap: whether it may be so in any row of a frame."""


@dataclass(frozen=True)
class Resolution:
    """How to read the bodies of `writer` as (some) columns of a reader's schema."""

    writer: Schema
    types: dict[str, FieldType]
    """The writer's fields, in the order of their encoding."""
    decoded: tuple[str, ...]
    """Those which are decoded; the others are skipped."""
    shapes: tuple[pl.Expr, ...]
    """From the decoded columns to the reader's."""
    faults: tuple[Fault, ...]


def field_types(schema: Schema) -> dict[str, FieldType]:
    """The fields' types by name, in order. Raises UnsupportedSchemaError."""
    reserved = [name for name in schema.fields if name.startswith("_")]
    if reserved:
        raise UnsupportedSchemaError(f"{reserved[0]}: names with a leading _ are the readers' own")
    return {name: FieldType.of(name, field["type"]) for name, field in schema.fields.items()}


def frame_schema(reader: Schema, columns: Sequence[str]) -> pl.Schema:
    """Names and types of the reader's columns."""
    types = field_types(reader)
    return pl.Schema({name: types[name].dtype for name in columns})


def resolve(writer: Schema, reader: Schema, columns: Sequence[str]) -> Resolution:
    """Raises UnsupportedSchemaError when the writer's records can't be read as the reader's."""
    written = field_types(writer)
    wanted = field_types(reader)
    shapes: list[pl.Expr] = []
    faults: list[Fault] = []
    for name in columns:
        into = wanted[name]
        if name not in written:
            shapes.append(_default(reader, name, into))
            continue
        source = written[name]
        if source.kind != into.kind and (source.kind, into.kind) not in _PROMOTIONS:
            raise UnsupportedSchemaError(f"{name}: {source.kind} can't be read as {into.kind}")
        faults.extend(_faults(name, source, into))
        shapes.append(_shape(name, source, into))
    return Resolution(
        writer=writer,
        types=written,
        decoded=tuple(name for name in written if name in set(columns)),
        shapes=tuple(shapes),
        faults=tuple(faults),
    )


def _default(reader: Schema, name: str, into: FieldType) -> pl.Expr:
    field = reader.fields[name]
    if "default" not in field:
        raise UnsupportedSchemaError(f"{name}: the writer doesn't have it, and it has no default")
    value = field["default"]
    if into.kind == "bytes" and value is not None:
        value = value.encode("latin-1")
    if into.kind == MICROS:
        return pl.lit(value, pl.Int64).cast(into.dtype).alias(name)
    if into.kind == "array":
        return pl.lit(pl.Series([value], dtype=into.dtype)).first().alias(name)
    return pl.lit(value, into.dtype).alias(name)


def _faults(name: str, source: FieldType, into: FieldType) -> list[Fault]:
    column = pl.col(name)
    found: list[Fault] = []
    if source.kind == "enum":
        found.append(_beyond(f"{name} is no index of its enum", name, 0, len(source.symbols) - 1))
        unknown = [
            index for index, symbol in enumerate(source.symbols) if _symbol(symbol, into) not in into.symbols
        ]
        if unknown:
            what = f"{name} has a symbol that the reader doesn't know"
            found.append(Fault(what, column.is_in(unknown), lambda _: True))
    if source.kind == "int":
        found.append(_beyond(f"{name} doesn't fit an int", name, -_INT, _INT - 1))
    if source.nullable and not into.nullable:
        found.append(Fault(f"{name} is null", column.is_null(), lambda frame: frame[name].has_nulls()))
    return found


def _beyond(what: str, name: str, least: int, most: int) -> Fault:
    return Fault(
        what,
        (pl.col(name) < least) | (pl.col(name) > most),
        lambda frame: any_below(frame[name], least) or any_above(frame[name], most),
    )


def _symbol(symbol: str, into: FieldType) -> str | None:
    return symbol if symbol in into.symbols else into.default_symbol


def _shape(name: str, source: FieldType, into: FieldType) -> pl.Expr:
    column = pl.col(name)
    if source.kind == "enum":
        symbols = pl.Series([_symbol(symbol, into) for symbol in source.symbols], dtype=into.dtype)
        return pl.lit(symbols).gather(column).alias(name)
    return column.cast(into.dtype) if source.kind in ("int", "long", "float", MICROS) else column

"""Columns written at once are what the codec reads one by one."""

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.contract import schema
from traffic.avro import ColumnWriter

TEXT = st.text(st.characters(codec="utf-8"), max_size=80)
LONG = st.integers(-(2**63), 2**63 - 1)
MOMENT = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001

MOMENTS = pl.Datetime("us", "UTC")


def of_type(avro: Any) -> st.SearchStrategy[Any]:
    if isinstance(avro, list):
        return st.none() | of_type(avro[1])
    if isinstance(avro, dict):
        match avro["type"]:
            case "enum":
                return st.sampled_from(avro["symbols"])
            case "array":
                return st.lists(TEXT, max_size=3)
        return MOMENT
    return {
        "string": TEXT,
        "long": LONG,
        "boolean": st.booleans(),
        "double": st.floats(allow_nan=False),
    }[avro]


def frame_of(record: str, rows: list[dict[str, Any]]) -> pl.DataFrame:
    def dtype(avro: Any) -> Any:
        if isinstance(avro, list):
            return dtype(avro[1])
        if isinstance(avro, dict):
            return {"enum": pl.String, "array": pl.List(pl.String), "long": pl.Datetime("us", "UTC")}[
                avro["type"]
            ]
        return {"string": pl.String, "long": pl.Int64, "boolean": pl.Boolean, "double": pl.Float64}[avro]

    fields = schema(record).fields
    return pl.DataFrame(rows, {name: dtype(field["type"]) for name, field in fields.items()})


@pytest.mark.parametrize("record", ["RequestEvent", "SpanEvent", "Sample"])
@given(st.data())
def test_the_codec_reads_what_is_written_in_columns(record: str, data: st.DataObject) -> None:
    row = st.fixed_dictionaries({n: of_type(f["type"]) for n, f in schema(record).fields.items()})
    rows = data.draw(st.lists(row, max_size=6))
    codec = Codec(schema(record))

    values = ColumnWriter(record).values(frame_of(record, rows))

    assert [codec.decode(value) for value in values] == rows
    assert values == [codec.encode(row) for row in rows]


def test_columns_that_are_missing_take_the_schema_s_default() -> None:
    moment = datetime(2026, 5, 1, tzinfo=UTC)
    texts = dict.fromkeys(("event_id", "request_id", "service", "provider", "model"), "x")
    sparse = texts | {"phase": "finished", "occurred_at": moment}
    codec = Codec(schema("RequestEvent"))
    (value,) = ColumnWriter("RequestEvent").values(pl.DataFrame([sparse]))
    assert codec.decode(value) == codec.decode(codec.encode(sparse))


def test_a_null_or_a_missing_column_is_refused_where_the_schema_has_none() -> None:
    whole = pl.DataFrame({name: ["x"] for name in ("event_id", "request_id", "service")}).with_columns(
        phase=pl.lit("started"), occurred_at=pl.lit(0)
    )
    with pytest.raises(ValueError, match="needs the column provider"):
        ColumnWriter("RequestEvent").values(whole)
    nobody = whole.with_columns(provider=pl.lit(None, pl.String), model=pl.lit("m"))
    with pytest.raises(ValueError, match="provider must not be null"):
        ColumnWriter("RequestEvent").values(nobody)


def test_another_header_begins_every_value() -> None:
    plain, registered = ColumnWriter("Sample"), ColumnWriter("Sample", header=b"\x00\x00\x00\x00\x07")
    texts = {name: ["x"] for name in ("event_id", "service", "instance", "name")}
    frame = pl.DataFrame(texts | {"occurred_at": [0], "value": [1.5]})
    assert registered.values(frame) == [b"\x00\x00\x00\x00\x07" + value[10:] for value in plain.values(frame)]

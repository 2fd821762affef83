"""Every field of an event is stored as it came, also in tables that older versions made."""

import re
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from schemas import contract
from schemas.codec import Codec
from sinks import events, spans
from sinks.records import FEW_VALUED
from sinks.tables import migrate, migrations
from sinks.views.making import make
from streams.counting.pricing import PriceList
from tests.schemas.events import request
from tests.sinks.conftest import FOREVER
from tests.sinks.making import HELD, NOON, fetch, span
from tests.sinks.storing import store

REQUEST = request(3, attributes=["tier=gold"], workflow="w", workflow_version="1", prompt_audio_tokens=7)
SPAN = span(3) | {
    "parent_id": "parent",
    "depends_on": ["span-1", "span-2"],
    "links": ["other/span-9"],
    "request_id": "request",
    "conversation_id": "conversation",
    "kind": "model",
    "imported": True,
    "instance": "pod-1",
    "region": "eu-central-1",
    "space_id": "space",
    "user_id": "user",
    "workflow": "w",
    "workflow_version": "1",
    "provider": "anthropic",
    "model": "claude-sonnet-4-5",
    "operation": "chat",
    "duration_us": 5,
    "error_type": None,
    "prompt_tokens": 100,
    "cached_tokens": 10,
    "cache_write_tokens": 20,
    "cache_write_1h_tokens": 5,
    "prompt_audio_tokens": 1,
    "completion_tokens": 50,
    "reasoning_tokens": 2,
    "completion_audio_tokens": 3,
    "cost_nano_usd": 4,
    "attributes": ["tier=gold"],
}


def columns(client: Client, table: str) -> dict[str, str]:
    """Names and types."""
    return {name: kind for name, kind, *_ in client.query(f"DESCRIBE TABLE {table}").result_rows}


@pytest.mark.parametrize(
    ("table", "record", "event"), [("events", "RequestEvent", REQUEST), ("spans", "SpanEvent", SPAN)]
)
def test_every_field_is_stored_as_it_came(
    tables: Client, table: str, record: str, event: dict[str, Any]
) -> None:
    codec = Codec(contract.schema(record))
    assert event.keys() == contract.schema(record).fields.keys()
    writer = spans.writer(lambda: NOON) if table == "spans" else events.writer(lambda: NOON, PriceList())
    store(tables, writer.take([fetch([codec.encode(event)])], frozenset({HELD}), 0.0))
    (stored,) = tables.query(f"SELECT {', '.join(event)} FROM {table}").named_results()
    assert stored == codec.decode(codec.encode(event)) | {"occurred_at": stored["occurred_at"]}


@pytest.mark.parametrize("table", ["events", "spans"])
def test_columns_of_few_values_are_sent_as_dictionaries(tables: Client, table: str) -> None:
    described = columns(tables, table)
    few_valued = {name for name, kind in described.items() if kind.startswith("LowCardinality")}
    assert few_valued - {"name"} == FEW_VALUED & described.keys()  # a span's name goes as plain text


def test_the_view_of_requests_has_every_field_in_its_units(tables: Client) -> None:
    fields = contract.schema("RequestEvent").fields.keys() - {"phase"}
    shown = {re.sub("_us$", "_ms", name).replace("nano_usd", "usd") for name in fields}
    assert columns(tables, "requests").keys() == shown


def test_rows_from_before_have_not_reported_what_came_later(client: Client) -> None:
    (added,) = (one for one in migrations() if one.name == "event_fields")
    before = [one for one in migrations() if one.number < added.number]
    migrate(client, FOREVER, before)
    known = {table: columns(client, table).keys() for table in ("events", "spans")}
    for table in known:
        client.command(f"INSERT INTO {table} (event_id, phase, arrived_at) VALUES ('old', 'finished', now())")
    client.command(added.statements[0])  # and here it was interrupted
    migrate(client, FOREVER, [*before, added])
    for table, count in (("events", 13), ("spans", 16)):
        (row,) = client.query(f"SELECT * FROM {table}").named_results()
        new = {name: value for name, value in row.items() if name not in known[table]}
        assert new == {name: [] if name in ("depends_on", "links") else None for name in new}
        assert len(new) == count
    make(client)
    assert client.query("SELECT event_id, region, last_token_ms FROM requests").result_rows == [
        ("old", None, None)
    ]

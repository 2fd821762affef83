"""Subscribes to chat.alerts in Kafka, and prints each transition of an alert as a line of JSON.

    pip install aiokafka fastavro
    python alerts_consumer.py --bootstrap 127.0.0.1:9092 --schemas ../schemas/history/Alert

Nothing of Chatgauge is imported. A value is Avro in single-object encoding: C3 01, the fingerprint of the
schema that wrote it (8 bytes), and the record. --schemas is a folder with the versions of the record; take
it from the release that you run, and a later one when it comes: fields are only ever added.

A transition may come again after a crash, and again with a higher `revision` when late events have corrected
its figures: `alert_id`, `transition` and `revision` together name it. Here repeats are left out.
"""

import argparse
import asyncio
import io
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer
from fastavro import parse_schema, schemaless_reader
from fastavro.schema import fingerprint, to_parsing_canonical_form

MARK = b"\xc3\x01"
HEADER = 10


def read_schemas(folder: Path) -> tuple[dict[bytes, Any], Any]:
    """Every version of the record by its fingerprint, as it stands on the wire; and the newest."""
    versions = {}
    newest = None
    for path in sorted(folder.glob("*.avsc"), key=lambda each: int(each.stem)):
        newest = parse_schema(json.loads(path.read_text("utf-8")))
        digest = fingerprint(to_parsing_canonical_form(newest), "CRC-64-AVRO")
        versions[bytes.fromhex(digest)] = newest
    if newest is None:
        sys.exit(f"no schemas in {folder}")
    return versions, newest


def decode(value: bytes, versions: dict[bytes, Any], newest: Any) -> dict[str, Any]:
    """The record, in the newest version's fields."""
    if value[:2] != MARK or value[2:HEADER] not in versions:
        raise ValueError("not an alert, or of a version that is not in --schemas")
    alert: dict[str, Any] = schemaless_reader(io.BytesIO(value[HEADER:]), versions[value[2:HEADER]], newest)  # type: ignore[assignment]
    return alert


def pairs(entries: list[str]) -> dict[str, str]:
    """`key=value` texts as an object."""
    return dict(entry.split("=", 1) for entry in entries)


def as_json(alert: dict[str, Any]) -> str:
    """The alert as a line of JSON; times as in ISO 8601."""
    shown = {**alert, "labels": pairs(alert["labels"]), "group": pairs(alert["group"])}
    return json.dumps(
        shown, default=lambda each: each.isoformat() if isinstance(each, datetime) else str(each)
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description="Print the alerts of Chatgauge.")
    parser.add_argument("--bootstrap", default="127.0.0.1:9092")
    parser.add_argument("--topic", default="chat.alerts")
    parser.add_argument("--schemas", type=Path, default=Path("../schemas/history/Alert"))
    parser.add_argument("--group", help="a consumer group, to go on where you were; without it, from now on")
    parser.add_argument("--from-beginning", action="store_true")
    parser.add_argument("--count", type=int, help="end after so many")
    options = parser.parse_args()
    versions, newest = read_schemas(options.schemas)
    told: set[tuple[str, int, int]] = set()
    consumer = AIOKafkaConsumer(
        options.topic,
        bootstrap_servers=options.bootstrap,
        group_id=options.group,
        auto_offset_reset="earliest" if options.from_beginning else "latest",
    )
    await consumer.start()
    try:
        async for record in consumer:
            try:
                alert = decode(record.value, versions, newest)
            except ValueError as error:
                print(f"offset {record.offset}: {error}", file=sys.stderr)
                continue
            name = (alert["alert_id"], alert["transition"], alert["revision"])
            if name in told:
                continue
            told.add(name)
            print(as_json(alert), flush=True)
            if len(told) == options.count:
                break
    finally:
        await consumer.stop()


if __name__ == "__main__":
    asyncio.run(main())

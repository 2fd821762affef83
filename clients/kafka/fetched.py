"""Kafka records as they were fetched, without the object that aiokafka builds around each.

Building it costs more than all the rest of reading a record. What it is built from has what readers of
batches need: `offset`, `timestamp` (milliseconds), `key` and `value`. It rests on internals of aiokafka,
hence on its pinned version; where they don't apply, records come as ever.
"""

from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaConsumer


def leave_bare(consumer: AIOKafkaConsumer, wanted: Callable[[str], bool] = lambda topic: True) -> None:
    """What the consumer has fetched by now, of the wanted topics, is handed over as it is."""
    for tp, result in consumer._fetcher._records.items():
        records = getattr(result, "_partition_records", None)
        if records is not None and wanted(tp.topic):
            records._consumer_record = _as_it_is


def _as_it_is(tp: Any, record: Any) -> Any:
    return record

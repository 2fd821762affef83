"""Faust as its tutorial writes it: one windowed table, an event at a time.

The table is in memory, as in the tutorial, and every change of it goes to its changelog topic, as Faust's
tables do. Windows go by event time (`relative_to`): by the clock, nobody could check the figures. There
is no `group_by`, which would send every event through Kafka once more.
"""

import asyncio
import io
from typing import Any, cast

import faust
from fastavro import parse_schema, schemaless_reader
from faust.serializers import codecs

from bench import work
from bench.contenders.race import Clock, Course, course, hand_in

Event = dict[str, Any]


class RequestEvents(codecs.Codec):
    """Avro in single-object encoding."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._schema = parse_schema(work.schema_for_counting())
        self._clock = clock

    def _loads(self, value: bytes) -> Event:
        if not self._clock.running:
            self._clock.start()
        event: Any = schemaless_reader(io.BytesIO(value[work.HEADER_BYTES :]), self._schema)
        return cast("Event", event)

    def _dumps(self, value: Event) -> bytes:
        raise NotImplementedError("this benchmark only reads requests")


def event_time(event: Any) -> float:
    return float(event.value["occurred_at"]) / 1_000_000


async def run(course: Course, clock: Clock) -> work.Windows:
    """Runs the worker until every event has been counted and its window's change has been sent."""
    codecs.register("request_event", RequestEvents(clock))
    app = faust.App(
        f"faust-naive-{course.run}",
        broker=f"kafka://{course.bootstrap}",
        store="memory://",
        datadir=str(course.scratch / "faust"),
        topic_partitions=course.partitions,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        table_standby_replicas=0,
        web_enabled=False,
    )
    requests = app.topic(course.topic, value_serializer="request_event")
    by_event_time: Any = app.Table("windows", default=work.new_window).tumbling(60.0)
    table = by_event_time.relative_to(event_time)
    finished = asyncio.Event()
    counted = 0

    @app.agent(requests)
    async def count(stream: Any) -> None:
        nonlocal counted
        async for event in stream:
            space = event["space_id"]
            if space is None:
                continue
            table[space] = work.count(table[space].value(), event)
            counted += 1
            if counted == course.events:
                clock.stop()
                finished.set()

    await app.start()
    await finished.wait()
    windows: work.Windows = {}
    for (space, (start, _)), window in table.table.items():
        work.add(windows, space, int(start) * 1_000_000, window)
    await app.stop()
    return windows


def main() -> None:
    clock = Clock()
    told = course()
    hand_in(told, clock, asyncio.run(run(told, clock)))


if __name__ == "__main__":
    main()

"""Bytewax: its Kafka source, `fold_window` by event time, one worker.

What makes it fast, within its idiom: large batches from the source; one step that decodes and keys a
whole batch (`flat_map_batch`) where `map` and `key_on` would call Python twice an event; coalescing in the
order of arrival, which spares it a sorted queue; no recovery store, so that it writes no state at all.
Partitions are read in turn, so a window waits long for what the others still hold: nothing is late.
"""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, TumblingWindower, fold_window
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main
from fastavro import parse_schema, schemaless_reader

from bench import work
from bench.contenders.race import Clock, Course, course, hand_in

BATCH = 5_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

Event = dict[str, Any]
Folded = tuple[str, tuple[int, work.Window]]


class WindowsSink(DynamicSink[Folded]):
    """Takes each closed window into `windows`."""

    def __init__(self, windows: work.Windows) -> None:
        self._windows = windows

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "WindowsPartition":
        return WindowsPartition(self._windows)


class WindowsPartition(StatelessSinkPartition[Folded]):
    def __init__(self, windows: work.Windows) -> None:
        self._windows = windows

    def write_batch(self, items: list[Folded]) -> None:
        for space, (minute, window) in items:
            work.add(self._windows, space, minute * work.MINUTE_US, window)


def merge(left: work.Window, right: work.Window) -> work.Window:
    raise NotImplementedError("tumbling windows never merge")


def dataflow(course: Course, clock: Clock, windows: work.Windows) -> Dataflow:
    schema = parse_schema(work.schema_for_counting())

    def decode(messages: list[KafkaSourceMessage[bytes, bytes]]) -> list[tuple[str, Event]]:
        if not clock.running:
            clock.start()
        keyed = []
        for message in messages:
            event: Any = schemaless_reader(io.BytesIO(message.value[work.HEADER_BYTES :]), schema)
            if event["space_id"] is not None:
                keyed.append((event["space_id"], event))
        return keyed

    def event_time(event: Event) -> datetime:
        return datetime.fromtimestamp(event["occurred_at"] / 1_000_000, UTC)

    flow = Dataflow("windows_by_space")
    source = KafkaSource(
        [course.bootstrap],
        [course.topic],
        tail=False,
        batch_size=BATCH,
        add_config={
            "queued.min.messages": "200000",
            "queued.max.messages.kbytes": "131072",
            "fetch.message.max.bytes": "4194304",
        },
    )
    messages = op.input("requests", flow, source)
    keyed = op.flat_map_batch("decode", messages, decode)
    folded = fold_window(
        "fold",
        keyed,
        EventClock(event_time, wait_for_system_duration=timedelta(minutes=30)),
        TumblingWindower(length=MINUTE, align_to=EPOCH),
        work.new_window,
        work.count,
        merge,
        ordered=False,
    )
    op.output("windows", folded.down, WindowsSink(windows))
    return flow


def main() -> None:
    clock = Clock()
    told = course()
    windows: work.Windows = {}
    cli_main(dataflow(told, clock, windows))
    clock.stop()
    hand_in(told, clock, windows)


if __name__ == "__main__":
    main()

"""Quix Streams: a tumbling window by the message key, reduced in its RocksDB state.

What makes it fast, within its idiom: the topic's messages carry the space as their key, so that nothing
needs `group_by`, which would send every event through Kafka once more; one `reduce` that keeps all
figures, where an aggregation per figure would cost a call each; windows closed by the partition's time
and emitted once, closed (`final`), not at every update; deep consumer queues; and no changelog topic.
What it can't do without: each event reads its window from the state and writes it back, serialised.
"""

import io
import math
from datetime import timedelta
from typing import Any, cast

from fastavro import parse_schema, schemaless_reader
from quixstreams import Application
from quixstreams.models import Deserializer, SerializationContext

from bench import work
from bench.contenders.race import Clock, Course, course, hand_in

Event = dict[str, Any]


class RequestEvents(Deserializer):
    """Avro in single-object encoding."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._schema = parse_schema(work.schema_for_counting())
        self._clock = clock

    def __call__(self, value: bytes, ctx: SerializationContext) -> Event:
        if not self._clock.running:
            self._clock.start()
        event: Any = schemaless_reader(io.BytesIO(value[work.HEADER_BYTES :]), self._schema)
        return cast("Event", event)


def event_time_ms(value: Event, headers: object, timestamp: float, timestamp_type: object) -> int:
    return int(value["occurred_at"] // 1000)


def reduce(window: work.Window, event: Event) -> work.Window:
    """`work.count`, with the sketch's keys as text: state is JSON, where keys are text."""
    window[work.REQUESTS] += 1
    if event["error_type"] is not None:
        window[work.ERRORS] += 1
    window[work.PROMPT_TOKENS] += event["prompt_tokens"] or 0
    window[work.COMPLETION_TOKENS] += event["completion_tokens"] or 0
    total_us = event["total_us"]
    if total_us is not None:
        window[work.TOTAL_US] += total_us
        key = str(math.floor(math.log(max(1, total_us)) / work.LOG_GAMMA))
        sketch = window[work.SKETCH]
        sketch[key] = sketch.get(key, 0) + 1
    return window


def initial(event: Event) -> work.Window:
    return reduce(work.new_window(), event)


def run(course: Course, clock: Clock, windows: work.Windows) -> None:
    app = Application(
        broker_address=course.bootstrap,
        consumer_group=f"quix-{course.run}",
        auto_offset_reset="earliest",
        auto_create_topics=False,
        use_changelog_topics=False,
        state_dir=course.scratch / "state",
        commit_interval=5.0,
        loglevel="WARNING",
        consumer_extra_config={
            "queued.min.messages": 200_000,
            "queued.max.messages.kbytes": 131_072,
            "fetch.message.max.bytes": 4_194_304,
        },
    )
    topic = app.topic(
        course.topic,
        key_deserializer="str",
        value_deserializer=RequestEvents(clock),
        timestamp_extractor=event_time_ms,
    )
    counted = 0

    def take(result: dict[str, Any], key: str, timestamp: int, headers: object) -> None:
        nonlocal counted
        work.add(windows, key, result["start"] * 1000, result["value"])
        counted += result["value"][work.REQUESTS]
        if counted >= course.events:
            clock.stop()
            app.stop()

    # Each partition ends with an event an hour later and without a space, whose own window stays open:
    # it closes all others.
    (
        app.dataframe(topic)
        .tumbling_window(timedelta(minutes=1), grace_ms=timedelta(minutes=1))
        .reduce(reduce, initial)
        .final(closing_strategy="partition")
        .update(take, metadata=True)
    )
    app.run()


def main() -> None:
    clock = Clock()
    told = course()
    windows: work.Windows = {}
    run(told, clock, windows)
    hand_in(told, clock, windows)


if __name__ == "__main__":
    main()

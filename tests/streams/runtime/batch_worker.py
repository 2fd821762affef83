"""A Faust worker that says what it is handed: test_transport runs it as a process.

    python batch_worker.py BOOTSTRAP TOPIC PARTITIONS FILE [--hold | --slow | --seeking | --leaving]

For each event it adds a line of JSON to the file: partition, offset, the records' offsets, the first
value, and how many partitions the topic has. It acknowledges each, unless it is told to hold; slowly,
if told so. `--seeking` makes it linger before it goes on from the committed offsets, `--leaving` stop
while it joins the group. Its table recovers from TOPIC-state.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import faust
from faust.types import TP, StreamT
from yarl import URL

sys.path.insert(0, str(Path(__file__).parents[3]))
from infra.liveness import Part
from streams.runtime.consumer_thread import Batching
from streams.runtime.fetch import Fetch
from streams.runtime.transport import BatchConsumer, BatchTransport, Records


class FromCommitted:
    """Reads from the committed offset on; there is no changelog that would have to be taken over first."""

    def __init__(self, app: faust.App) -> None:
        self._app = app

    async def expect(self, assigned: frozenset[int]) -> Collection[int]:
        return ()

    def reading_from(self, tp: TP, committed: int) -> int:
        cast("BatchConsumer", self._app.consumer)._notes[tp] = ""
        return committed


def main(bootstrap: str, topic: str, partitions: str, file: str, *options: str) -> None:
    url = URL(f"kafka://{bootstrap}")
    app = faust.App(
        f"{topic}-group",
        broker=str(url),
        store="memory://",
        datadir="/tmp",
        topic_partitions=int(partitions),
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=0.2,
        broker_max_poll_records=100,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=3.0,
        stream_wait_empty=False,
        web_enabled=False,
    )
    batching = Batching(frozenset({topic}), frozenset(), timedelta(milliseconds=50), 1024 * 1024)
    app.transport = BatchTransport([url], app, batching, FromCommitted(app), Part("test"))

    raw: dict[str, Any] = {
        "key_type": bytes,
        "value_type": bytes,
        "key_serializer": "raw",
        "value_serializer": "raw",
    }
    app.Table("state", partitions=int(partitions), changelog_topic=app.topic(f"{topic}-state", **raw))
    if "--seeking" in options:
        linger_when_seeking()
    if "--leaving" in options:
        stop_when_joining()

    @app.agent(app.topic(topic, schema=Records(), maxsize=1))
    async def say(fetches: StreamT[Any]) -> None:
        stream = cast("faust.Stream[Any]", fetches).noack()
        async for event in stream.events():
            records = cast("Fetch", event.message.value).records
            if not records:
                continue
            line = {
                "partition": event.message.partition,
                "offset": event.message.offset,
                "offsets": [record.offset for record in records],
                "first": (records[0].value or b"").decode(),
                "partitions": app.consumer.topic_partitions(topic),
            }
            with Path(file).open("a", encoding="utf-8") as handed:  # noqa: ASYNC230
                handed.write(json.dumps(line) + "\n")
            if "--slow" in options:
                await asyncio.sleep(0.2)
            if "--hold" not in options:
                await stream.ack(event)

    sys.argv = sys.argv[:1]
    faust.Worker(app, loglevel="WARN", redirect_stdouts=False, quiet=True).execute_from_commandline()


def linger_when_seeking() -> None:
    """As with a broker that takes its time to say how far the group came."""
    seek = BatchConsumer.perform_seek

    async def slowly(consumer: BatchConsumer) -> None:
        await seek(consumer)
        await asyncio.sleep(2)

    BatchConsumer.perform_seek = slowly  # type: ignore[method-assign, assignment]


def stop_when_joining() -> None:
    """As a supervisor may: Faust hears of its partitions when it has begun to stop."""
    assigned = BatchConsumer.on_partitions_assigned

    async def too_late(consumer: BatchConsumer, partitions: set[TP], generation: int = 0) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        while not consumer.app.should_stop:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await assigned(consumer, partitions, generation)

    BatchConsumer.on_partitions_assigned = too_late  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    main(*sys.argv[1:])

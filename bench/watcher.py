"""`python -m bench.watcher`: notes when which block came to `chat.windows` and `chat.usage`.

A process of its own, so that nothing delays it; blocks are decoded at the end, so that it delays nothing
either. At SIGTERM it leaves one row a block: when it was read (microseconds), table, partition, pane, its
start, grouping, the offset it is counted to, and bytes.
"""

import argparse
import asyncio
import signal
import time
from pathlib import Path

import polars as pl
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.topics import USAGE, WINDOWS
from streams.windows.block import BlockKey, read_block

COLUMNS = {
    "read_at": pl.Int64,
    "table": pl.String,
    "partition": pl.Int32,
    "pane": pl.String,
    "pane_start": pl.Int64,
    "grouping": pl.String,
    "offset": pl.Int64,
    "closed": pl.Boolean,
    "bytes": pl.Int64,
}
_LARGEST = 16 * 1024 * 1024


async def watch(bootstrap: str, partitions: int) -> pl.DataFrame:
    """Every block from now to SIGTERM."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    seen: list[tuple[int, str, bytes, bytes | None]] = []
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, max_partition_fetch_bytes=_LARGEST
    )
    await consumer.start()
    try:
        parts = [TopicPartition(t.name, i) for t in (WINDOWS, USAGE) for i in range(partitions)]
        consumer.assign(parts)
        await consumer.seek_to_end(*parts)
        for part in parts:
            await consumer.position(part)
        print("watching", flush=True)
        while not stopping.is_set():
            fetched = await consumer.getmany(timeout_ms=200)
            read_at = time.time_ns() // 1000
            for part, records in fetched.items():
                seen.extend((read_at, part.topic, record.key, record.value) for record in records)
    finally:
        await consumer.stop()
    return pl.DataFrame([_row(*block) for block in seen], schema=COLUMNS, orient="row")


def _row(read_at: int, table: str, key: bytes, value: bytes | None) -> tuple[object, ...]:
    at = BlockKey.decode(key)
    if value is None:
        return (read_at, table, at.partition, at.pane, at.pane_start, at.grouping, None, None, len(key))
    offset, closed = None, None
    if at.grouping in ("total", "user"):
        block = read_block(value)
        offset, closed = block.offset, block.closed
    size = len(key) + len(value)
    return (read_at, table, at.partition, at.pane, at.pane_start, at.grouping, offset, closed, size)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.watcher", description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    asyncio.run(watch(given.bootstrap, given.partitions)).write_ipc(given.out)


if __name__ == "__main__":
    main()

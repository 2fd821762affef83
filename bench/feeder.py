"""`python -m bench.feeder`: live events at a steady rate, as chat services would send them.

Open loop: what is due is sent, however the broker keeps up. Every event carries the time at which it was
due, which is when its service made it, and goes out with the next tick: a producer that lingers 5 ms. It
ends after `--seconds`, or at SIGTERM, with one line of JSON; with `--log`, it leaves what it sent:
partition, offset and time of every event.
"""

import argparse
import asyncio
import json
import signal
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder

from bench.events import Load, made
from schemas.topics import REQUESTS
from traffic.avro import ColumnWriter

POOL = 40_000
"""Different events; they repeat, with an identity and a time of their own."""
TICK_S = 0.005
BATCH_BYTES = 1024 * 1024
_HEADER = 11
"""The wire's header, and the length of the event's id."""
_ID, _TIME = slice(11, 27), slice(64, 72)
"""Where id and time lie in a value: before them are only texts of fixed length, and no conversation."""


@dataclass(frozen=True)
class Told:
    bootstrap: str
    rate: float
    """Events a second."""
    partitions: int
    users: int
    spaces: int
    run: int
    """Different for each run on the same topic: event ids begin with it."""
    seconds: float | None
    log: Path | None


def told() -> Told:
    parser = argparse.ArgumentParser(prog="python -m bench.feeder", description=__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--spaces", type=int, default=100)
    parser.add_argument("--run", type=int, default=1)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--log", type=Path)
    return Told(**vars(parser.parse_args()))


class Pool:
    """Encoded events to be sent again and again, of one partition."""

    def __init__(self, values: list[bytes], keys: list[bytes]) -> None:
        self._head = values[0][:_HEADER]
        self._parts = [
            (key, value[_ID.stop : _TIME.start], value[_TIME.stop :])
            for key, value in zip(keys, values, strict=True)
        ]
        self._next = 0

    def pack(self, first_id: int, times: npt.NDArray[np.int64], into: Any = None) -> BatchBuilder:
        """One event for each of the times, in microseconds; their ids count from `first_id`.

        They go into a new batch, or into one that is given.
        """
        batch = BatchBuilder(BATCH_BYTES, 0) if into is None else into
        at, parts, head = self._next, self._parts, self._head
        for number, when in enumerate(varints(times), first_id):
            key, middle, rest = parts[at]
            at = (at + 1) % len(parts)
            batch.append(
                timestamp=None, key=key, value=b"".join((head, b"%016x" % number, middle, when, rest))
            )
        self._next = at
        batch.close()
        return batch


def varints(times: npt.NDArray[np.int64]) -> list[bytes]:
    """Avro longs, for times between 1979 and 3111: eight bytes each."""
    rest = times.astype(np.uint64) << np.uint64(1)
    digits = np.empty((len(times), 8), np.uint8)
    for place in range(8):
        digits[:, place] = rest & np.uint64(0x7F)
        rest >>= np.uint64(7)
    digits[:, :7] |= 0x80
    return list(map(bytes, digits))


def pools(partitions: int, users: int, spaces: int) -> list[Pool]:
    """The pool of each partition."""
    events = made(Load(POOL, datetime.now(UTC), partitions, users=users, spaces=spaces))
    values = ColumnWriter("RequestEvent").values(events.frame)
    keys = events.frame["user_id"].to_list()
    found = []
    for partition in range(partitions):
        mine = np.flatnonzero(events.partition == partition).tolist()
        found.append(Pool([values[i] for i in mine], [keys[i].encode() for i in mine]))
    return found


class Lane:
    """One partition's share of the rate: every n-th event."""

    def __init__(self, partition: int, pool: Pool, told: Told, began_us: int) -> None:
        self._partition = partition
        self._pool = pool
        self._gap_us = told.partitions / told.rate * 1e6
        self._began_us = began_us + partition * self._gap_us / told.partitions
        self._ids = (told.run << 52) | (partition << 44)
        self._keep = told.log is not None
        self.sent = 0
        self.log: list[tuple[int, npt.NDArray[np.int64]]] = []
        """Per batch its first offset, and the times of its events."""
        self.longest_behind_us = 0

    def due(self, now_us: int) -> int:
        """How many events are to be sent by now, and are not."""
        return max(0, int((now_us - self._began_us) / self._gap_us) - self.sent)

    async def send(self, producer: AIOKafkaProducer, now_us: int) -> None:
        """Send what is due, as far as it fits a batch; returns when it is acknowledged."""
        count = min(self.due(now_us), 4_000)
        if count == 0:
            return
        times = (self._began_us + np.arange(self.sent, self.sent + count) * self._gap_us).astype(np.int64)
        batch = self._pool.pack(self._ids + self.sent, times)
        acknowledged = await producer.send_batch(batch, REQUESTS.name, partition=self._partition)
        self.longest_behind_us = max(self.longest_behind_us, now_us - int(times[0]))
        self.sent += count
        offset = (await acknowledged).offset
        if self._keep:
            self.log.append((offset, times))


async def feed(told: Told) -> list[Lane]:
    """Until the time is over, or a signal comes. All that counts as sent is acknowledged."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    prepared = pools(told.partitions, told.users, told.spaces)
    producer = AIOKafkaProducer(bootstrap_servers=told.bootstrap, acks="all", max_batch_size=BATCH_BYTES)
    await producer.start()
    try:
        began_us = time.time_ns() // 1000
        lanes = [Lane(i, pool, told, began_us) for i, pool in enumerate(prepared)]
        print("feeding", flush=True)
        if told.seconds is not None:
            loop.call_later(told.seconds, stopping.set)
        while not stopping.is_set():
            now_us = time.time_ns() // 1000
            # At once, so that they go out in one request, as a producer's batches do.
            await asyncio.gather(*(lane.send(producer, now_us) for lane in lanes))
            if not any(lane.due(now_us) for lane in lanes):
                await asyncio.sleep(TICK_S)
        return lanes
    finally:
        await producer.stop()


def write(lanes: list[Lane], file: Path) -> None:
    """`partition`, `offset` and `time` (microseconds) of every event, as a NumPy archive."""
    batches = [(p, offset, times) for p, lane in enumerate(lanes) for offset, times in lane.log]
    np.savez(
        file,
        partition=np.concatenate([np.full(len(times), p) for p, _, times in batches]),
        offset=np.concatenate([offset + np.arange(len(times)) for _, offset, times in batches]),
        time=np.concatenate([times for _, _, times in batches]),
    )


def main() -> None:
    what = told()
    began = time.monotonic()
    lanes = asyncio.run(feed(what))
    if what.log is not None:
        write(lanes, what.log)
    behind_ms = max(lane.longest_behind_us for lane in lanes) / 1000
    sent = sum(lane.sent for lane in lanes)
    print(json.dumps({"sent": sent, "seconds": time.monotonic() - began, "behind_ms": behind_ms}), flush=True)


if __name__ == "__main__":
    main()

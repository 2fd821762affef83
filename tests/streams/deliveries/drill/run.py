"""The drill: many deliveries to receivers that fail, by a worker that is killed, and then the reckoning.

    python -m tests.streams.deliveries.drill --seed 1 --count 10000 --kills 10

The notifications are sent at a steady rate. When as many are delivered as the seed has drawn, the worker is
killed, in the midst of its work, and the next one started. Exit status 0 when everything was delivered,
hardly anything twice, and the log agrees with the receivers.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from aiokafka import AIOKafkaProducer

from infra import topics
from infra.kafka import LocalKafka
from infra.ports import free_port
from streams.deliveries.notification import Notification
from streams.endpoints.secrets import open_vault
from tests.streams.deliveries.drill.receiver import Receiver
from tests.streams.deliveries.drill.reconciling import Report, reconcile
from tests.streams.deliveries.drill.topics import attempts, new_secret, notification, send, set_up
from tests.streams.deliveries.drill.worker import Worker

_PARTITIONS: Final = 4
_ENDPOINTS: Final = 20
_CONCURRENCY: Final = 4
_TIMEOUT_S: Final = 2.0
_WAITS_S: Final = (0.2, 0.3, 0.5, *(0.7,) * 15)
"""After nineteen attempts of which three in ten fail, one in eight thousand million has not got through."""
_RATE: Final = 60
"""Notifications a second."""
_STALLED_S: Final = 60.0
_REACH_S: Final = _TIMEOUT_S + 5


class StalledError(Exception):
    """Nothing moves any more."""


class Drill:
    """One run, on a Kafka that is there."""

    def __init__(self, bootstrap: str, data: Path, seed: int, count: int, kills: int) -> None:
        self._bootstrap = bootstrap
        self._data = data
        self._random = random.Random(seed)
        self._count = count
        self._kills = kills
        self._receivers = [
            Receiver(f"endpoint-{number:02d}", new_secret(), seed) for number in range(_ENDPOINTS)
        ]
        self._worker = Worker(bootstrap, _PARTITIONS, data, _WAITS_S)
        self._wanted: dict[str, Notification] = {}
        self._began = time.monotonic()

    async def run(self) -> Report:
        """Raises StalledError."""
        vault = open_vault(None, self._data, create=True)
        endpoints = [(each.endpoint_id, await each.start(), each.secret) for each in self._receivers]
        await set_up(self._bootstrap, vault, endpoints, _TIMEOUT_S)
        try:
            self._worker.start()
            publishing = asyncio.create_task(self._publish())
            for number, aim in enumerate(self._aims()):
                await self._wait(f"{aim} delivered", lambda aim=aim: self._delivered() >= aim)  # type: ignore[misc]
                await self._worker.kill()
                self._say(f"kill {number + 1} of {self._kills}")
                self._worker.start()
            await publishing
            await self._wait("everything delivered", lambda: self._delivered() == self._count)
            log = await self._whole_log()
            if status := self._worker.stop():
                raise StalledError(f"the worker ended with status {status}:\n{self._worker.tail()}")
        finally:
            self._worker.stop()
            for receiver in self._receivers:
                await receiver.stop()
        return reconcile(
            {id_: (each.endpoint_id, each.body.encode()) for id_, each in self._wanted.items()},
            [request for receiver in self._receivers for request in receiver.requests],
            log,
            self._worker.kills,
            reach_s=_REACH_S,
            most_under_way=_ENDPOINTS * _CONCURRENCY,
        )

    async def _publish(self) -> None:
        every = _RATE // 10
        drawn = random.Random(self._random.random())
        async with AIOKafkaProducer(bootstrap_servers=self._bootstrap, acks="all") as producer:
            for begin in range(0, self._count, every):
                numbers = range(begin, min(begin + every, self._count))
                made = [notification(n, drawn.choice(self._receivers).endpoint_id) for n in numbers]
                self._wanted |= {each.notification_id: each for each in made}
                await send(producer, made, drawn)
                await asyncio.sleep(0.1)

    def _aims(self) -> list[int]:
        """At how many delivered the worker is killed."""
        first, last = round(self._count * 0.02), round(self._count * 0.95)
        return sorted(self._random.randint(first, last) for _ in range(self._kills))

    def _delivered(self) -> int:
        return sum(len(receiver.taken) for receiver in self._receivers)

    async def _whole_log(self) -> list[dict[str, object]]:
        """The log once it says of everything that it was delivered, or nothing more comes."""
        while True:
            log = await attempts(self._bootstrap, _PARTITIONS)
            told = {each["notification_id"] for each in log if each["next_attempt_at"] is None}
            if len(told) == self._count:
                return log
            requests = sum(len(each.requests) for each in self._receivers)
            await asyncio.sleep(1)
            if requests == sum(len(each.requests) for each in self._receivers):
                await asyncio.sleep(_TIMEOUT_S)
                return await attempts(self._bootstrap, _PARTITIONS)

    async def _wait(self, what: str, done: Callable[[], bool]) -> None:
        before, moved = self._delivered(), time.monotonic()
        told = moved
        while not done():
            await asyncio.sleep(0.02)
            if (ended := self._worker.ended) is not None:
                raise StalledError(f"the worker has ended:\n{ended}")
            now, delivered = time.monotonic(), self._delivered()
            if delivered != before:
                before, moved = delivered, now
            elif now - moved > _STALLED_S:
                raise StalledError(
                    f"nothing delivered for {_STALLED_S:.0f} s, waiting for: {what}\n{self._worker.tail()}"
                )
            if now - told >= 5:
                told = now
                self._say("")

    def _say(self, what: str) -> None:
        seconds = time.monotonic() - self._began
        counted = f"{self._delivered()} of {len(self._wanted)} delivered"
        print(f"{seconds:6.1f} s  {counted}{'  ' + what if what else ''}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--bootstrap", help="a Kafka without topics, instead of one of the drill's own")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="chatgauge-drill-") as folder:
        data = Path(folder)
        if given.bootstrap:
            return _run(given.bootstrap, data, given)
        with LocalKafka(data / "kafka", port=free_port()) as kafka:
            return _run(kafka.bootstrap, data, given)


def _run(bootstrap: str, data: Path, given: argparse.Namespace) -> int:
    async def run() -> Report:
        await topics.create(bootstrap, partitions=_PARTITIONS)
        return await Drill(bootstrap, data, given.seed, given.count, given.kills).run()

    try:
        report = asyncio.run(run())
    except StalledError as error:
        print(f"STALLED: {error}", flush=True)
        return 1
    print("\n".join(report.lines()), flush=True)
    return 0 if report.fine else 1

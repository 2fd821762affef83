"""Topics of a real Kafka, from a test's side. Everything blocks."""

import asyncio
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from tests.end_to_end.log import Log

WITHIN_S = 120.0


@dataclass(frozen=True)
class Broker(Log):
    """What tests do to Kafka beside reading it."""

    def send(self, topic: str, values: Mapping[int, Sequence[bytes]], key: bytes = b"key") -> None:
        """Values by partition, in their order."""
        asyncio.run(self._send(topic, values, key))

    def rewind(self, group: str, topic: str) -> None:
        """Make a group without members forget how far it came."""
        asyncio.run(self._rewind(group, topic))

    def members(self, group: str) -> int:
        """How many are in a group."""
        return asyncio.run(self._members(group))

    def wait_until_acknowledged(self, group: str, topic: str) -> None:
        wait_until(f"{group} has acknowledged {topic}", lambda: self.left(group, topic) == 0)

    async def _send(self, topic: str, values: Mapping[int, Sequence[bytes]], key: bytes) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap) as producer:
            sent = [
                await producer.send(topic, value, key=key, partition=partition)
                for partition, of_partition in values.items()
                for value in of_partition
            ]
            await asyncio.gather(*sent)

    async def _members(self, group: str) -> int:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            (described,) = await admin.describe_consumer_groups([group])
        finally:
            await admin.close()
        return sum(len(each[5]) for each in described.groups)

    async def _rewind(self, group: str, topic: str) -> None:
        async with AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, group_id=group, enable_auto_commit=False
        ) as consumer:
            places = [TopicPartition(topic, partition) for partition in await self._ends(topic)]
            consumer.assign(places)
            await consumer.commit(dict.fromkeys(places, 0))


def wait_until(what: str, condition: Callable[[], bool], within_s: float = WITHIN_S) -> None:
    """Return when it holds; fail, saying what was waited for."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {within_s:.0f} s in vain: {what}"
        time.sleep(0.1)


@contextmanager
def process(command: Sequence[str], env: Mapping[str, str], log: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that writes to `log`; ended by SIGTERM."""
    with (
        log.open("a", encoding="utf-8") as output,
        subprocess.Popen(command, env=dict(env), stdout=output, stderr=subprocess.STDOUT, text=True) as one,
    ):
        try:
            yield one
        finally:
            one.terminate()
            try:
                one.wait(timeout=30)
            except subprocess.TimeoutExpired:
                one.kill()

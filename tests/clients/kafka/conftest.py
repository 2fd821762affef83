"""A broker that can be stopped as by SIGSTOP: connections stay open, and nothing is answered."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import psutil
import pytest

from infra import topics
from infra.kafka import LocalKafka
from infra.ports import free_port
from schemas.topics import Topic

PATIENCE_S: Final = 30.0
"""For what should take a second or two, on any machine."""


async def until(condition: Callable[[], object]) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends, "not in time"
        await asyncio.sleep(0.01)


def requests_under_way() -> list["asyncio.Task[Any]"]:
    """The tasks of aiokafka that wait for the answer to what they have produced."""
    return [each for each in asyncio.all_tasks() if "_send_produce_req" in str(each.get_coro())]


class Broker:
    """A Kafka of a module's own."""

    def __init__(self, local: LocalKafka) -> None:
        self._local = local
        self.bootstrap = local.bootstrap

    async def topic(self, name: str, partitions: int = 2) -> str:
        """Create a topic; its name."""
        await topics.create(self.bootstrap, partitions=partitions, topics=[Topic(name, "RequestEvent")])
        return name

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Nothing is answered, and nothing that is sent is read."""
        assert self._local._child is not None
        assert self._local._child.pid is not None
        leash = psutil.Process(self._local._child.pid)
        processes = [each for each in [leash, *leash.children(recursive=True)] if "java" in each.name()]
        assert processes
        for each in processes:
            each.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for each in processes:
                each.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    local = LocalKafka(tmp_path_factory.mktemp("stoppable-kafka"), port=free_port())
    local.start()
    try:
        yield Broker(local)
    finally:
        local.stop()

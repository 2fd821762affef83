"""A worker that is stopped in the midst of a step, loses its partition, and goes on, as real processes.

It stops itself just before it writes, and is continued when another worker has done what there was to do.
Then it writes what has long been overtaken. That must be of no consequence, now and after a restart.
"""

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

import pytest

from infra.liveness import Part
from schemas import topics
from schemas.topics import Topic
from streams.endpoints.secrets import open_vault
from streams.runtime.entries import Entry
from streams.runtime.publisher import PatientPublisher
from streams.runtime.topic_log import TopicLog
from tests.faults.part import BEFORE_WRITE
from tests.streams.broker import Broker, process, wait_until
from tests.streams.counting.test_agent_on_kafka import counted, now, requests
from tests.streams.deliveries.drill.receiver import Receiver
from tests.streams.deliveries.drill.topics import attempts, new_secret, notification, publish, set_up

pytestmark = pytest.mark.timeout(300)

CHECKOUT = Path(__file__).parents[3]
PART = CHECKOUT / "tests" / "faults" / "part.py"


@pytest.fixture(scope="module")
def broker(fresh_kafka: str, create_topics: Callable[..., None]) -> Broker:
    create_topics(fresh_kafka, partitions=1)
    return Broker(fresh_kafka)


class Workers:
    """Processes of one kind, each of which stops itself where it is told to."""

    def __init__(self, kind: str, directory: Path, environment: Mapping[str, str]) -> None:
        self._kind = kind
        self._directory = directory
        self._environment = environment

    @contextmanager
    def running(self, name: str) -> "Iterator[Popen[str]]":
        (self._directory / name).mkdir(exist_ok=True)
        command = [sys.executable, str(PART), str(self._directory / name)]
        command += ["worker", self._kind, "--metrics-port", "0"]
        with process(command, self._environment, self._directory / f"{name}.log") as one:
            yield one

    def stop_before_its_next_write(self, name: str) -> None:
        (self._directory / name / BEFORE_WRITE).touch()

    def has_stopped(self, name: str) -> bool:
        return (self._directory / name / f"{BEFORE_WRITE}.reached").exists()


@pytest.fixture
def workers(broker: Broker, tmp_path: Path) -> Callable[..., Workers]:
    def of(kind: str, **settings: str) -> Workers:
        environment = {
            "CHATGAUGE_KAFKA_BOOTSTRAP": broker.bootstrap,
            "CHATGAUGE_KAFKA_PARTITIONS": "1",
            "CHATGAUGE_DATA": str(tmp_path),
            "PYTHONPATH": str(CHECKOUT),
        }
        return Workers(kind, tmp_path, {**os.environ, **environment, **settings})

    return of


async def changelog(broker: Broker, topic: Topic) -> Sequence[Entry]:
    """All that lies in the one partition."""
    ends = await asyncio.to_thread(broker.ends, topic.name)
    publisher = PatientPublisher(broker.bootstrap, Part("test").unit("test"))

    async def end(partition: int) -> int:
        return ends[partition]

    async def put_claim(*_: object) -> None:
        raise NotImplementedError

    log = TopicLog(broker.bootstrap, topic, publisher, end=end, put_claim=put_claim)
    return await log.read(0, 0, await log.end(0))


def zombies(entries: Sequence[Entry]) -> list[Entry]:
    """What was written by a worker after a later one had begun to write."""
    found, latest = [], 0
    for entry in entries:
        assert entry.rank is not None, "every record says who wrote it"
        if entry.rank.epoch < latest:
            found.append(entry)
        latest = max(latest, entry.rank.epoch)
    return found


def are_replaced(entries: Sequence[Entry]) -> bool:
    """Whether there were any, and each has been written over by a later worker."""
    last = {entry.key: entry.offset for entry in entries}
    found = zombies(entries)
    return bool(found) and not any(last[entry.key] == entry.offset for entry in found)


async def until(what: str, condition: Callable[[], bool], within_s: float = 90) -> None:
    """As `wait_until`, while this loop's receivers answer."""
    deadline = time.monotonic() + within_s
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, f"waited {within_s:.0f} s in vain: {what}"
        await asyncio.sleep(0.1)


async def test_a_delivery_that_was_made_is_not_begun_again_by_a_worker_that_wakes(
    broker: Broker, workers: Callable[..., Workers], tmp_path: Path
) -> None:
    receiver = Receiver("hook", new_secret(), 1, failing=0)
    vault = open_vault(None, tmp_path, create=True)
    await set_up(broker.bootstrap, vault, [("hook", await receiver.start(), receiver.secret)], 5.0)
    outbox = workers(
        "deliveries",
        CHATGAUGE_DELIVERY_ALLOW=json.dumps(["127.0.0.1"]),
        CHATGAUGE_DELIVERY_SCHEDULE=json.dumps(["PT0.2S"]),
    )
    drawn = random.Random(1)

    async def told(number: int) -> None:
        await publish(broker.bootstrap, [notification(number, "hook")], drawn)

    def is_told(number: int) -> bool:
        return f"nt_{number:08d}" in receiver.taken

    def is_forgotten() -> bool:
        """No delivery is open: of the key of each, the last record is its deletion."""
        last = {entry.key: entry for entry in asyncio.run(changelog(broker, topics.OUTBOX))}
        return any(entry.value is None for entry in last.values())

    def deletions_hold() -> bool:
        return are_replaced(asyncio.run(changelog(broker, topics.OUTBOX)))

    try:
        with outbox.running("first") as first:
            await told(1)
            await until("the first worker delivers", lambda: is_told(1))
            await until("and makes room for more", is_forgotten)
            outbox.stop_before_its_next_write("first")
            await told(2)
            await until("it has stopped", lambda: outbox.has_stopped("first"))
            with outbox.running("second"):
                await until("the second delivers in its place", lambda: is_told(2))
                await told(3)
                await until("and goes on", lambda: is_told(3))
                first.send_signal(signal.SIGCONT)
                await until("what the first writes then is replaced", deletions_hold)
        with outbox.running("third"):
            await told(4)
            await until("all goes on", lambda: is_told(4))
    finally:
        await receiver.stop()

    ids = [request.webhook_id for request in receiver.requests]
    assert sorted(ids) == [f"nt_{number:08d}" for number in (1, 2, 3, 4)], "each came once"
    log = {
        (each["notification_id"], each["redriven"], each["attempt"], each["outcome"])
        for each in await attempts(broker.bootstrap, 1)
    }  # what was logged may be logged again after a rebalance, and is the same
    assert log == {(id_, 0, 1, "delivered") for id_ in ids}, "nothing was begun again"


def test_a_count_that_was_overtaken_is_not_what_is_left_of_a_window(
    broker: Broker, workers: Callable[..., Workers]
) -> None:
    rollup = workers("rollup")
    at = now()
    minute = at - at % 60_000_000

    def send(count: int) -> None:
        broker.send(topics.REQUESTS.name, {0: requests("overtaken", [at] * count)})

    def counts(count: int) -> Callable[[], bool]:
        return lambda: counted(broker, "overtaken") == {minute: count}

    def right_counts_are_last() -> bool:
        return are_replaced(asyncio.run(changelog(broker, topics.WINDOWS)))

    with rollup.running("first") as first:
        send(10)
        wait_until("the first worker counts", counts(10))
        rollup.stop_before_its_next_write("first")
        send(20)
        wait_until("it has stopped", lambda: rollup.has_stopped("first"))
        with rollup.running("second"):
            wait_until("the second counts in its place", counts(30))
            send(40)
            wait_until("and goes on", counts(70))
            first.send_signal(signal.SIGCONT)
            wait_until("what the first writes then is replaced", right_counts_are_last)
    with rollup.running("third"):
        send(1)
        wait_until("nothing was lost, nothing was counted twice", counts(71))

    of_key = [
        entry
        for entry in asyncio.run(changelog(broker, topics.WINDOWS))
        if entry.key == f"0|live|1m|{minute}|service|0".encode()
    ]
    ranks = [entry.rank for entry in of_key]
    assert ranks[-1] == max(rank for rank in ranks if rank is not None), "the last block is the rightful one"

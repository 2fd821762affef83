"""The rollup worker as a process, on a real broker: what is counted is durable, and counted once.

The tests share a Kafka, on which all names are the product's own; each has a service of its own.
"""

import os
import signal
import sys
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from infra.ports import free_port
from schemas.codec import Codec
from schemas.contract import schema
from tests.end_to_end.published import newest_blocks, records_of, rows_of
from tests.end_to_end.recomputation import MINUTE, SECOND, micros
from tests.streams.broker import WITHIN_S, Broker, process, wait_until

pytestmark = pytest.mark.timeout(300)

GROUP, TOPIC = "chatgauge-rollup", "chat.requests"
PARTITIONS = 3
FAILED = 70
"""A worker's exit status when it could not go on."""
COMMAND = Path(sys.executable).with_name("chatgauge")
CODEC = Codec(schema("RequestEvent"))
FAILING_STEPS = """
import sys
from streams.windows.partition import PartitionWindows
def count(*_):
    raise ValueError("it can't be counted")
from streams.counting.agent import Counting
warm_up = Counting.warm_up
def then_fail(counting):
    warm_up(counting)
    PartitionWindows.count = count
Counting.warm_up = then_fail
from cli.main import main
main()
"""
"""A worker, none of whose steps succeeds."""

Worker = Callable[..., Any]


@pytest.fixture(scope="module")
def broker(fresh_kafka: str, create_topics: Callable[..., None]) -> Broker:
    create_topics(fresh_kafka, partitions=PARTITIONS)
    return Broker(fresh_kafka)


@pytest.fixture
def worker(broker: Broker, tmp_path: Path) -> Worker:
    """`with worker(**settings):` runs a rollup worker meanwhile."""

    @contextmanager
    def running(**settings: str) -> Iterator[Any]:
        env = {**os.environ, "CHATGAUGE_KAFKA_BOOTSTRAP": broker.bootstrap, **settings}
        command = [str(COMMAND), "worker", "rollup", "--metrics-port", "0"]
        with process(command, env, tmp_path / "worker.log") as one:
            yield one

    return running


def now() -> int:
    return time.time_ns() // 1_000


def requests(service: str, times: Sequence[int], **fields: Any) -> list[bytes]:
    """Finished requests of a service, at these times."""
    return [
        CODEC.encode(
            {
                "event_id": str(uuid.uuid4()),
                "request_id": f"{service}-{number}",
                "phase": "finished",
                "occurred_at": at,
                "service": service,
                "provider": "openai",
                "model": "gpt-4o-mini",
                "total_us": 1_000 + number,
                **fields,
            }
        )
        for number, at in enumerate(times)
    ]


def send(broker: Broker, values: Mapping[int, Sequence[bytes]]) -> None:
    """Send, and wait until the workers have acknowledged everything."""
    broker.send(TOPIC, values)
    broker.wait_until_acknowledged(GROUP, TOPIC)


def blocks_of(broker: Broker, service: str, pane: str = "1m") -> list[dict[str, Any]]:
    """The newest blocks by service that have a row of this one; `requests` says how many it counts."""
    found = []
    for block in newest_blocks(broker, "chat.windows"):
        if (block["grouping"], block["pane"]) == ("service", pane):
            counted = [row["requests"] for row in rows_of(block["rows"]) if row["service"] == service]
            found += [{**block, "requests": requests} for requests in counted]
    return found


def counted(broker: Broker, service: str, pane: str = "1m") -> dict[int, int]:
    """Requests by pane, all partitions added up."""
    counts: Counter[int] = Counter()
    for block in blocks_of(broker, service, pane):
        counts[micros(block["pane_start"])] += block["requests"]
    return dict(counts)


def test_what_is_acknowledged_is_in_the_changelog(broker: Broker, worker: Worker) -> None:
    at = now()
    with worker():
        send(broker, {0: requests("changelog", [at] * 1_000), 1: requests("changelog", [at] * 500)})

        assert counted(broker, "changelog") == {at - at % MINUTE: 1_500}
        assert counted(broker, "changelog", "1s") == {at - at % SECOND: 1_500}

    for record, block in records_of(broker, "chat.windows", "window_block"):
        assert block is not None
        assert record.partition == block["partition"], "a source partition's state is restored with it"
    ends = broker.ends(TOPIC)
    for block in blocks_of(broker, "changelog"):
        assert block["offset"] == ends[block["partition"]] - 1


def test_an_event_that_is_sent_again_counts_once_also_across_a_restart(
    broker: Broker, worker: Worker
) -> None:
    at = now()
    some = requests("sent-twice", [at] * 300)
    with worker() as first:
        send(broker, {0: some})
        send(broker, {0: some[:100]})
        first.send_signal(signal.SIGKILL)
        first.wait()
    with worker():
        send(broker, {0: some + requests("sent-twice", [at])})

        assert counted(broker, "sent-twice") == {at - at % MINUTE: 301}


def test_what_a_late_writer_puts_over_the_blocks_is_replaced(broker: Broker, worker: Worker) -> None:
    at = now()
    with worker():
        send(broker, {0: requests("overwritten", [at] * 10)})
        stale = entries_of(broker, at)[-1]
        send(broker, {0: requests("overwritten", [at] * 20)})
        broker.send("chat.windows", {0: [stale.value]}, key=stale.key)

        send(broker, {0: requests("unrelated", [at - 30 * MINUTE])})

        assert [entry.value for entry in entries_of(broker, at)][-2] == stale.value
        assert entries_of(broker, at)[-1].value != stale.value

    broker.send("chat.windows", {0: [stale.value]}, key=stale.key)
    with worker():
        send(broker, {0: requests("unrelated", [at - 30 * MINUTE])})

        assert entries_of(broker, at)[-1].value != stale.value
        assert counted(broker, "overwritten") == {at - at % MINUTE: 30}


def entries_of(broker: Broker, at: int) -> list[Any]:
    """What was written of the first partition's block of services in the minute of `at`."""
    key = f"0|live|1m|{at - at % MINUTE}|service|0".encode()
    return [record for record, _ in records_of(broker, "chat.windows", "window_block") if record.key == key]


def test_the_changelog_restores_the_windows_after_a_kill(broker: Broker, worker: Worker) -> None:
    at = now()
    with worker() as first:
        send(broker, {0: requests("restored", [at] * 300), 1: requests("restored", [at] * 200)})
        first.send_signal(signal.SIGKILL)
        first.wait()
    with worker():
        send(broker, {0: requests("restored", [at] * 30)})

        assert counted(broker, "restored") == {at - at % MINUTE: 530}
        total = {block["partition"]: block for block in blocks_of(broker, "restored")}
        latencies = [row for row in rows_of(total[0]["rows"]) if row["service"] == "restored"]
        assert latencies[0]["total_us_sum"] == sum(range(1_000, 1_300)) + sum(range(1_000, 1_030))


def test_fetches_that_come_again_are_counted_once(broker: Broker, worker: Worker) -> None:
    at = now()
    with worker():
        send(broker, {0: requests("again", [at] * 400), 1: requests("again", [at] * 100)})
    before = {service: counted(broker, service) for service in ("again", "restored", "changelog")}

    broker.rewind(GROUP, TOPIC)
    assert broker.left(GROUP, TOPIC) > 0
    with worker():
        broker.wait_until_acknowledged(GROUP, TOPIC)

    assert before["again"] == {at - at % MINUTE: 500}
    assert {service: counted(broker, service) for service in before} == before


def test_imported_requests_count_where_they_occurred_and_move_no_watermark(
    broker: Broker, worker: Worker
) -> None:
    at = int(datetime(2020, 5, 4, 12, tzinfo=UTC).timestamp()) * SECOND
    with worker():
        send(broker, {0: requests("imported", [at, at + MINUTE, at], imported=True)})
        send(broker, {0: requests("imported", [at], imported=True)})

    assert counted(broker, "imported") == {at: 3, at + MINUTE: 1}
    assert counted(broker, "imported", "1s") == {}
    for block in blocks_of(broker, "imported"):
        assert (block["imported"], block["closed"]) == (True, False)
        assert micros(block["watermark"]) > at + MINUTE, "it is that of the live requests"
    announced = [
        row
        for _, share in records_of(broker, "chat.closed", "closed_pane")
        if share is not None and share["grouping"] == "service"
        for row in rows_of(share["rows"])
    ]
    assert "imported" not in {row["service"] for row in announced}


def test_two_workers_share_the_partitions_and_either_can_go(broker: Broker, worker: Worker) -> None:
    at = now()
    with worker() as first:
        send(broker, {0: requests("shared", [at] * 10), 1: requests("shared", [at] * 10)})
        with worker():
            for _ in range(20):
                broker.send(TOPIC, {0: requests("shared", [at] * 50), 1: requests("shared", [at] * 50)})
            first.terminate()
            first.wait()
            send(broker, {0: requests("shared", [at]), 1: requests("shared", [at])})

    assert counted(broker, "shared") == {at - at % MINUTE: 20 + 2_000 + 2}


def test_a_step_that_fails_ends_the_worker_and_is_repeated_by_the_next(
    broker: Broker, worker: Worker, tmp_path: Path
) -> None:
    at = now()
    before = broker.acknowledged(GROUP, TOPIC)
    broker.send(TOPIC, {0: requests("repeated", [at] * 7)})

    command = [sys.executable, "-c", FAILING_STEPS, "worker", "rollup", "--metrics-port", "0"]
    env = {**os.environ, "CHATGAUGE_KAFKA_BOOTSTRAP": broker.bootstrap}
    with process(command, env, tmp_path / "failing.log") as failing:
        assert failing.wait(timeout=WITHIN_S) == FAILED
    last = (tmp_path / "failing.log").read_text().splitlines()[-1]
    assert "a step of rollup failed: ValueError: it can't be counted" in last
    assert broker.acknowledged(GROUP, TOPIC) == before
    assert counted(broker, "repeated") == {}

    with worker():
        broker.wait_until_acknowledged(GROUP, TOPIC)
    assert counted(broker, "repeated") == {at - at % MINUTE: 7}


def test_a_worker_waits_for_a_schema_registry_that_is_away_and_loses_nothing(
    broker: Broker, worker: Worker, tmp_path: Path
) -> None:
    at = now()
    before = broker.acknowledged(GROUP, TOPIC)
    # The id of a schema that only the registry knows.
    unknown = b"\0" + (4711).to_bytes(4, "big") + b"body"
    nobody = f"http://127.0.0.1:{free_port()}"
    broker.send(TOPIC, {0: [unknown, *requests("awaiting", [at] * 7)]})

    with worker(CHATGAUGE_SCHEMA_REGISTRY_URL=nobody) as waiting:
        wait_until("it has asked twice", lambda: "attempt 3" in (tmp_path / "worker.log").read_text())
        assert waiting.poll() is None
    assert broker.acknowledged(GROUP, TOPIC) == before

    with worker():
        broker.wait_until_acknowledged(GROUP, TOPIC)
    assert counted(broker, "awaiting") == {at - at % MINUTE: 7}


def test_a_pane_past_its_time_leaves_the_state_by_a_tombstone(broker: Broker, worker: Worker) -> None:
    """In a partition of its own, whose watermark an event moves: clocks may differ by five minutes."""
    at = now()
    minute = at - at % MINUTE + MINUTE
    with worker(CHATGAUGE_WINDOWS_KEEP_MINUTES="PT1M"):
        send(broker, {2: requests("expiring", [minute] * 5)})
        send(broker, {2: requests("moving-on", [minute + 3 * MINUTE])})
        send(broker, {2: requests("expiring", [minute])})

    of_key = [
        record.value is None
        for record in broker.records("chat.windows")
        if record.key == f"2|live|1m|{minute}|service|0".encode()
    ]
    assert of_key[-1], "the newest is a tombstone"
    assert not all(of_key)
    assert counted(broker, "expiring") == {minute: 5}, "what came too late counts nowhere"


def test_a_closed_pane_is_announced_once_by_each_partition(broker: Broker, worker: Worker) -> None:
    """The pane lies ahead of the clock, so that no clock closes it but the next events do."""
    at = now() + 3 * MINUTE
    minute = at - at % MINUTE
    next_at = minute + MINUTE + 15 * SECOND
    with worker():
        send(broker, {0: requests("closing", [at] * 3), 1: requests("closing", [at] * 4)})
        assert not any(block["closed"] for block in blocks_of(broker, "closing"))
        send(broker, {0: requests("next", [next_at]), 1: requests("next", [next_at])})
        assert all(block["closed"] for block in blocks_of(broker, "closing"))

    shares = [
        (record, share, row)
        for record, share in records_of(broker, "chat.closed", "closed_pane")
        if share is not None and (share["pane"], share["grouping"]) == ("1m", "service")
        for row in rows_of(share["rows"])
        if row["service"] == "closing"
    ]
    assert sorted((share["partition"], row["requests"]) for _, share, row in shares) == [(0, 3), (1, 4)]
    assert len({record.partition for record, _, _ in shares}) == 1, "the shares of a group meet"
    for _, share, _ in shares:
        assert (share["table"], share["partitions"]) == ("chat.windows", PARTITIONS)
        assert (micros(share["pane_start"]), micros(share["pane_end"])) == (minute, minute + MINUTE)
        assert micros(share["watermark"]) == next_at - 10 * SECOND


def test_every_partition_tells_every_partition_of_its_watermark(broker: Broker, worker: Worker) -> None:
    """Idle ones too: theirs follow the clock."""
    before = broker.ends("chat.closed")
    at = now()
    with worker():
        wait_until(
            "every watermark has passed this moment everywhere",
            lambda: len([way for way, told in heartbeats(broker).items() if told[-1] > at]) == PARTITIONS**2,
        )

    for told in heartbeats(broker, since=before).values():
        assert told == sorted(told), "a worker's watermarks only ever rise"


def heartbeats(
    broker: Broker, since: Mapping[int, int] = MappingProxyType({})
) -> dict[tuple[int, int], list[int]]:
    """The watermarks that each partition has told each partition of chat.closed, from offsets on."""
    told: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for record, share in records_of(broker, "chat.closed", "closed_pane"):
        if share is not None and share["pane"] is None and record.offset >= since.get(record.partition, 0):
            told[share["partition"], record.partition].append(micros(share["watermark"]))
    return told

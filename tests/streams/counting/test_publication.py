"""What is published of a partition: not what is not yet whole, and what closes before it is written so."""

from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from clients.kafka.publisher import Message
from schemas.codec import Codec
from schemas.contract import schema
from schemas.time import HOUR, MINUTE, SECOND
from streams.alerts.closed_share import read_share
from streams.catalogue.groupings import SERVICE, TOTAL
from streams.counting.publication import Publication
from streams.runtime.errors import MovedError
from streams.windows.block import Block, BlockKey, read_rows, write_block
from streams.windows.panes import Pane
from streams.windows.partition import PartitionWindows
from streams.windows.plan import Plan
from streams.windows.step import Step
from tests.streams.memory_worker import MemoryWorker, Published, Written
from tests.streams.windows.requests import NOON, frame, request, utc
from tests.streams.windows.test_partition import EVERY_MINUTE

CODEC = Codec(schema("ClosedPane"))
MINUTES = Pane("1m", HOUR, MINUTE, corrected_for=100 * MINUTE)
PLAN = Plan(((TOTAL, MINUTES), (SERVICE, MINUTES)), lateness=10 * SECOND)


def messages(worker: MemoryWorker) -> list[Message]:
    """What was published since it was asked last."""
    found = [message for each in worker.log if isinstance(each, Published) for message in each.messages]
    worker.log.clear()
    return found


def block(start: int, closed: bool) -> Block:
    key = BlockKey(2, False, "1m", NOON + start * MINUTE, "total", 0)
    return Block(key, key.pane_start + MINUTE, 0, 1, NOON, 0, closed, b"rows")


async def test_no_watermark_is_told_before_all_is_counted_again_that_was() -> None:
    """Whoever judges would take a pane for told that has yet to close."""
    worker = MemoryWorker()
    of_it = Publication("blocks", worker)
    before = PartitionWindows(0, EVERY_MINUTE, lambda key: None)
    blocks = {block.key: block for block in before.count(frame([request(0), request(1)]), 1, NOON).blocks}
    windows = PartitionWindows(0, EVERY_MINUTE, blocks.get)
    windows.restore(blocks.values(), NOON)
    windows.resume(committed=1)

    await of_it.announce(windows, windows.wait(NOON), NOON, beat=True)
    assert worker.log == []
    again = windows.count(frame([request(1)]), 1, NOON + MINUTE)
    await of_it.announce(windows, again, NOON + MINUTE, beat=True)
    told = [read_share(message.value or b"", 0) for message in messages(worker)]
    assert [share.watermark for share in told] == [windows.watermark]


async def test_a_watermark_is_told_to_every_partition_once_a_second_and_only_if_it_may_be() -> None:
    worker = MemoryWorker(source_partitions=3)
    of_it = Publication("blocks", worker)
    windows = PartitionWindows(2, PLAN, lambda key: None)
    step = windows.count(frame([request(0), request(7)]), 7, NOON)

    await of_it.announce(windows, Step(), NOON, beat=False)
    assert worker.log == []
    await of_it.announce(windows, step, NOON, beat=True)
    beats = messages(worker)
    assert [(each.topic, each.key, each.partition) for each in beats] == [
        ("chat.closed", b"|2", partition) for partition in range(3)
    ]
    for each in beats:
        record = CODEC.decode(each.value or b"")
        assert {name: value for name, value in record.items() if value is not None} == {
            "table": "blocks",
            "partition": 2,
            "partitions": 3,
            "watermark": utc(NOON - 10 * SECOND),
            "offset": 7,
            **{name: record[name] for name in ("since", "revision")},
        }
    await of_it.announce(windows, Step(), NOON + SECOND - 1, beat=True)
    assert worker.log == []
    await of_it.announce(windows, Step(), NOON + SECOND, beat=True)
    assert len(messages(worker)) == 3


async def test_each_partition_has_a_second_of_its_own() -> None:
    worker = MemoryWorker(source_partitions=1)
    of_it = Publication("blocks", worker)
    for partition in (0, 1):
        windows = PartitionWindows(partition, PLAN, lambda key: None)
        windows.count(frame([request(0)]), 0, NOON)
        await of_it.announce(windows, Step(), NOON, beat=True)
        assert [each.key for each in messages(worker)] == [f"|{partition}".encode()]


@pytest.mark.parametrize("beat", [False, True])
async def test_what_closes_is_told_at_any_time_with_the_watermark_behind_it(beat: bool) -> None:
    worker = MemoryWorker(source_partitions=2)
    of_it = Publication("blocks", worker)
    windows = PartitionWindows(0, PLAN, lambda key: None)
    windows.count(frame([request(3), request(4)]), 4, NOON)
    await of_it.announce(windows, Step(), NOON, beat=True)
    messages(worker)

    step = windows.count(frame([request(5, NOON + MINUTE + 10 * SECOND)]), 5, NOON)
    await of_it.announce(windows, step, NOON + 1, beat=beat)

    found = messages(worker)
    assert [each.key for each in found] == [b"total|0", b"service|0", b"|0", b"|0"]
    assert [each.partition for each in found[2:]] == [0, 1]
    for each in found[:2]:
        share = read_share(each.value or b"", 0)
        assert (share.table, share.partition, share.partitions) == ("blocks", 0, 2)
        assert (share.watermark, share.offset, share.since, share.revision) == (NOON + MINUTE, 5, 3, 0)
        assert (share.pane, share.pane_start, share.pane_end) == ("1m", NOON, NOON + MINUTE)
        assert isinstance(share.rows, bytes)
        assert read_rows(share.rows, str(share.grouping))["requests"].to_pylist() == [2]
    await of_it.announce(windows, Step(), NOON + SECOND, beat=True)
    assert worker.log == [], "the watermark was told less than a second ago"


async def test_a_correction_is_told_and_does_not_count_as_a_pane_that_closes() -> None:
    def closed() -> float:
        labels = {"table": "corrected-blocks", "grouping": "total"}
        return REGISTRY.get_sample_value("chatgauge_stream_closed_panes_total", labels) or 0.0

    worker = MemoryWorker()
    of_it = Publication("corrected-blocks", worker)
    windows = PartitionWindows(0, Plan(((TOTAL, MINUTES),), lateness=0), lambda key: None)
    windows.count(frame([request(0)]), 0, NOON)
    step = windows.count(frame([request(1, NOON + MINUTE)]), 1, NOON)
    await of_it.announce(windows, step, NOON, beat=False)
    assert closed() == 1
    messages(worker)
    step = windows.count(frame([request(2, NOON + 1)]), 2, NOON)
    await of_it.announce(windows, step, NOON, beat=False)
    assert closed() == 1
    correction, beat = (read_share(each.value or b"", 0) for each in messages(worker))
    assert (correction.pane_start, correction.revision, correction.offset) == (NOON, 1, 2)
    assert (beat.pane, beat.watermark) == (None, NOON + MINUTE)


def test_a_block_is_loaded_as_it_was_written() -> None:
    worker = MemoryWorker()
    of_it = Publication("blocks", worker)
    given = block(0, closed=True)
    assert of_it.load(given.key) is None
    worker.entries[2] = {given.key.encode(): write_block(given)}
    assert of_it.load(given.key) == given
    assert of_it.load(given.key._replace(partition=1)) is None


OPEN, ALSO_OPEN, CLOSES, ALSO_CLOSES = block(2, False), block(3, False), block(0, True), block(1, True)


@pytest.mark.parametrize(
    ("blocks", "written", "first", "then"),
    [
        ([OPEN, ALSO_OPEN], [], [OPEN, ALSO_OPEN], []),
        ([OPEN, CLOSES], [CLOSES], [OPEN], [CLOSES]),
        ([CLOSES, OPEN, ALSO_CLOSES], [CLOSES, ALSO_CLOSES], [OPEN], [CLOSES, ALSO_CLOSES]),
        ([OPEN, CLOSES], [], [], [OPEN, CLOSES]),
        ([OPEN, CLOSES], [OPEN], [], [OPEN, CLOSES]),
        ([CLOSES, OPEN, ALSO_CLOSES], [CLOSES], [], [CLOSES, OPEN, ALSO_CLOSES]),
        ([], [], [], []),
    ],
)
def test_what_closes_is_written_after_it_is_announced_and_if_it_is_new_all_is(
    blocks: list[Block], written: list[Block], first: list[Block], then: list[Block]
) -> None:
    worker = MemoryWorker()
    worker.entries[2] = {each.key.encode(): b"as it was" for each in written}
    assert Publication("blocks", worker).parted(2, Step(blocks=blocks)) == (first, then)


def written(worker: MemoryWorker) -> list[Any]:
    return [(each.partition, each.entries) for each in worker.log if isinstance(each, Written)]


async def test_blocks_are_written_and_expired_ones_deleted_in_one_go() -> None:
    worker = MemoryWorker()
    of_it = Publication("blocks", worker)
    expired = BlockKey(2, False, "1m", 0, "total", 0)
    await of_it.write(2, [OPEN], [expired])
    assert written(worker) == [(2, {OPEN.key.encode(): write_block(OPEN), b"2|live|1m|0|total|0": None})]


async def test_blocks_alone_are_written_expired_ones_alone_deleted_and_nothing_is_not_written() -> None:
    worker = MemoryWorker()
    of_it = Publication("blocks", worker)
    await of_it.write(2, [])
    assert worker.log == []
    await of_it.write(2, [OPEN])
    await of_it.write(2, [], [OPEN.key])
    assert written(worker) == [(2, {OPEN.key.encode(): write_block(OPEN)}), (2, {OPEN.key.encode(): None})]


async def test_an_expired_block_is_deleted_though_it_was_to_be_written() -> None:
    worker = MemoryWorker()
    await Publication("blocks", worker).write(2, [OPEN], [OPEN.key])
    assert written(worker) == [(2, {OPEN.key.encode(): None})]


async def test_blocks_and_their_bytes_are_counted_and_not_those_deleted() -> None:
    def sample(name: str) -> float:
        return REGISTRY.get_sample_value(f"chatgauge_stream_{name}", {"table": "counted-blocks"}) or 0.0

    of_it = Publication("counted-blocks", MemoryWorker())
    await of_it.write(2, [OPEN, CLOSES], [BlockKey(2, False, "1m", 0, "total", 0)])
    assert sample("blocks_total") == 2
    assert sample("block_bytes_total") == len(write_block(OPEN)) + len(write_block(CLOSES))


async def test_what_belongs_to_another_is_not_written() -> None:
    worker = MemoryWorker()
    worker.moved = {2}
    with pytest.raises(MovedError):
        await Publication("blocks", worker).write(2, [replace(OPEN, offset=9)])
    assert worker.log == []

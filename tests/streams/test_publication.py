"""What is published of a partition: not what is not yet whole."""

from collections.abc import Sequence
from typing import Any, cast

from clients.kafka.publisher import Message
from schemas.time import MINUTE
from streams.alerts.closed_share import read_share
from streams.publication import Publication
from streams.runtime.ledger import Worker
from streams.windows.partition import PartitionWindows
from tests.streams.windows.requests import NOON, frame, request
from tests.streams.windows.test_partition import EVERY_MINUTE


class Publishing:
    """A worker that keeps what is published."""

    source_partitions = 1

    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def publish(self, messages: Sequence[Message]) -> None:
        self.sent += [read_share(message.value or b"", 0) for message in messages]


async def test_no_watermark_is_told_before_all_is_counted_again_that_was() -> None:
    """Whoever judges would take a pane for told that has yet to close."""
    worker = Publishing()
    of_it = Publication("blocks", cast("Worker", worker))
    before = PartitionWindows(0, EVERY_MINUTE, lambda key: None)
    blocks = {block.key: block for block in before.count(frame([request(0), request(1)]), 1, NOON).blocks}
    windows = PartitionWindows(0, EVERY_MINUTE, blocks.get)
    windows.restore(blocks.values(), NOON)
    windows.resume(committed=1)

    await of_it.announce(windows, windows.wait(NOON), NOON, beat=True)
    assert worker.sent == []
    again = windows.count(frame([request(1)]), 1, NOON + MINUTE)
    await of_it.announce(windows, again, NOON + MINUTE, beat=True)
    assert [share.watermark for share in worker.sent] == [windows.watermark]

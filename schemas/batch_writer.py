"""Record batches of our own making: to warm a reader up, to measure it, and to test it."""

from collections.abc import Sequence
from typing import Final

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from schemas.record_batch import RecordBatch, split

_NO_LIMIT: Final = 2**31 - 1


def batch_of(
    values: Sequence[bytes | None], *, offset: int = 0, timestamp: int = 0, key: bytes | None = None
) -> RecordBatch:
    """A batch, not compressed, of records that follow one another from `offset`; `timestamp` in ms."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, _NO_LIMIT)
    for delta, value in enumerate(values):
        builder.append(delta, timestamp, key, value, [])
    wire = bytearray(builder.build())
    wire[:8] = offset.to_bytes(8, "big", signed=True)  # the base offset is not under the checksum
    [batch] = split(bytes(wire))
    return batch

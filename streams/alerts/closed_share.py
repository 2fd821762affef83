"""A record of `chat.closed`: a source partition's share of a pane that has closed, or a heartbeat."""

from dataclasses import dataclass
from typing import Final, NamedTuple

import pyarrow as pa

from schemas.codec import Codec
from schemas.contract import schema
from schemas.time import Micros, micros_of

_CODEC: Final = Codec(schema("ClosedPane"))


@dataclass(frozen=True)
class ClosedShare:
    """A record of `chat.closed`: a share of a pane, or a heartbeat (`rows` is None)."""

    at: int
    """Its offset in this partition of `chat.closed`."""
    table: str
    partition: int
    """The source partition."""
    partitions: int
    """How many source partitions there are."""
    watermark: Micros
    offset: int
    """Of the source partition: everything up to it is counted."""
    pane: str | None = None
    pane_start: Micros = 0
    pane_end: Micros = 0
    grouping: str | None = None
    rows: bytes | pa.Table | None = None
    """Packed, as in a WindowBlock, or unpacked."""
    since: int = -1
    """The first offset of the source partition that is counted in it; -1: not stated."""
    revision: int = 0


class Source(NamedTuple):
    """A range of offsets of a source partition, both included."""

    partition: int
    first: int
    last: int


def read_share(value: bytes, at: int) -> ClosedShare:
    """A record of `chat.closed`, from its value and its offset.

    Raises `schemas.errors.SchemaError` for values that are no ClosedPane.
    """
    record = _CODEC.decode(value)
    where = (at, record["table"], record["partition"], record["partitions"], micros_of(record["watermark"]))
    if record["pane"] is None or record["rows"] is None:
        return ClosedShare(*where, record["offset"])
    return ClosedShare(
        *where,
        record["offset"],
        record["pane"],
        micros_of(record["pane_start"]),
        micros_of(record["pane_end"]),
        record["grouping"],
        record["rows"],
        record["since"],
        record["revision"],
    )

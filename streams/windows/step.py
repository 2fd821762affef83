"""What a step of a partition's windows leaves to do: blocks to write, panes to announce, keys to delete."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa

from schemas.time import Micros
from streams.catalogue.groupings import Grouping
from streams.windows.block import Block, BlockKey
from streams.windows.state import BlockState


@dataclass(frozen=True)
class ClosedRows:
    """All rows of one grouping in a pane that has just closed in this partition; or the blocks of them that
    late events have corrected since."""

    grouping: Grouping
    pane: str
    pane_start: Micros
    pane_end: Micros
    since: int
    """The first offset that is counted in them."""
    revision: int
    """How often they were corrected: 0 for those of a pane that has just closed."""
    rows: pa.Table


@dataclass
class Step:
    """What a batch, or the passing of time, has changed."""

    blocks: list[Block] = field(default_factory=list)
    """To be written, whole."""
    complete: bool = True
    """With these blocks, everything that was counted is written: it may be acknowledged."""
    expired: list[BlockKey] = field(default_factory=list)
    """To be deleted from the state, after the blocks are written: history keeps them."""
    closed: list[ClosedRows] = field(default_factory=list)
    """To be announced, before their blocks are written."""
    corrected: list[ClosedRows] = field(default_factory=list)
    """To be announced, when there is time."""
    counted: int = 0
    """Events that were counted."""
    repeats: int = 0
    """Events that were not, because they had come before."""
    too_late: int = 0
    """Live events that came after their minute had expired: in no window."""


def closed_rows(closing: Iterable[BlockState]) -> list[ClosedRows]:
    """The blocks' rows, the buckets of one grouping and pane put together."""
    together: dict[tuple[Grouping, str, Micros], list[BlockState]] = {}
    for state in closing:
        together.setdefault((state.grouping, state.key.pane, state.key.pane_start), []).append(state)
    return [
        ClosedRows(
            *which,
            states[0].pane_end,
            min(state.since for state in states),
            max(state.revision for state in states),
            pa.Table.from_batches([state.rows() for state in states]),
        )
        for which, states in together.items()
    ]

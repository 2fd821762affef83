"""Where a running product says otherwise than what must have come of everything on the topics.

`recount` says what must have come, `compare_published` looks at chat.windows and chat.usage,
`compare_history` at ClickHouse, and `tally` counts what is lost or doubled there.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from tests.end_to_end.log import Log, Record
from tests.end_to_end.published import figures_of, key_of, records_of
from tests.end_to_end.recomputation import (
    HOUR,
    KEPT,
    LENGTH,
    MINUTE,
    SECOND,
    Figures,
    Group,
    differences,
)
from tests.faults.expectation import Expected, labelled, recount
from tests.faults.history import Tally, compare_history, not_rebuilt, rebuilt, tally

__all__ = [
    "Expected",
    "Tally",
    "compare_blocks",
    "compare_history",
    "compare_published",
    "not_rebuilt",
    "rebuilt",
    "recount",
    "tally",
]

Published = tuple[Record, dict[str, Any] | None]
"""A record of chat.windows or chat.usage and its block; None for a tombstone."""

_CLOCKS = 5 * MINUTE
_IMPORTED_KEPT = HOUR


def compare_published(expected: Expected, bootstrap: str) -> list[str]:
    """Where chat.windows and chat.usage differ: minutes and days, every figure and sketch.

    The newest block of each identity counts. Of a block that has been expired, compaction may have left
    nothing, so its figures aren't compared, but it must have been its time. The last record of each key
    is what compaction leaves: it must be the newest.
    """
    log = Log(bootstrap)
    return compare_blocks(
        expected,
        {topic: records_of(log, topic, "window_block") for topic in ("chat.windows", "chat.usage")},
    )


def compare_blocks(expected: Expected, topics: Mapping[str, Iterable[Published]]) -> list[str]:
    """The same, of the topics' records in the order of each partition."""
    said: list[str] = []
    found: dict[Group, Figures] = {}
    expired: set[tuple[str, int, str]] = set()
    for topic, records in topics.items():
        newest: dict[tuple[bytes, int], dict[str, Any]] = {}
        last: dict[bytes, Published] = {}
        for record, block in records:
            key = record.key or b""
            if block is None:
                said += _expired_too_early(topic, record, last.get(key))
                _, _, pane, start, grouping, _ = key.decode().split("|")
                expired.add((pane, int(start), grouping))
            else:
                if key != key_of(block):
                    said.append(f"{topic}: the block of {key_of(block)!r} has the key {key!r}")
                identity = (key, block["since"])
                if identity not in newest or _age(newest[identity]) <= _age(block):
                    newest[identity] = block
            last[key] = (record, block)
        for (key, _), block in newest.items():
            _, lying = last[key]
            if lying is not None and _age(lying) < _age(block):
                said.append(f"{topic}: the last block of {key!r} is at {_age(lying)}, not {_age(block)}")
        for group, figures in figures_of(one for one in newest.values() if one["pane"] != "1s").items():
            assert group not in found, "a grouping is on one of the topics"
            found[group] = figures
    for table in (found, wanted := dict(expected.streamed)):
        for group in [one for one in table if (one.pane, one.start, one.grouping) in expired]:
            del table[group]
    return said + labelled("published", differences(wanted, found))


def _age(block: Mapping[str, Any]) -> tuple[int, int]:
    return block["offset"], block["revision"]


def _expired_too_early(topic: str, tombstone: Record, before: Published | None) -> list[str]:
    """A tombstone that came before its block's time; those of seconds have none."""
    key = (tombstone.key or b"").decode()
    _, origin, pane, start, _, _ = key.split("|")
    if pane == "1s":
        return []
    if origin == "live":
        due = int(start) + LENGTH[pane] + KEPT[pane] - _CLOCKS
    else:
        due = before[0].timestamp_ms * 1_000 + _IMPORTED_KEPT - SECOND if before else 0
    early = due - tombstone.timestamp_ms * 1_000
    return [f"{topic}: {key} was expired {early / SECOND:.0f} s too early"] if early > 0 else []

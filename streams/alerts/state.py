"""What a rule has made of a partition's panes, as it is written: one entry per partition and rule.

An entry stands for itself: how far the rule has judged, its open alerts, and the outbox of the step that
wrote it, which is sent again by whoever takes it up.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import polars as pl
import zstandard

from schemas.time import Micros
from streams.alerts.errors import AlertError
from streams.alerts.lifecycle import Group, OpenAlert, Record
from streams.alerts.references import References

_VERSION: Final = b"\x01"
_LENGTH: Final = 8


class StateError(AlertError):
    """An entry of the state can't be read: another version wrote it, or something else did."""


@dataclass
class Outbox:
    """Records to be sent."""

    alerts: list[Record] = field(default_factory=list)
    decisions: list[Record] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.alerts or self.decisions)


@dataclass
class Seen:
    """A group that had data."""

    last: Micros
    """The end of the latest pane in which it had some."""
    requests: int
    """How many requests the window up to there counted."""


@dataclass
class RuleState:
    """One rule in one partition."""

    rule_id: str
    revision: int
    shape: tuple[str, str, str]
    """Kind, grouping and pane: with another one the rule begins anew."""
    judged: Micros | None = None
    """All panes ending up to here are judged; None before the first."""
    offset: int = -1
    """Everything up to this offset of the source is in it."""
    whole_from: Micros = 0
    """All panes ending after this can be read again, from ..."""
    remembers_from: int = -1
    """... this offset on."""
    open: dict[Group, OpenAlert] = field(default_factory=dict)
    closed: list[Record] = field(default_factory=list)
    """Resolved alerts' last transitions, as long as late events may correct them."""
    seen: dict[Group, Seen] = field(default_factory=dict)
    """Groups that had data, least recently seen first; only where a rule asks what became of them."""
    ended: bool = False
    """The rule is gone, and so is this, once its outbox is sent."""
    forgotten: int = 0
    """Groups that were let go because there were too many; counts from when the state was taken up."""
    figures: dict[str, Any] = field(default_factory=dict)
    """What a kind of rule keeps besides, as JSON ..."""
    frames: dict[str, pl.DataFrame] = field(default_factory=dict)
    """... and in columns."""
    outbox: Outbox = field(default_factory=Outbox)
    references: References = field(default_factory=References, compare=False)
    """What history has answered. It is not written: it is asked for again."""

    def pack(self) -> bytes:
        """As an entry."""
        return pack(
            {
                "rule_id": self.rule_id,
                "revision": self.revision,
                "shape": self.shape,
                "judged": self.judged,
                "offset": self.offset,
                "whole_from": self.whole_from,
                "remembers_from": self.remembers_from,
                "open": [
                    (a.group, a.alert_id, a.state, a.transition, a.started_at, a.violations, a.record)
                    for a in self.open.values()
                ],
                "closed": self.closed,
                "seen": [(group, seen.last, seen.requests) for group, seen in self.seen.items()],
                "ended": self.ended,
                "figures": self.figures,
                "alerts": self.outbox.alerts,
                "decisions": self.outbox.decisions,
            },
            self.frames,
        )


def unpack_rule(entry: bytes) -> RuleState:
    """The inverse of `RuleState.pack`. Raises StateError."""
    fields, frames = unpack(entry)
    try:
        kind, grouping, pane = fields["shape"]
        return RuleState(
            fields["rule_id"],
            fields["revision"],
            (kind, grouping, pane),
            fields["judged"],
            fields["offset"],
            fields["whole_from"],
            fields["remembers_from"],
            {tuple(group): OpenAlert(tuple(group), *rest) for group, *rest in fields["open"]},
            fields["closed"],
            {tuple(group): Seen(*rest) for group, *rest in fields["seen"]},
            fields["ended"],
            0,
            fields["figures"],
            frames,
            Outbox(fields["alerts"], fields["decisions"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"an entry of the alert state lacks something: {error!r}") from error


def pack(fields: Mapping[str, Any], frames: Mapping[str, pl.DataFrame]) -> bytes:
    """JSON and columns (Arrow IPC) in one zstd frame, after a byte that says the version."""
    parts = [orjson.dumps({"fields": fields, "frames": list(frames)})]
    for frame in frames.values():
        stream = io.BytesIO()
        frame.write_ipc_stream(stream)
        parts.append(stream.getvalue())
    joined = b"".join(len(part).to_bytes(_LENGTH, "little") + part for part in parts)
    return _VERSION + zstandard.ZstdCompressor(level=1).compress(joined)


def unpack(entry: bytes) -> tuple[dict[str, Any], dict[str, pl.DataFrame]]:
    """The inverse of `pack`. Raises StateError."""
    if entry[:1] != _VERSION:
        raise StateError(
            f"an entry of the alert state has version {entry[:1].hex() or 'none'}, this program reads "
            f"{_VERSION.hex()}: run the program that wrote it, or a later one"
        )
    try:
        joined = zstandard.ZstdDecompressor().decompress(entry[1:])
        parts = []
        at = 0
        while at < len(joined):
            size = int.from_bytes(joined[at : at + _LENGTH], "little")
            at += _LENGTH + size
            parts.append(joined[at - size : at])
        head = orjson.loads(parts[0])
        frames = {
            name: pl.read_ipc_stream(io.BytesIO(part))
            for name, part in zip(head["frames"], parts[1:], strict=True)
        }
        fields: dict[str, Any] = head["fields"]
    except (zstandard.ZstdError, ValueError, KeyError, IndexError, pl.exceptions.PolarsError) as error:
        raise StateError(f"an entry of the alert state can't be read: {error}") from error
    return fields, frames

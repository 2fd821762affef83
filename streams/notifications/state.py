"""The notifier's state: what it keeps in memory, and how that becomes entries that a crash can't mix up.

The state is kept in parts, each an entry: alerts, groups, and the alerts that are over, each in buckets by
hash; and a head, with the offset that it is of and the records that are still to be sent. Entries aren't
written at once, so a part holds two states: that of its latest commit and the one before. A commit writes
the parts that have changed, and then the head, which names it. Who finds parts of a commit that the head
doesn't name takes what they held before: a commit is there as a whole, or not at all.
"""

import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import zstandard

from schemas.time import DAY, Micros
from streams.notifications.errors import StateError
from streams.notifications.grouping import Group, GroupId
from streams.notifications.transition import FIRING, Transition

HEAD: Final = b"head"
_BUCKETS: Final = 64
_EMPTY: Final = b"[]"
_FRAME: Final = struct.Struct("<QI")
"""The commit, and how long the part's state of that commit is; behind it is the one before."""

_ZSTD: Final = zstandard.ZstdCompressor(level=3)
"""For one thread: the one that commits."""

REMEMBERED_FOR: Final[Micros] = 7 * DAY
"""How long it is known of an alert that it is over: so long its transitions may come again."""
_MOST_REMEMBERED: Final = 4_000
"""In one bucket; beyond that the oldest are forgotten."""


@dataclass
class OpenAlert:
    """An alert that fires, or that somebody is still to be told of."""

    heard: dict[int, Transition]
    """Its newest transition, those that somebody is still to be told of, and those that whoever waits for its
    end was told of."""
    newest: int
    places: dict[str, str] = field(default_factory=dict)
    """The key of the group that it is in, by endpoint."""
    key: str | None = None
    """The key of the groups that it comes into, once it was asked for."""

    @property
    def now(self) -> Transition:
        """How it is."""
        return self.heard[self.newest]

    @property
    def firing(self) -> bool:
        """Whether it still fires."""
        return self.now.state == FIRING


class Memory:
    """The state in memory. Whoever changes something says so, by `touch_…`."""

    def __init__(self) -> None:
        self.alerts: dict[str, OpenAlert] = {}
        self.groups: dict[GroupId, Group] = {}
        self.forgotten_early = 0
        """Alerts that are over and were forgotten before their time, because there were too many."""
        self._over: list[dict[str, list[int]]] = [{} for _ in range(_BUCKETS)]
        self._alerts_in: list[set[str]] = [set() for _ in range(_BUCKETS)]
        self._groups_in: list[set[GroupId]] = [set() for _ in range(_BUCKETS)]
        self._part_of: dict[GroupId, bytes] = {}
        self._changed: set[bytes] = set()

    def touch_alert(self, alert_id: str) -> None:
        """An alert has come, changed or gone."""
        bucket = _bucket(alert_id)
        if alert_id in self.alerts:
            self._alerts_in[bucket].add(alert_id)
        else:
            self._alerts_in[bucket].discard(alert_id)
        self._changed.add(b"alerts|%02d" % bucket)

    def touch_group(self, id_: GroupId) -> None:
        """A group has come, changed or gone."""
        part = self._part_of.get(id_)
        if part is None:
            if id_ not in self.groups:
                return
            bucket = _bucket("\0".join(id_))
            part = self._part_of[id_] = b"groups|%02d" % bucket
            self._groups_in[bucket].add(id_)
        elif id_ not in self.groups:
            self._groups_in[_bucket("\0".join(id_))].discard(id_)
            del self._part_of[id_]
        self._changed.add(part)

    def over(self, alert_id: str) -> int:
        """The last transition of an alert that is over; 0 for one that isn't, or isn't known any more."""
        return self._over[_bucket(alert_id)].get(alert_id, [0])[0]

    def remember_over(self, alert_id: str, transition: int, now: Micros) -> None:
        """An alert is over."""
        bucket = _bucket(alert_id)
        entries = self._over[bucket]
        entries.pop(alert_id, None)
        entries[alert_id] = [transition, now]
        while True:
            oldest = next(iter(entries))
            in_time = now - entries[oldest][1] <= REMEMBERED_FOR
            if in_time and len(entries) <= _MOST_REMEMBERED:
                break
            self.forgotten_early += in_time
            del entries[oldest]
        self._changed.add(b"over|%02d" % bucket)

    @property
    def changed(self) -> bool:
        """Whether something has changed since `changes` was last asked."""
        return bool(self._changed)

    def changes(self) -> dict[bytes, bytes]:
        """The parts that have changed since this was last asked."""
        changed, self._changed = self._changed, set()
        return {part: self._pack(part) for part in sorted(changed)}

    def _pack(self, part: bytes) -> bytes:
        kind, _, number = part.partition(b"|")
        bucket = int(number)
        rows: list[Any]
        if kind == b"alerts":
            rows = [
                [[heard.row() for heard in self.alerts[id_].heard.values()], self.alerts[id_].newest]
                for id_ in sorted(self._alerts_in[bucket])
            ]
        elif kind == b"groups":
            rows = [self.groups[id_].row() for id_ in sorted(self._groups_in[bucket])]
        else:
            rows = [[id_, *entry] for id_, entry in self._over[bucket].items()]
        return orjson.dumps(rows)

    def load(self, parts: Mapping[bytes, bytes]) -> None:
        """Take up parts as `changes` gave them. Raises StateError for others."""
        try:
            for part, packed in parts.items():
                self._load(part, orjson.loads(packed))
        except (ValueError, TypeError, IndexError) as error:
            raise StateError(f"a part of the notifier's state can't be read: {error!r}") from error
        for id_, group in self.groups.items():
            for alert_id in group.members:
                self.alerts[alert_id].places[id_[0]] = id_[1]
        self._changed = set()

    def _load(self, part: bytes, rows: list[Any]) -> None:
        kind, _, number = part.partition(b"|")
        if kind == b"over":
            self._over[int(number)] = {id_: [transition, at] for id_, transition, at in rows}
        for row in rows if kind == b"alerts" else ():
            transitions = [Transition.from_row(each) for each in row[0]]
            alert_id = transitions[0].alert_id
            self.alerts[alert_id] = OpenAlert({each.transition: each for each in transitions}, row[1])
            self.touch_alert(alert_id)
        for row in rows if kind == b"groups" else ():
            group = Group.from_row(row)
            self.groups[group.id] = group
            self.touch_group(group.id)


def _bucket(id_: str) -> int:
    return zlib.crc32(id_.encode()) % _BUCKETS


@dataclass(frozen=True)
class Outbox:
    """Records that are to be sent. Bodies that several notifications share are kept once."""

    notifications: tuple[dict[str, Any], ...] = ()
    decisions: tuple[dict[str, Any], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.notifications or self.decisions)

    def pack(self) -> dict[str, Any]:
        """As JSON."""
        bodies: dict[str, int] = {}
        for notification in self.notifications:
            bodies.setdefault(notification["body"], len(bodies))
        shortened = [{**each, "body": bodies[each["body"]]} for each in self.notifications]
        return {"bodies": list(bodies), "notifications": shortened, "decisions": self.decisions}

    @classmethod
    def unpack(cls, packed: Mapping[str, Any]) -> "Outbox":
        """The inverse of `pack`."""
        bodies = packed["bodies"]
        return cls(
            tuple({**each, "body": bodies[each["body"]]} for each in packed["notifications"]),
            tuple(packed["decisions"]),
        )


@dataclass(frozen=True)
class Commit:
    """Entries to be written: all of `parts`, and when they are durable, `head`."""

    parts: dict[bytes, bytes]
    head: dict[bytes, bytes]


class Commits:
    """What is durable of the parts, by their commits."""

    def __init__(self) -> None:
        self._number = 0
        self._held: dict[bytes, bytes] = {}
        """Each part's state as of the last commit, compressed."""
        self._mixed: set[bytes] = set()
        """Parts on record of a commit that never was; the next commit replaces them."""

    @classmethod
    def restore(cls, entries: Mapping[bytes, bytes]) -> tuple["Commits", dict[bytes, bytes], int, Outbox]:
        """From the entries on record: the parts' states, the offset that they are of, and what was still
        to be sent. The offset is -1 where there is nothing. Raises StateError."""
        commits = cls()
        offset, outbox = -1, Outbox()
        try:
            if HEAD in entries:
                head = orjson.loads(zstandard.decompress(entries[HEAD]))
                commits._number, offset = head["commit"], head["offset"]
                outbox = Outbox.unpack(head["outbox"])
            for part, entry in entries.items():
                if part == HEAD:
                    continue
                number, size = _FRAME.unpack_from(entry)
                states = entry[_FRAME.size :]
                is_there = number <= commits._number
                commits._held[part] = states[:size] if is_there else states[size:]
                if not is_there:
                    commits._mixed.add(part)
            parts = {part: zstandard.decompress(state) for part, state in commits._held.items()}
        except (ValueError, KeyError, TypeError, struct.error, zstandard.ZstdError) as error:
            raise StateError(f"an entry of the notifier's state can't be read: {error!r}") from error
        return commits, parts, offset, outbox

    def commit(self, changes: Mapping[bytes, bytes], offset: int, outbox: Outbox) -> Commit:
        """The entries that make these changes, all at once."""
        self._number += 1
        written: dict[bytes, bytes] = {}
        for part in self._all(changes):
            before = self._held.get(part) or _compressed(_EMPTY)
            now = _compressed(changes[part]) if part in changes else before
            self._held[part] = now
            written[part] = _FRAME.pack(self._number, len(now)) + now + before
        self._mixed = set()
        head = {"commit": self._number, "offset": offset, "outbox": outbox.pack()}
        return Commit(written, {HEAD: _compressed(orjson.dumps(head))})

    def _all(self, changes: Iterable[bytes]) -> list[bytes]:
        return sorted(self._mixed.union(changes))


def _compressed(state: bytes) -> bytes:
    return _ZSTD.compress(state)

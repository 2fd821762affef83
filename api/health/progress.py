"""Whether each part gets on with its work, pure: what was observed, and when, in; verdicts out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.time import SECOND, Micros
from schemas.topics import (
    ALERTS,
    CLOSED,
    DEAD_LETTERS,
    DECISIONS,
    DELIVERIES,
    NOTIFICATIONS,
    REQUESTS,
    SAMPLES,
    SPANS,
    USAGE,
    WINDOWS,
)

PATIENCE: Final[Micros] = 30 * SECOND
"""How long a part may stand still with work waiting."""


@dataclass(frozen=True)
class Follower:
    """A consumer group, the topic that it works off, and the part of Chatgauge that it belongs to."""

    part: str
    group: str
    topic: str


LIVE_STATE: Final = tuple(Follower("api", "live-state", topic.name) for topic in (WINDOWS, USAGE))
"""The API's own reading. It has no consumer group; its positions count as commits."""

_SUNK: Final = (
    REQUESTS,
    SPANS,
    SAMPLES,
    WINDOWS,
    USAGE,
    ALERTS,
    DECISIONS,
    NOTIFICATIONS,
    DELIVERIES,
    DEAD_LETTERS,
)

FOLLOWERS: Final = (
    Follower("rollup", "chatgauge-rollup", REQUESTS.name),
    Follower("usage", "chatgauge-usage", REQUESTS.name),
    Follower("alerts", "chatgauge-alerts", CLOSED.name),
    Follower("alerts", "chatgauge-samples", SAMPLES.name),
    Follower("deliveries", "chatgauge-notifier", ALERTS.name),
    Follower("deliveries", "chatgauge-deliveries", NOTIFICATIONS.name),
    *(Follower("sink", f"chatgauge-sink-{topic.name}", topic.name) for topic in _SUNK),
)


@dataclass(frozen=True)
class Offsets:
    """A partition as a group sees it, which reads up to `end`. `committed` is its position: behind the ends
    of transactions and whatever else is no record. It is None when the group has never committed there."""

    committed: int | None
    begin: int
    end: int
    note: str = ""
    """Why the group has halted the partition, as it says beside its commit; empty when it has not."""
    held_back: int = 0
    """Offsets from `end` on that nobody can read yet: a transaction that has begun there is still open."""

    @property
    def lag(self) -> int:
        """Records that wait. Without a commit, all that are there."""
        return max(0, self.end - max(self.committed or 0, self.begin))


@dataclass(frozen=True)
class Sighting:
    """A group at one moment: its members, and its topic's partitions."""

    members: int
    partitions: Mapping[int, Offsets]


@dataclass(frozen=True)
class Verdict:
    """How a follower does, in words when it does badly."""

    follower: Follower
    ok: bool
    lag: int
    detail: str
    stuck: tuple[int, ...] = ()
    """Partitions that do not advance."""


class Progress:
    """What was last seen of each follower, and how long each partition has stood still with work waiting."""

    def __init__(self, followers: Iterable[Follower] = FOLLOWERS + LIVE_STATE) -> None:
        self.followers = tuple(followers)
        self._seen: dict[Follower, Sighting] = {}
        self._waiting_since: dict[tuple[Follower, int], tuple[int | None, Micros]] = {}

    def observe(self, follower: Follower, sighting: Sighting, now: Micros) -> None:
        """Take what was seen at `now`."""
        self._seen[follower] = sighting
        for partition, offsets in sighting.partitions.items():
            place = (follower, partition)
            waited = self._waiting_since.get(place)
            if not offsets.lag:
                self._waiting_since.pop(place, None)
            elif waited is None or waited[0] != offsets.committed:
                self._waiting_since[place] = (offsets.committed, now)

    def sightings(self) -> dict[Follower, Sighting]:
        """The latest of each follower."""
        return dict(self._seen)

    def judge(self, now: Micros) -> list[Verdict]:
        """A verdict on each follower."""
        return [self._judge(follower, now) for follower in self.followers]

    def _judge(self, follower: Follower, now: Micros) -> Verdict:
        seen = self._seen.get(follower)
        if seen is None or not seen.partitions:
            return Verdict(follower, False, 0, f"awaiting the topic {follower.topic}")
        lag = sum(offsets.lag for offsets in seen.partitions.values())
        if not any(offsets.end for offsets in seen.partitions.values()):
            return Verdict(follower, True, 0, "; ".join(["no events yet", *_held_back(follower, seen)]))
        if not seen.members:
            return Verdict(
                follower, False, lag, f"{follower.part} is not running: {follower.group} has no member"
            )
        halted = tuple(sorted(p for p, offsets in seen.partitions.items() if offsets.note))
        if halted:
            note = seen.partitions[halted[0]].note
            detail = f"{follower.part} on {follower.topic}, {_partitions(halted)}: {note}"
            return Verdict(follower, False, lag, detail, halted)
        stuck = tuple(sorted(p for p in seen.partitions if self._stands(follower, p, now)))
        if stuck:
            where = ", ".join(f"{p} ({seen.partitions[p].lag:,} waiting)" for p in stuck)
            stands = f"{follower.part} has not advanced for {PATIENCE // SECOND} s"
            detail = f"{stands} in {follower.topic}, partition {where}"
            return Verdict(follower, False, lag, detail, stuck)
        doing = f"{lag:,} waiting" if lag else "up to date"
        return Verdict(follower, True, lag, "; ".join([doing, *_held_back(follower, seen)]))

    def _stands(self, follower: Follower, partition: int, now: Micros) -> bool:
        waited = self._waiting_since.get((follower, partition))
        return waited is not None and now - waited[1] >= PATIENCE


def _held_back(follower: Follower, seen: Sighting) -> list[str]:
    """The partitions that are read as far as they can be, and go on behind that."""
    return [
        f"an open transaction holds back {offsets.held_back:,} records from offset {offsets.end} "
        f"in {follower.topic}, partition {partition}"
        for partition, offsets in sorted(seen.partitions.items())
        if offsets.held_back and not offsets.lag
    ]


def _partitions(numbers: Sequence[int]) -> str:
    return f"partition{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"

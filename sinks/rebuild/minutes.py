"""What is known of a minute before it is rebuilt, whether it may be, and in which order. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from itertools import pairwise
from typing import Final

from schemas.time import MINUTE, Micros

SETTLED_AFTER: Final[Micros] = 10 * MINUTE
"""How long ago a minute must have ended. The streams tell repeats for 6 minutes after an event, and what
arrives 5 minutes after it or later marks its minute: rebuilt sooner, a minute would be rebuilt twice."""
_MOST_RECORDS: Final = 200_000
"""Read at once: some 40 MB of columns."""
_MOST_MINUTES: Final = 240
"""Rebuilt at once."""


class Verdict(StrEnum):
    """Whether the raw history of a minute is whole."""

    WHOLE = "whole"
    EXPIRED = "expired"
    """Raw events of it have been deleted by retention, or by hand."""
    MISSING = "missing"
    """The windows have counted events that never reached the raw history, or not yet."""


@dataclass(frozen=True)
class Evidence:
    """What ClickHouse has of a minute."""

    minute: Micros
    generation: int = 0
    """Of the rebuilt rows that count now; 0: the minute was not rebuilt."""
    stored_at: Micros = 0
    """When the last record of the minute was stored."""
    arrived: Mapping[int, int] = field(default_factory=dict)
    """By source partition, how many records were stored, repeats included."""
    counted: Mapping[int, int] = field(default_factory=dict)
    """By source partition, how many the streamed windows have."""
    days: frozenset[date] = frozenset()
    """The days on which the records arrived …"""
    days_there: frozenset[date] = frozenset()
    """… and those of which raw events are still there."""

    @property
    def records(self) -> int:
        """How many records were stored."""
        return sum(self.arrived.values())


def judge(evidence: Evidence, oldest: date) -> Verdict:
    """Whether the minute can be rebuilt; events of days before `oldest` may be gone.

    Raw events are deleted by day of arrival, so a day is there as a whole or counts as gone.
    """
    if not evidence.days <= evidence.days_there or any(day < oldest for day in evidence.days):
        return Verdict.EXPIRED
    if any(evidence.arrived.get(partition, 0) < count for partition, count in evidence.counted.items()):
        return Verdict.MISSING
    return Verdict.WHOLE


@dataclass(frozen=True)
class Batch:
    """Minutes that are rebuilt together, and the spans of time (end excluded) to read for it one by one."""

    minutes: tuple[Evidence, ...]
    spans: tuple[tuple[Micros, Micros], ...]


def batches(minutes: Sequence[Evidence]) -> Iterator[Batch]:
    """The minutes, ascending, cut so that no span holds many more than `_MOST_RECORDS` records."""
    gathered: list[Evidence] = []
    size = 0
    for one in minutes:
        if gathered and (size + one.records > _MOST_RECORDS or len(gathered) == _MOST_MINUTES):
            yield Batch(tuple(gathered), _spans(gathered))
            gathered, size = [], 0
        gathered.append(one)
        size += one.records
    if gathered:
        yield Batch(tuple(gathered), _spans(gathered))


def _spans(minutes: Sequence[Evidence]) -> tuple[tuple[Micros, Micros], ...]:
    parts = -(-minutes[0].records // _MOST_RECORDS)
    if parts > 1:  # a busy minute, which is alone
        bounds = [minutes[0].minute + MINUTE * part // parts for part in range(parts + 1)]
        return tuple(pairwise(bounds))
    runs: list[tuple[Micros, Micros]] = []
    for one in minutes:
        start = runs.pop()[0] if runs and runs[-1][1] == one.minute else one.minute
        runs.append((start, one.minute + MINUTE))
    return tuple(runs)


@dataclass
class Outcome:
    """What has become of the minutes."""

    rebuilt: int = 0
    not_whole: dict[Verdict, list[Micros]] = field(default_factory=dict)
    """By reason, those that stay as they are."""

    @property
    def done(self) -> int:
        """How many were dealt with."""
        return self.rebuilt + sum(map(len, self.not_whole.values()))

    def refuse(self, refused: Iterable[tuple[Micros, Verdict]]) -> None:
        """Notes those that stay as they are."""
        for minute, verdict in refused:
            self.not_whole.setdefault(verdict, []).append(minute)

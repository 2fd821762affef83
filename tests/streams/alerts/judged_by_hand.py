"""What a log of closed panes comes to, worked out the plain way: one record, one pane, one group at a time.

Nothing here is shared with the judge but the records that it reads.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from streams.alerts.closed_share import ClosedShare

MINUTE = 60_000_000

Transition = tuple[str, tuple[str, ...], str, int, int, str]
"""Rule, group, state, number, when, id of the alert."""


def id_of(rule: str, group: tuple[str, ...], start: int) -> str:
    digest = hashlib.sha256("\0".join([rule, *group, str(start)]).encode()).hexdigest()
    return f"al_{digest[:20]}"


@dataclass
class Threshold:
    """`value(total of the window)` over `threshold`, `consecutive` times."""

    name: str
    grouping: str
    minutes: int
    threshold: float
    figure: str = "requests"
    ratio: bool = False
    consecutive: int = 1
    no_data: str = "keep"
    least: int = 0
    open: dict[tuple[str, ...], list[Any]] = field(default_factory=dict)
    known: set[tuple[str, ...]] = field(default_factory=set)

    def judge(self, end: int, panes: dict[int, dict[tuple[str, ...], dict[str, int]]]) -> list[Transition]:
        totals: dict[tuple[str, ...], dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for at in range(end - (self.minutes - 1) * MINUTE, end + 1, MINUTE):
            for group, figures in panes.get(at, {}).items():
                for name, value in figures.items():
                    totals[group][name] += value
        told = []
        for group in sorted({*totals, *self.open, *self.known}):
            if group in totals:
                value = totals[group][self.figure]
                value = value / totals[group]["requests"] if self.ratio else value
                if totals[group]["requests"] < self.least:
                    continue
                violates = value > self.threshold
                if self.no_data == "alert":
                    self.known.add(group)
            elif self.no_data == "keep":
                continue
            else:
                violates = self.no_data == "alert"
            told += self._advance(group, violates, end)
        return told

    def _advance(self, group: tuple[str, ...], violates: bool, end: int) -> list[Transition]:
        if not violates:
            if group not in self.open:
                return []
            start, _, number, _ = self.open.pop(group)
            return [self._told(group, "resolved", number + 1, end, start)]
        if group not in self.open:
            self.open[group] = [end, 0, 0, ""]
        alert = self.open[group]
        alert[1] += 1
        state = "firing" if alert[1] >= self.consecutive else "pending"
        if state == alert[3]:
            return []
        alert[2:] = [alert[2] + 1, state]
        return [self._told(group, state, alert[2], end, alert[0])]

    def _told(self, group: tuple[str, ...], state: str, number: int, end: int, start: int) -> Transition:
        return (self.name, group, state, number, end, id_of(self.name, group, start))


@dataclass
class Absence:
    """A group that had data and has none for so many minutes."""

    name: str
    grouping: str
    minutes: int
    known: set[tuple[str, ...]] = field(default_factory=set)
    open: dict[tuple[str, ...], int] = field(default_factory=dict)

    def judge(self, end: int, panes: dict[int, dict[tuple[str, ...], dict[str, int]]]) -> list[Transition]:
        there = {
            group
            for at in range(end - (self.minutes - 1) * MINUTE, end + 1, MINUTE)
            for group in panes.get(at, {})
        }
        self.known |= panes.get(end, {}).keys()
        told: list[Transition] = []
        for group in sorted(self.known | self.open.keys()):
            if group in there and group in self.open:
                start = self.open.pop(group)
                told.append((self.name, group, "resolved", 2, end, id_of(self.name, group, start)))
            elif group not in there and group not in self.open:
                self.open[group] = end
                told.append((self.name, group, "firing", 1, end, id_of(self.name, group, end)))
        return told


@dataclass
class DailyBudget:
    """Tokens of a group in a day of the zone, and the steps of the limit."""

    name: str
    grouping: str
    limit: int
    steps: tuple[float, ...]
    zone: ZoneInfo
    day: int | None = None
    began: int = 0
    spent: dict[tuple[str, ...], int] = field(default_factory=lambda: defaultdict(int))
    alerts: dict[tuple[str, ...], tuple[int, int]] = field(default_factory=dict)

    def _midnight(self, at: int) -> int:
        local = datetime.fromtimestamp(at / 1e6, self.zone).replace(hour=0, minute=0, second=0, microsecond=0)
        return int(local.timestamp()) * 1_000_000

    def judge(self, end: int, panes: dict[int, dict[tuple[str, ...], dict[str, int]]]) -> list[Transition]:
        told: list[Transition] = []
        day = self._midnight(end - MINUTE)
        if self.day is None:
            self.began = end - MINUTE
        elif day != self.day:
            for group, (number, _) in sorted(self.alerts.items()):
                told.append(
                    (self.name, group, "resolved", number + 1, day, id_of(self.name, group, self.day))
                )
            self.spent.clear()
            self.alerts.clear()
        self.day = day
        for group, figures in panes.get(end, {}).items():
            self.spent[group] += figures["prompt_tokens"]
        for group, spent in sorted(self.spent.items()):
            for place, step in enumerate(self.steps):
                number, reached = self.alerts.get(group, (0, -1))
                if place > reached and spent / self.limit >= step:
                    self.alerts[group] = (number + 1, place)
                    told.append(
                        (self.name, group, "firing", number + 1, end, id_of(self.name, group, self.day))
                    )
        return told

    def correct(self, end: int, group: tuple[str, ...], difference: int) -> None:
        if self.day is not None and end - MINUTE >= max(self.day, self.began):
            self.spent[group] += difference


Rule = Threshold | Absence | DailyBudget


def _rows(share: ClosedShare) -> dict[tuple[str, ...], dict[str, int]]:
    keys = {"total": (), "service": ("service",), "user": ("user_id",)}[share.grouping or ""]
    return {tuple(row[key] for key in keys): row for row in share.rows.to_pylist()}  # type: ignore[union-attr]


def judged(log: Iterable[ClosedShare], rules: list[Rule]) -> set[Transition]:
    """All transitions that a log of minutes comes to, without a clock: nobody loses patience."""
    newest: dict[tuple[str, int, int], tuple[tuple[int, int], dict[tuple[str, ...], dict[str, int]]]] = {}
    watermarks: dict[tuple[str, int], int] = {}
    done: dict[str, int] = {}
    told: set[Transition] = set()
    for record in log:
        if record.rows is not None:
            grouping = record.grouping or ""
            where = (grouping, record.pane_end, record.partition)
            version = (record.offset, record.revision)
            before, old = newest.get(where, ((-1, -1), {}))
            if before > version:
                continue
            newest[where] = (version, old | _rows(record))
            budgets = [r for r in rules if isinstance(r, DailyBudget) and r.grouping == grouping]
            for budget in budgets if record.pane_end <= done.get(grouping, 0) else ():
                for group in {*old, *newest[where][1]}:
                    after = newest[where][1].get(group, {}).get("prompt_tokens", 0)
                    budget.correct(record.pane_end, group, after - old.get(group, {}).get("prompt_tokens", 0))
            continue
        source = (record.table, record.partition)
        watermarks[source] = max(watermarks.get(source, 0), record.watermark)
        heard = [mark for (table, _), mark in watermarks.items() if table == record.table]
        if len(heard) < record.partitions:
            continue
        closed = min(heard) // MINUTE * MINUTE
        for rule in rules:
            if (rule.grouping == "user") == (record.table == "chat.usage"):
                told |= _catch_up(rule, closed, done.get(rule.grouping), newest)
        for grouping in {rule.grouping for rule in rules}:
            if (grouping == "user") == (record.table == "chat.usage"):
                done[grouping] = max(done.get(grouping, 0), closed)
    return told


def _catch_up(rule: Rule, closed: int, done: int | None, newest: dict[Any, Any]) -> set[Transition]:
    if done is None:
        held = [end for grouping, end, _ in newest if grouping == rule.grouping]
        done = min([closed, *held]) - MINUTE
    told: set[Transition] = set()
    for end in range(done + MINUTE, closed + 1, MINUTE):
        panes: dict[int, dict[tuple[str, ...], dict[str, int]]] = {}
        for (grouping, at, _), (_, rows) in newest.items():
            if grouping == rule.grouping:
                pane = panes.setdefault(at, {})
                for group, figures in rows.items():
                    sums = pane.setdefault(group, defaultdict(int))
                    for name in ("requests", "errors", "prompt_tokens"):
                        sums[name] += figures[name]
        told |= set(rule.judge(end, panes))
    return told

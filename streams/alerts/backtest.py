"""A rule held against history, by the code that holds it against the present: the judge, and the notifier.

The panes of history are told to a judge one after the other, as if one source partition had closed each of
them; the clock stands at a pane's end and the lateness. What comes of it is what would have been told, had
the rule been set up when the backtest begins, and had all events been there in time.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import polars as pl

from streams.alerts import budget
from streams.alerts.errors import AlertError
from streams.alerts.evaluation import kind_of, latencies_of
from streams.alerts.judge import Judge
from streams.alerts.judged import Judged, Question, RuleVersion
from streams.alerts.lifecycle import Record
from streams.alerts.limits import Limits
from streams.alerts.measures import SAMPLE_GROUPING
from streams.alerts.recorded import RecordedPane
from streams.alerts.rule import BudgetRule, Rule
from streams.alerts.shares import ClosedShare
from streams.deliveries.endpoint import Endpoint
from streams.notifications.notifier import Notifier, Terms
from streams.notifications.silence import Acknowledgement, Silence
from streams.notifications.state import Outbox
from streams.windows.measures import GROUPINGS, Grouping
from streams.windows.panes import DAY, SECOND, Micros

_TOLD_EVERY: Final = 60
"""Panes without an alert after which it is told how far the backtest has come."""
_MOMENT: Final[Micros] = SECOND // 10
"""How often the notifier looks what is due."""


class BacktestError(AlertError):
    """The rule can't be held against this history; the message says why, and what to do."""


class History(Protocol):
    """The past, as `streams.alerts.recorded.RecordedHistory` reads it."""

    def panes(
        self, grouping: Grouping, pane: str, start: Micros, end: Micros, latencies: Sequence[str] = ()
    ) -> Iterator[RecordedPane]:
        """The panes from `start` to `end` (excluded) that have any rows, in order."""
        ...

    def answer(self, question: Question) -> pl.DataFrame:
        """What the rule asks of its own past."""
        ...


@dataclass(frozen=True)
class Backtested:
    """What came of some panes."""

    through: Micros
    """All panes ending up to here have been judged."""
    alerts: Sequence[Record] = ()
    """Transitions, as in `schemas/alert.avsc`, in their order."""
    notifications: Sequence[Record] = ()
    """As in `schemas/notification.avsc`."""
    decisions: Mapping[str, int] = field(default_factory=dict)
    """How many of each kind: of the judge, and of the notifier."""


def backtest(
    rule: Rule,
    history: History,
    start: Micros,
    end: Micros,
    *,
    endpoints: Mapping[str, Endpoint] | None = None,
    silences: Mapping[str, Silence | Acknowledgement] | None = None,
    terms: Terms | None = None,
    limits: Limits | None = None,
    lateness: Micros = 10 * SECOND,
) -> Iterator[Backtested]:
    """Judges the panes that end after `start`, up to `end`; what comes of them as it comes.

    Give up the iterator, and it ends. Memory is what judge and notifier keep. A budget begins with the
    period that `start` lies in, so that what was used before counts; what was told of it before `start` is
    not told. Raises BacktestError at once, and whatever `history` raises.
    """
    if rule.grouping == SAMPLE_GROUPING:
        raise BacktestError(
            f"the rule {rule.id} is about sampled states, which are not kept as panes: only rules about "
            "requests can be held against history"
        )
    if not rule.enabled:
        rule = rule.model_copy(update={"enabled": True})
    terms = terms or Terms()
    run = _Run(rule, history, terms, limits or Limits(), lateness)
    run.notifier.define({rule.id: rule}, endpoints or {}, silences or {})
    return run.judged(start, end)


class _Run:
    """One backtest."""

    def __init__(self, rule: Rule, history: History, terms: Terms, limits: Limits, lateness: Micros) -> None:
        self._rule = rule
        self._kind = kind_of(rule)
        self._panes_of = history.panes
        self._history = _Asked(history)
        self._terms = terms
        self._lateness = lateness
        self._judge = Judge(0, 1, [RuleVersion(rule, 1)], limits, terms.zone)
        self._at = 0
        self.notifier = Notifier(terms)

    def judged(self, start: Micros, end: Micros) -> Iterator[Backtested]:
        length = self._kind.length
        start, end = start - start % length, end - end % length
        first, remembered = self._first(start), start
        if isinstance(self._rule, BudgetRule):
            remembered = first
        else:
            # What was before the first record isn't known; of a budget's period there was nothing.
            self._next()
        self._judge.take([self._heartbeat(first)], first + self._lateness, committed=self._at)
        gathered = _Gathered()
        for pane_end, pane in self._panes(first, end):
            now = pane_end + self._lateness
            shares = [] if pane is None else [self._share(pane_end, pane)]
            shares.append(self._heartbeat(pane_end))
            if pane_end <= remembered:
                self._judge.take(shares, now, committed=self._at)
                continue
            self._answer(now)
            judged = self._judge.take(shares, now)
            outboxes = list(self._notified(judged.alerts, now, now + length))
            if pane_end > start:
                gathered.take(judged, outboxes)
                if gathered.is_due or pane_end == end:
                    yield gathered.given(pane_end)
            elif pane_end % (_TOLD_EVERY * length) == 0:
                yield Backtested(start)

    def _first(self, start: Micros) -> Micros:
        """From where panes have to be told: the windows that are judged need what is before them."""
        if isinstance(self._rule, BudgetRule):
            begin, _ = budget.period_of(self._rule, start, self._terms.zone)
            return begin - begin % self._kind.length
        return start - (self._rule.window - self._kind.length)

    def _panes(self, first: Micros, end: Micros) -> Iterator[tuple[Micros, RecordedPane | None]]:
        """The end of each pane, and its rows, if it has any."""
        length = self._kind.length
        grouping = GROUPINGS[self._kind.grouping]
        recorded = self._panes_of(grouping, self._kind.pane, first, end, latencies_of(self._rule))
        upcoming = next(recorded, None)
        for start in range(first, end, length):
            while upcoming is not None and upcoming.start < start:
                upcoming = next(recorded, None)
            if upcoming is not None and upcoming.start == start:
                yield start + length, upcoming
                upcoming = next(recorded, None)
            else:
                yield start + length, None

    def _share(self, pane_end: Micros, pane: RecordedPane) -> ClosedShare:
        at, kind = self._next(), self._kind
        return ClosedShare(
            at, kind.table, 0, 1, pane_end, at, kind.pane, pane.start, pane_end, kind.grouping, pane.rows, at
        )

    def _heartbeat(self, watermark: Micros) -> ClosedShare:
        at = self._next()
        return ClosedShare(at, self._kind.table, 0, 1, watermark, at)

    def _next(self) -> int:
        at, self._at = self._at, self._at + 1
        return at

    def _answer(self, now: Micros) -> None:
        """What the judge wants to know of the past."""
        for question in self._judge.wanted(now):
            frame = self._history.answer(question)
            tell = self._judge.set_spent if question.what == "spent" else self._judge.set_reference
            tell(question.rule.id, question.start, question.until, frame)

    def _notified(self, alerts: Sequence[Record], now: Micros, until: Micros) -> Iterator[Outbox]:
        """What the notifier has to say of them, up to `until` by the clock."""
        if alerts:
            yield self.notifier.take(alerts, now)
        if not self.notifier.open_alerts and not self.notifier.groups:
            return
        time: Micros | None = now
        while time is not None and time < until:
            yield self.notifier.tick(time)
            due = self.notifier.due
            time = None if due is None else max(due, time + _MOMENT)


@dataclass
class _Gathered:
    """What has come since it was last given."""

    alerts: list[Record] = field(default_factory=list)
    notifications: list[Record] = field(default_factory=list)
    decisions: Counter[str] = field(default_factory=Counter)
    panes: int = 0

    def take(self, judged: Judged, outboxes: Sequence[Outbox]) -> None:
        self.panes += 1
        # Offsets of the sources are made up here, and groups of a pane come in any order.
        alerts = sorted(judged.alerts, key=lambda alert: alert["group"])
        self.alerts += [alert | {"sources": []} for alert in alerts]
        self.decisions.update(decision["what"] for decision in judged.decisions)
        for outbox in outboxes:
            self.notifications += outbox.notifications
            self.decisions.update(decision["what"] for decision in outbox.decisions)

    @property
    def is_due(self) -> bool:
        return bool(self.alerts or self.notifications) or self.panes >= _TOLD_EVERY

    def given(self, through: Micros) -> Backtested:
        given = Backtested(through, self.alerts, self.notifications, dict(self.decisions))
        self.alerts, self.notifications, self.decisions, self.panes = [], [], Counter(), 0
        return given


class _Asked:
    """Answers of history, asked for a day at once: the judge asks for the next minutes, again and again."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._until: Micros = 0
        self._from: Micros = 0
        self._frame = pl.DataFrame()

    def answer(self, question: Question) -> pl.DataFrame:
        if question.what == "spent":
            return self._history.answer(question)
        if not self._from <= question.start <= question.until <= self._until:
            self._from, self._until = question.start, max(question.until, question.start + DAY)
            self._frame = self._history.answer(question._replace(until=self._until))
        return self._frame.filter(
            (pl.col("slot_start") >= question.start) & (pl.col("slot_start") < question.until)
        )

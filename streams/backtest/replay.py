"""History replayed to a judge: what comes of each pane, or of each few seconds of samples.

The panes follow one after the other, as if one source partition had closed each of them. The clock stands
at a pane's end and the lateness.
"""

from collections.abc import Iterator, Sequence
from datetime import tzinfo
from typing import Final, NamedTuple, Protocol

import polars as pl

from schemas.batch import OFFSET
from schemas.time import DAY, SECOND, Micros
from streams.alerts.closed_share import ClosedShare
from streams.alerts.judge import Judge
from streams.alerts.judged import Judged, Question, RuleVersion
from streams.alerts.kinds import Rule
from streams.alerts.limits import Limits
from streams.alerts.measures import SAMPLE_PREFIX
from streams.alerts.rule_states import series_of
from streams.alerts.sampling import Sampling
from streams.backtest.recorded import RecordedPane, RecordedSamples
from streams.catalogue.groupings import GROUPINGS, Grouping

SAMPLES_AT_ONCE: Final[Micros] = 10 * SECOND


class History(Protocol):
    """The past, as `streams.backtest.recorded.RecordedHistory` reads it."""

    def panes(
        self, grouping: Grouping, pane: str, start: Micros, end: Micros, latencies: Sequence[str] = ()
    ) -> Iterator[RecordedPane]:
        """The panes from `start` to `end` (excluded) that have any rows, in order."""
        ...

    def samples(self, name: str, start: Micros, end: Micros) -> Iterator[RecordedSamples]:
        """All samples of a state, in order, span by span; the spans lie side by side."""
        ...

    def answer(self, question: Question) -> pl.DataFrame:
        """What the rule asks of its own history."""
        ...


class ReplayStep(NamedTuple):
    """What came of a pane, or of a few seconds of samples."""

    through: Micros
    """All that ended up to here has been judged."""
    now: Micros
    """Where the clock stood."""
    judged: Judged
    before: bool = False
    """It is from before the start: what a budget had used by then."""


class PaneReplay:
    """A rule about requests. What is judged ends after `start`, up to `end`."""

    def __init__(self, rule: Rule, history: History, limits: Limits, zone: tzinfo, lateness: Micros) -> None:
        self._rule = rule
        self._zone = zone
        self._series = series_of(rule)
        self._panes = history.panes
        self._history = _CachedAnswers(history)
        self._lateness = lateness
        self._judge = Judge(0, 1, [RuleVersion(rule, 1)], limits, zone)
        self._at = 0
        self.length = self._series.length

    def steps(self, start: Micros, end: Micros) -> Iterator[ReplayStep]:
        """The steps, one for each pane; a budget begins with the period that `start` lies in."""
        start, end = start - start % self.length, end - end % self.length
        counted_from = self._rule.counts_from(start, self._zone)
        if counted_from is None:
            # From where on the windows that are judged reach; what was before the first record isn't known.
            first, remembered = start - (self._rule.window - self.length), start
            self._next()
        else:
            # Before where it counts from there was nothing.
            first = remembered = counted_from - counted_from % self.length
        self._judge.take([self._heartbeat(first)], first + self._lateness, committed=self._at)
        for pane_end, pane in self._recorded(first, end):
            now = pane_end + self._lateness
            shares = [] if pane is None else [self._share(pane_end, pane)]
            shares.append(self._heartbeat(pane_end))
            if pane_end <= remembered:
                self._judge.take(shares, now, committed=self._at)
            else:
                _answer(self._judge, self._history, now)
                yield ReplayStep(pane_end, now, self._judge.take(shares, now), pane_end <= start)

    def _recorded(self, first: Micros, end: Micros) -> Iterator[tuple[Micros, RecordedPane | None]]:
        """The end of each pane, and its rows, if it has any."""
        grouping = GROUPINGS[self._series.grouping]
        recorded = self._panes(grouping, self._series.pane, first, end, self._rule.latencies)
        upcoming = next(recorded, None)
        for start in range(first, end, self.length):
            if upcoming is not None and upcoming.start == start:
                yield start + self.length, upcoming
                upcoming = next(recorded, None)
            else:
                yield start + self.length, None

    def _share(self, pane_end: Micros, pane: RecordedPane) -> ClosedShare:
        at, series = self._next(), self._series
        return ClosedShare(
            at,
            series.table,
            0,
            1,
            pane_end,
            at,
            series.pane,
            pane.start,
            pane_end,
            series.grouping,
            pane.rows,
            at,
        )

    def _heartbeat(self, watermark: Micros) -> ClosedShare:
        at = self._next()
        return ClosedShare(at, self._series.table, 0, 1, watermark, at)

    def _next(self) -> int:
        at, self._at = self._at, self._at + 1
        return at


class SampleReplay:
    """A rule about sampled states."""

    length = SAMPLES_AT_ONCE

    def __init__(self, rule: Rule, history: History, limits: Limits) -> None:
        self._name = rule.metric.removeprefix(SAMPLE_PREFIX)
        self._samples = history.samples
        self._history = _CachedAnswers(history)
        self._sampling = Sampling(0, [RuleVersion(rule, 1)], limits)

    def steps(self, start: Micros, end: Micros) -> Iterator[ReplayStep]:
        """The steps, one for every few seconds."""
        offset = 0
        for span in self._samples(self._name, start, end):
            offsets = pl.int_range(offset, offset + span.rows.height, eager=True).alias(OFFSET)
            rows = span.rows.with_columns(offsets)
            offset += rows.height
            for begin in range(span.start, span.end, self.length):
                now = min(begin + self.length, span.end)
                times = pl.col("occurred_at").dt.epoch("us")
                some = rows.filter((times >= begin) & (times < now))
                _answer(self._sampling, self._history, now)
                yield ReplayStep(
                    now, now, self._sampling.take(some, now) if some.height else self._sampling.tick(now)
                )


def _answer(judge: Judge | Sampling, history: "_CachedAnswers", now: Micros) -> None:
    """Give the judge what it wants to know of history."""
    for question in judge.wanted(now):
        frame = history.answer(question)
        if question.what == "reference":
            judge.set_reference(question.rule.id, question.start, question.until, frame)
        elif isinstance(judge, Judge):
            judge.set_spent(question.rule.id, question.start, question.until, frame)


class _CachedAnswers:
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

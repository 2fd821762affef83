"""The rules held against one partition of `chat.closed`: which panes are due, and for which rules.

A pane is judged once, when the watermarks of all source partitions have passed its end, in the order of
the panes' ends. What a rule makes of it is its kind's (`kinds`). A rule's state says how far it has judged:
what is read again is remembered, not judged.

What is sent has been written before, with the state that it follows from. So it is the same wherever the
log is cut into fetches, and whoever takes the partition up again.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Final

import polars as pl

from schemas.errors import RefusedError
from schemas.time import MINUTE, Micros
from streams.alerts.closed_share import ClosedShare
from streams.alerts.due_panes import DuePanes
from streams.alerts.judged import Judged, Question, RuleVersion
from streams.alerts.kinds import Rule
from streams.alerts.limits import Judging, Limits
from streams.alerts.measures import SAMPLE_GROUPING
from streams.alerts.needs import Need
from streams.alerts.pane_series import ALWAYS, PaneSeries
from streams.alerts.rule_panes import RulePanes
from streams.alerts.rule_states import RuleStates, series_of
from streams.alerts.shares import PaneChange, Shares
from streams.alerts.state import RuleState
from streams.counting.announce import target

_TABLES: Final = ("chat.windows", "chat.usage")


class Judge:
    """The rules in one partition of `chat.closed`, which has `partitions`. Its public signature is settled.

    Pure: the clock is an argument. In this order: `Judge(...)`, `restore` with the partition's entries,
    `outbox` (what those had still to send), `reading_from`; then `take` and `tick` as they come, with
    `set_rules`, `set_reference` and `set_spent` between them.
    """

    def __init__(
        self,
        partition: int,
        partitions: int,
        rules: Iterable[RuleVersion],
        limits: Limits | None = None,
        zone: tzinfo = UTC,
    ) -> None:
        self._partition = partition
        self._partitions = partitions
        self._limits = limits or Limits()
        self._zone = zone
        self._shares = Shares()
        self._states = RuleStates()
        self._due = DuePanes(self._shares.watermarks, _TABLES, self._limits.patience)
        self._by_series: dict[PaneSeries, list[str]] = {}
        self._done: dict[PaneSeries, Micros] = {}
        self._changed: dict[PaneSeries, set[Micros]] = {}
        """Judged panes that have changed, and are not yet restated ..."""
        self._unstated_from: int | None = None
        """... and the offset of the first share that changed one."""
        self.set_rules(rules)

    @property
    def forgotten(self) -> int:
        """What was let go for want of room or time: shares that came too late, and groups too many."""
        return self._shares.forgotten + sum(state.forgotten for state in self._states)

    def set_rules(self, rules: Iterable[RuleVersion]) -> None:
        """All rules there are. Those that are gone, or disabled, have their alerts resolved."""
        self._states.want(version for version in rules if self._is_mine(version.rule))

    def _is_mine(self, rule: Rule) -> bool:
        if not rule.enabled or rule.grouping == SAMPLE_GROUPING:
            return False
        return bool(rule.keys) or target(rule.grouping, (), self._partitions) == self._partition

    def restore(self, entries: Mapping[bytes, bytes]) -> None:
        """Take up what was written before. Raises `state.StateError` for entries that can't be read."""
        self._states.restore(entries)

    def outbox(self) -> Judged:
        """What the restored state had still to send; it may have been sent already."""
        return self._states.outbox()

    def reading_from(self, committed: int) -> int:
        """The offset to read from: at most `committed`, up to which everything is acknowledged."""
        known = [state for state in self._states if not state.ended and state.remembers_from >= 0]
        start = min([committed, *(state.remembers_from for state in known)])
        whole_from: dict[PaneSeries, Micros] = {}
        for state in known:
            series = PaneSeries(*state.shape[1:])
            whole_from[series] = min(state.whole_from, whole_from.get(series, state.whole_from))
        self._shares.restore(whole_from, start)
        return start

    def wanted(self, now: Micros) -> list[Question]:
        """What is to be asked of history. The same is asked until it is answered."""
        questions = []
        for name, (rule, _) in self._states.rules.items():
            state = self._states[name]
            need = rule.needs(state, now - MINUTE if state.judged is None else state.judged)
            if need is not None:
                questions.append(Question(rule, *need))
        return questions

    def set_reference(self, rule_id: str, start: Micros, until: Micros, frame: pl.DataFrame) -> None:
        """The references of a rule for the slots from `start` to `until` (excluded).

        `frame` as in `references.References.add`. For rules that are not ours, or others by now, it is left.
        """
        version = self._states.rules.get(rule_id)
        if version is not None:
            version.rule.learn(self._states[rule_id], Need("reference", start, until), frame)

    def set_spent(self, rule_id: str, start: Micros, until: Micros, frame: pl.DataFrame) -> None:
        """What each group used of a budget from `start` to `until` (excluded): all groups, or only ours.

        `frame` has the keys, `at` (Int64, microseconds) and the sums of `streams.catalogue.measures`. An
        answer to a question that is none any more is left.
        """
        version = self._states.rules.get(rule_id)
        if version is None:
            return
        rule, state = version.rule, self._states[rule_id]
        need = rule.needs(state, state.judged or 0)
        if need is None or need[:3] != ("spent", start, until):
            return
        if rule.keys:
            groups = frame.select(rule.keys).rows()
            ours = [target(rule.grouping, group, self._partitions) == self._partition for group in groups]
            frame = frame.filter(pl.Series(ours, dtype=pl.Boolean))
        rule.learn(state, need, frame)

    def take(self, shares: Sequence[ClosedShare], now: Micros, committed: int = 0) -> Judged:
        """Take the next records of the partition, in the order of their offsets.

        What lies before `committed` is remembered; rules that have no state yet begin after it.
        """
        out = Judged()
        self._adopt(now)
        for share in shares:
            if share.at <= self._shares.offset:
                continue
            try:
                change = self._shares.take(share)
            except RefusedError:
                out.refused += 1
                continue
            if change is not None:
                self._note(change, share.at)
            elif share.rows is None and share.table in _TABLES:
                self._restate(share.table, now)
                self._advance(share.table, now, remembered=share.at < committed)
        return self._written(out)

    def tick(self, now: Micros) -> Judged:
        """Time has passed: panes don't wait for ever, and rules may have changed."""
        self._adopt(now)
        for table in _TABLES:
            self._advance(table, now)
        return self._written(Judged())

    def _adopt(self, now: Micros) -> None:
        """Let changed rules take effect, and hold what they need."""
        if not self._states.adopt(self._at(now), lambda series: self._due.upto(series.table, now)):
            return
        self._by_series, memory = {}, dict[PaneSeries, tuple[Micros, set[str]]]()
        for name, (rule, _) in self._states.rules.items():
            series = series_of(rule)
            self._by_series.setdefault(series, []).append(name)
            longest, latencies = memory.get(series, (0, set()))
            span = rule.window + self._limits.corrections
            memory[series] = max(longest, span), latencies | set(rule.latencies)
        self._shares.want(memory)
        self._done.clear()

    def _note(self, change: PaneChange, at: int) -> None:
        """A share has changed a pane; if that is judged, what was stated of it may be wrong by now."""
        for name in self._by_series.get(change.series, ()):
            state, rule = self._states[name], self._rule(name)
            if state.judged is None or change.pane_end > state.judged or at <= state.offset:
                continue
            if not rule.counts:
                self._changed.setdefault(change.series, set()).add(change.pane_end)
                self._unstated_from = at if self._unstated_from is None else self._unstated_from
                continue
            rows = pl.DataFrame(change.rows)
            replaced = None if change.replaced is None else pl.DataFrame(change.replaced)
            if rule.count_late(state, change.pane_end, rows, replaced):
                self._states.touch(name)

    def _restate(self, table: str, now: Micros) -> None:
        """State anew what was stated of panes that have changed since."""
        for series in [series for series in self._changed if series.table == table]:
            ends = self._changed.pop(series)
            for name in self._by_series.get(series, ()):
                if self._rule(name).restate(self._states[name], self._panes(name), ends, self._at(now)):
                    self._states.touch(name)
        if not self._changed:
            self._unstated_from = None

    def _advance(self, table: str, now: Micros, remembered: bool = False) -> None:
        """Judge what is due."""
        due = self._due.advance(table, now)
        if due is None:
            return
        for series, names in self._by_series.items():
            upto = due - due % series.length
            if series.table != table or upto <= self._done.get(series, ALWAYS):
                continue
            self._done[series] = upto
            self._judge(series, names, upto, now, remembered)

    def _judge(
        self, series: PaneSeries, names: Sequence[str], upto: Micros, now: Micros, remembered: bool
    ) -> None:
        """Judge the panes of a series in their order."""
        states = [self._states[name] for name in names]
        for state in states:
            if remembered and state.rule_id in self._states.without_state:
                state.judged = upto
            elif state.judged is None:
                first = self._shares.first_end(series)
                state.judged = (upto if first is None else min(first, upto)) - series.length
        too_late = now - self._limits.too_late
        too_late -= too_late % series.length
        for state in states:
            self._pass_over(state, min(too_late, upto), now)
        first = min(state.judged or 0 for state in states) + series.length
        for end in range(first, upto + 1, series.length):
            for state in states:
                if (state.judged or 0) < end:
                    self._judge_pane(state, end, now)
                    state.judged = end
                    self._states.touch(state.rule_id)
        self._shares.release(series, min(state.judged or 0 for state in states))

    def _pass_over(self, state: RuleState, upto: Micros, now: Micros) -> None:
        """Panes that come too late change no alert."""
        if (state.judged or 0) >= upto:
            return
        name = state.rule_id
        self._rule(name).pass_over(state, self._panes(name), upto, self._at(now, too_late=True))
        state.judged = upto
        self._states.touch(name)

    def _judge_pane(self, state: RuleState, end: Micros, now: Micros) -> None:
        name = state.rule_id
        self._rule(name).judge(state, self._panes(name).ending_at(end), self._at(now))
        kept = end - self._limits.corrections
        state.closed = [record for record in state.closed if record["window_end"] > kept]

    def _rule(self, name: str) -> Rule:
        return self._states.rules[name].rule

    def _panes(self, name: str) -> RulePanes:
        rule = self._rule(name)
        return RulePanes(self._shares, series_of(rule), rule.window)

    def _at(self, now: Micros, too_late: bool = False) -> Judging:
        return Judging(self._partition, now, self._limits, too_late, self._zone)

    def _written(self, out: Judged) -> Judged:
        self._states.written(out, self._place, has_read=self._shares.offset >= 0)
        return out

    def _place(self, state: RuleState) -> None:
        """How far the state has come, and from where on to read again for what it builds on."""
        if self._shares.offset < 0:
            return
        rule, series = self._rule(state.rule_id), PaneSeries(*state.shape[1:])
        through = self._shares.offset
        if not rule.counts and self._unstated_from is not None:
            through = self._unstated_from - 1
        state.offset = max(state.offset, through)
        memory = rule.window + self._limits.corrections
        judged = ALWAYS if state.judged is None else state.judged
        state.whole_from = max(self._shares.whole_from(series), judged - memory)
        state.remembers_from = self._shares.remembers_from(series, judged, memory)

"""The rules held against one partition of `chat.closed`: what changes in its alerts, and why.

A pane is judged once, when the watermarks of all source partitions have passed its end, in the order of
the panes' ends. A rule's state says how far it has judged: what is read again is remembered, not judged.

What is told has been written before, with the state that it follows from. So it is the same wherever the
log is cut into fetches, and whoever takes the partition up again.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Final

import polars as pl

from schemas.errors import RefusedError
from schemas.time import MINUTE, SECOND, Micros
from streams.alerts import budget, spending
from streams.alerts.baseline import References
from streams.alerts.evaluation import Window, evaluate, kind_of, latencies_of
from streams.alerts.judged import Judged, Question, RuleVersion
from streams.alerts.judgement import correct, judge, judge_absence, judge_watchdog, pass_over, resolve
from streams.alerts.limits import Judging, Limits
from streams.alerts.measures import SAMPLE_GROUPING
from streams.alerts.rule import BudgetRule, ComparingRule, Rule, dumped, parse_rule
from streams.alerts.shares import ALWAYS, Change, ClosedShare, Kind, Shares
from streams.alerts.state import Outbox, RuleState, unpack_rule
from streams.announce import target

_TABLES: Final = ("chat.windows", "chat.usage")
_BEGINS_ANEW: Final = ("metric", "period", "filter")
"""A budget that changes in one of these counts something else."""


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
        self._rules: dict[str, RuleVersion] = {}
        self._wanted: dict[str, RuleVersion] | None = None
        self._states: dict[str, RuleState] = {}
        self._references: dict[str, References] = {}
        self._by_kind: dict[Kind, list[str]] = {}
        self._done: dict[Kind, Micros] = {}
        self._leads: dict[str, deque[tuple[Micros, Micros]]] = {table: deque() for table in _TABLES}
        self._changed: dict[Kind, set[Micros]] = {}
        self._unstated_from: int | None = None
        self._touched: dict[str, None] = {}
        self._leaving: list[str] = []
        self._unknown: set[str] = set()
        """Rules of which there was no state when this began: what is acknowledged was judged without them."""
        self.set_rules(rules)

    @property
    def forgotten(self) -> int:
        """What was let go for want of room or time: shares that came too late, and groups too many."""
        return self._shares.forgotten + sum(state.forgotten for state in self._states.values())

    def set_rules(self, rules: Iterable[RuleVersion]) -> None:
        """All rules there are. Those that are gone, or disabled, have their alerts resolved."""
        self._wanted = {version.rule.id: version for version in rules if self._is_mine(version.rule)}

    def _is_mine(self, rule: Rule) -> bool:
        if not rule.enabled or rule.grouping == SAMPLE_GROUPING:
            return False
        return bool(rule.keys) or target(rule.grouping, (), self._partitions) == self._partition

    def restore(self, entries: Mapping[bytes, bytes]) -> None:
        """Take up what was written before. Raises `state.StateError` for entries that can't be read."""
        for entry in entries.values():
            state = unpack_rule(entry)
            self._states[state.rule_id] = state
            if state.ended:
                self._leaving.append(state.rule_id)

    def outbox(self) -> Judged:
        """What the restored state had still to send; it may have been sent already."""
        found = Judged()
        for state in self._states.values():
            found.alerts += state.outbox.alerts
            found.decisions += state.outbox.decisions
            state.outbox = Outbox()
        return found

    def reading_from(self, committed: int) -> int:
        """The offset to read from: at most `committed`, up to which everything is acknowledged."""
        known = [state for state in self._states.values() if not state.ended and state.remembers_from >= 0]
        start = min([committed, *(state.remembers_from for state in known)])
        whole_from: dict[Kind, Micros] = {}
        for state in known:
            kind = Kind(*state.shape[1:])
            whole_from[kind] = min(state.whole_from, whole_from.get(kind, state.whole_from))
        self._shares.restore(whole_from, start)
        return start

    def wanted(self, now: Micros) -> list[Question]:
        """What is to be asked of history. The same is asked until it is answered."""
        questions = []
        for name, (rule, _) in self._rules.items():
            state = self._states[name]
            if rule.kind in ("baseline", "change"):
                judged = now - MINUTE if state.judged is None else state.judged
                missing = self._references.setdefault(name, References()).missing(rule, judged)
                if missing is not None:
                    questions.append(Question(rule, "reference", *missing))
            elif rule.kind == "budget" and (span := budget.missing_history(state)) is not None:
                step = None if isinstance(rule.period, str) else spending.slot_length(rule)
                questions.append(Question(rule, "spent", *span, step))
        return questions

    def set_reference(self, rule_id: str, start: Micros, until: Micros, frame: pl.DataFrame) -> None:
        """The references of a baseline or change for the slots from `start` to `until` (excluded).

        `frame` as in `baseline.References.add`. For rules that are not ours, or others by now, it is left.
        """
        version = self._rules.get(rule_id)
        if version is not None and version.rule.kind in ("baseline", "change"):
            self._references.setdefault(rule_id, References()).add(version.rule, start, until, frame)

    def set_spent(self, rule_id: str, start: Micros, until: Micros, frame: pl.DataFrame) -> None:
        """What each group used of a budget from `start` to `until` (excluded): all groups, or only ours.

        `frame` as in `budget.add_history`. An answer to a question that is none any more is left.
        """
        version = self._rules.get(rule_id)
        if version is None or version.rule.kind != "budget":
            return
        rule, state = version.rule, self._states[rule_id]
        if rule.keys:
            groups = frame.select(rule.keys).rows()
            ours = [target(rule.grouping, group, self._partitions) == self._partition for group in groups]
            frame = frame.filter(pl.Series(ours, dtype=pl.Boolean))
        budget.add_history(state, rule, start, until, frame)

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
                self._correct(share.table, now)
                self._advance(share.table, now, remembered=share.at < committed)
        return self._written(out)

    def tick(self, now: Micros) -> Judged:
        """Time has passed: panes don't wait for ever, and rules may have changed."""
        self._adopt(now)
        for table in _TABLES:
            self._advance(table, now)
        return self._written(Judged())

    def _adopt(self, now: Micros) -> None:
        """Let changed rules take effect."""
        if self._wanted is None:
            return
        rules, self._wanted = self._wanted, None
        at = Judging(self._partition, now, self._limits)
        for name in self._states.keys() - rules.keys():
            self._end(self._states[name], at)
        before, self._rules = self._rules, rules
        for name, version in rules.items():
            if name in before and before[name].rule != version.rule:
                self._references.pop(name, None)
        self._by_kind, memory = {}, dict[Kind, tuple[Micros, set[str]]]()
        for name, (rule, _) in rules.items():
            kind = kind_of(rule)
            self._by_kind.setdefault(kind, []).append(name)
            longest, latencies = memory.get(kind, (0, set()))
            span = rule.window + self._limits.corrections
            memory[kind] = max(longest, span), latencies | set(latencies_of(rule))
        self._shares.want(memory)
        self._done.clear()
        for version in rules.values():
            self._begin(version, at)

    def _begin(self, version: RuleVersion, at: Judging) -> None:
        """A rule that is new, or has another version: open alerts go on as far as they can."""
        rule, revision = version
        shape = (rule.kind, *kind_of(rule))
        state = self._states.get(rule.id)
        told = Outbox()
        if state is not None and (state.ended or state.shape != shape):
            if not state.ended:
                self._end(state, at)
            told, state = state.outbox, None
        if state is None:
            reached = self._due(kind_of(rule).table, at.now)
            length = kind_of(rule).length
            judged = None if reached is None else reached - reached % length
            self._states[rule.id] = RuleState(rule.id, revision, shape, judged, outbox=told)
            self._touched[rule.id] = None
            if judged is None:
                self._unknown.add(rule.id)
        elif state.revision != revision:
            state.revision = revision
            self._revise(state, rule, at)
            self._touched[rule.id] = None

    def _revise(self, state: RuleState, rule: Rule, at: Judging) -> None:
        if rule.kind == "budget":
            former = state.figures.get("rule", {})
            if any(former.get(name) != dumped(rule).get(name) for name in _BEGINS_ANEW):
                self._end(state, at)
                state.ended, state.figures, state.frames = False, {}, {}
            elif state.figures:
                budget.revise_budget(state, rule, at.now)
        elif rule.kind != "watchdog" and rule.filter and state.open:
            groups = list(state.open)
            frame = pl.DataFrame(groups, schema=list(rule.keys), orient="row")
            about = set(frame.filter(rule.selects()).rows())
            why = "the rule is not about this any more"
            resolve(state, [group for group in groups if group not in about], why, at)

    def _end(self, state: RuleState, at: Judging) -> None:
        """The rule is gone: its alerts are over."""
        if state.ended:
            return
        why = "the rule is gone, or judges something else now"
        if "rule" in state.figures:
            rule = parse_rule(state.figures["rule"])
            if rule.kind == "budget":
                budget.resolve_budget(state, rule, why, at.now)
        resolve(state, list(state.open), why, at)
        state.ended = True
        self._touched[state.rule_id] = None

    def _note(self, change: Change, at: int) -> None:
        """A share has changed a pane; if that is judged, what was said of it may be wrong by now."""
        for name in self._by_kind.get(change.kind, ()):
            state, rule = self._states[name], self._rules[name].rule
            if state.judged is None or change.pane_end > state.judged or at <= state.offset:
                continue
            if rule.kind != "budget":
                self._changed.setdefault(change.kind, set()).add(change.pane_end)
                self._unstated_from = at if self._unstated_from is None else self._unstated_from
                continue
            rows, replaced = (None if t is None else pl.DataFrame(t) for t in (change.rows, change.replaced))
            if rows is not None and budget.correct_spending(state, rule, rows, replaced, change.pane_end):
                self._touched[name] = None

    def _correct(self, table: str, now: Micros) -> None:
        """State anew what was said of panes that have changed since."""
        for kind in [kind for kind in self._changed if kind.table == table]:
            ends = self._changed.pop(kind)
            for name in self._by_kind.get(kind, ()):
                self._correct_rule(kind, name, ends, now)
        if not self._changed:
            self._unstated_from = None

    def _correct_rule(self, kind: Kind, name: str, ends: set[Micros], now: Micros) -> None:
        state, rule = self._states[name], self._rules[name].rule
        if not isinstance(rule, ComparingRule):
            return
        at = Judging(self._partition, now, self._limits)
        for record in [*(alert.record for alert in state.open.values()), *state.closed]:
            start, end = record["window_start"], record["window_end"]
            if end - start != rule.window or not any(start < each <= end for each in ends):
                continue
            window = self._window(kind, start, end)
            reference = self._reference(rule, end)
            if window.whole and (reference is not None or rule.kind in ("threshold", "capacity")):
                correct(state, rule, record, window, evaluate(rule, window, reference), at)
                self._touched[name] = None

    def _due(self, table: str, now: Micros) -> Micros | None:
        """Up to where panes are to be judged: all partitions have closed them, or one has long done so."""
        leads = self._leads[table]
        while len(leads) > 1 and leads[1][0] <= now - self._limits.patience:
            leads.popleft()
        long_closed = leads[0][1] if leads and leads[0][0] <= now - self._limits.patience else None
        frontier = self._shares.frontier(table)
        if frontier is None or long_closed is None:
            return frontier if long_closed is None else long_closed
        return max(frontier, long_closed)

    def _advance(self, table: str, now: Micros, remembered: bool = False) -> None:
        """Judge what is due."""
        lead, leads = self._shares.lead(table), self._leads[table]
        if lead is not None and (not leads or lead - lead % SECOND > leads[-1][1]):
            leads.append((now, lead - lead % SECOND))
        due = self._due(table, now)
        if due is None:
            return
        for kind, names in self._by_kind.items():
            upto = due - due % kind.length
            if kind.table != table or upto <= self._done.get(kind, ALWAYS):
                continue
            self._done[kind] = upto
            self._judge(kind, names, upto, now, remembered)

    def _judge(self, kind: Kind, names: Sequence[str], upto: Micros, now: Micros, remembered: bool) -> None:
        """Judge the panes of a kind in their order."""
        states = [self._states[name] for name in names]
        for state in states:
            if remembered and state.rule_id in self._unknown:
                state.judged = upto
            elif state.judged is None:
                first = self._shares.first_end(kind)
                state.judged = (upto if first is None else min(first, upto)) - kind.length
        too_late = now - self._limits.too_late
        too_late -= too_late % kind.length
        for state in states:
            self._pass_over(state, kind, min(too_late, upto), now)
        first = min(state.judged or 0 for state in states) + kind.length
        for end in range(first, upto + 1, kind.length):
            for state in states:
                if (state.judged or 0) < end:
                    self._judge_pane(state, kind, end, now)
                    state.judged = end
                    self._touched[state.rule_id] = None
        self._shares.release(kind, min(state.judged or 0 for state in states))

    def _pass_over(self, state: RuleState, kind: Kind, upto: Micros, now: Micros) -> None:
        """Panes that come too late change no alert; only budgets count them."""
        rule = self._rules[state.rule_id].rule
        judged = state.judged or 0
        if judged >= upto:
            return
        at = Judging(self._partition, now, self._limits, too_late=True)
        if rule.kind == "budget":
            for end in self._shares.ends(kind, judged, upto):
                self._spend(state, rule, kind, end, at)
                state.judged = end
        else:
            pass_over(state, rule, judged, self._window(kind, upto - rule.window, upto), at)
            state.closed = []
        state.judged = upto
        self._touched[state.rule_id] = None

    def _judge_pane(self, state: RuleState, kind: Kind, end: Micros, now: Micros) -> None:
        rule = self._rules[state.rule_id].rule
        at = Judging(self._partition, now, self._limits)
        window = self._window(kind, end - rule.window, end)
        if rule.kind == "budget":
            self._spend(state, rule, kind, end, at)
        elif rule.kind == "absence":
            latest = self._shares.window(kind, end - kind.length, end)
            judge_absence(state, rule, window, latest, at)
        elif rule.kind == "watchdog":
            judge_watchdog(state, rule, window, at)
        else:
            judge(state, rule, window, self._reference(rule, end), at)
        kept = end - self._limits.corrections
        state.closed = [record for record in state.closed if record["window_end"] > kept]

    def _spend(self, state: RuleState, rule: BudgetRule, kind: Kind, end: Micros, at: Judging) -> None:
        whole_from = self._shares.whole_from(kind)
        begun, missed = whole_from == ALWAYS, whole_from > (state.judged or 0)
        window = self._window(kind, end - rule.window, end)
        budget.spend(state, rule, window, at, self._zone, begun=begun, missed=missed)

    def _reference(self, rule: Rule, end: Micros) -> pl.DataFrame | None:
        if rule.kind not in ("baseline", "change"):
            return None
        references = self._references.setdefault(rule.id, References())
        references.forget(end)
        return references.of(rule, end)

    def _window(self, kind: Kind, start: Micros, end: Micros) -> Window:
        return Window(
            start,
            end,
            self._shares.window(kind, start, end),
            self._shares.parts(kind.table, end),
            max(self._shares.partitions, 1),
            whole=start + kind.length > self._shares.whole_from(kind),
            find_sources=lambda: self._shares.sources(kind, start, end),
        )

    def _written(self, out: Judged) -> Judged:
        """Put the entries that have changed, each with its outbox, into what the step has come to."""
        for name, state in [(name, self._states.get(name)) for name in self._leaving]:
            if state is not None and state.ended:
                out.entries[name.encode()] = None
                del self._states[name]
        self._leaving.clear()
        touched, self._touched = self._touched, {}
        for name in touched:
            state = self._states[name]
            if self._shares.offset < 0 and state.judged is None and not state.outbox:
                self._touched[name] = None  # as long as nothing is read, there is nothing to be found again
                continue
            if not state.ended:
                self._place(state)
            out.alerts += state.outbox.alerts
            out.decisions += state.outbox.decisions
            out.entries[name.encode()] = state.pack()
            state.outbox = Outbox()
            if state.ended:
                self._leaving.append(name)
        return out

    def _place(self, state: RuleState) -> None:
        """How far the state has come, and from where on to read again for what it builds on."""
        if self._shares.offset < 0:
            return
        rule, kind = self._rules[state.rule_id].rule, Kind(*state.shape[1:])
        through = self._shares.offset
        if rule.kind != "budget" and self._unstated_from is not None:
            through = self._unstated_from - 1
        state.offset = max(state.offset, through)
        memory = rule.window + self._limits.corrections
        judged = ALWAYS if state.judged is None else state.judged
        state.whole_from = max(self._shares.whole_from(kind), judged - memory)
        state.remembers_from = self._shares.remembers_from(kind, judged, memory)

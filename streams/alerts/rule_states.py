"""The rules of a partition, each with its state: how they begin, change, end, and are written."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from schemas.time import Micros
from streams.alerts.judged import Judged, RuleVersion
from streams.alerts.kinds import KINDS, Rule
from streams.alerts.kinds.kind import GONE, RuleBase
from streams.alerts.limits import Judging
from streams.alerts.pane_series import PaneSeries
from streams.alerts.references import References
from streams.alerts.state import Outbox, RuleState, unpack_rule

Due = Callable[[PaneSeries], Micros | None]
"""Up to where the panes of a series are to be judged; None while that is unknown."""


class RuleStates:
    """Rules with their states. What `want` is given takes effect with `adopt`, in a step of the judge."""

    def __init__(self) -> None:
        self.rules: dict[str, RuleVersion] = {}
        self._wanted: dict[str, RuleVersion] | None = None
        self._states: dict[str, RuleState] = {}
        self._touched: dict[str, None] = {}
        self._leaving: list[str] = []
        self.without_state: set[str] = set()
        """Rules of which there was no state when this began: what is acknowledged was judged without them."""

    def __getitem__(self, rule_id: str) -> RuleState:
        return self._states[rule_id]

    def __iter__(self) -> Iterator[RuleState]:
        return iter(self._states.values())

    def want(self, rules: Iterable[RuleVersion]) -> None:
        """All rules there are to be."""
        self._wanted = {version.rule.id: version for version in rules}

    def restore(self, entries: Mapping[bytes, bytes]) -> None:
        """Take up what was written before. Raises `state.StateError` for entries that can't be read."""
        for entry in entries.values():
            state = unpack_rule(entry)
            self._states[state.rule_id] = state
            if state.ended:
                self._leaving.append(state.rule_id)

    def touch(self, rule_id: str) -> None:
        """The state has changed: it is to be written."""
        self._touched[rule_id] = None

    def outbox(self) -> Judged:
        """What the restored states had still to send."""
        found = Judged()
        for state in self._states.values():
            found.take_outbox(state)
        return found

    def adopt(self, at: Judging, due: Due) -> bool:
        """Let changed rules take effect; whether there were any."""
        if self._wanted is None:
            return False
        rules, self._wanted = self._wanted, None
        for name in self._states.keys() - rules.keys():
            self._end(self._states[name], at)
        before, self.rules = self.rules, rules
        for name, version in rules.items():
            if name in before and before[name].rule != version.rule:
                self._states[name].references = References()
        for version in rules.values():
            self._begin(version, at, due)
        return True

    def _begin(self, version: RuleVersion, at: Judging, due: Due) -> None:
        """A rule that is new, or has another version: open alerts go on as far as they can."""
        rule, revision = version
        series = series_of(rule)
        shape = (rule.kind, *series)
        state = self._states.get(rule.id)
        unsent = Outbox()
        if state is not None and (state.ended or state.shape != shape):
            if not state.ended:
                self._end(state, at)
            unsent, state = state.outbox, None
        if state is None:
            reached = due(series)
            judged = None if reached is None else reached - reached % series.length
            self._states[rule.id] = RuleState(rule.id, revision, shape, judged, outbox=unsent)
            self.touch(rule.id)
            if judged is None:
                self.without_state.add(rule.id)
        elif state.revision != revision:
            state.revision = revision
            rule.revise(state, at)
            self.touch(rule.id)

    def _end(self, state: RuleState, at: Judging) -> None:
        """The rule is gone: its alerts are over."""
        if state.ended:
            return
        kind, *_ = state.shape
        KINDS.get(kind, RuleBase).end(state, GONE, at)
        state.ended = True
        self.touch(state.rule_id)

    def written(self, out: Judged, place: Callable[[RuleState], None], has_read: bool) -> None:
        """Put the entries that have changed, each with its outbox, into what the step has come to.

        `place` says in a state how far it has come. Until something is read (`has_read`), there is nothing
        that an empty state would have to be found again by.
        """
        for name, state in [(name, self._states.get(name)) for name in self._leaving]:
            if state is not None and state.ended:
                out.entries[name.encode()] = None
                del self._states[name]
        self._leaving.clear()
        touched, self._touched = self._touched, {}
        for name in touched:
            state = self._states[name]
            if not has_read and state.judged is None and not state.outbox:
                self.touch(name)
                continue
            if not state.ended:
                place(state)
            out.entries[name.encode()] = state.pack()
            out.take_outbox(state)
            if state.ended:
                self._leaving.append(name)


def series_of(rule: Rule) -> PaneSeries:
    """The panes that a rule is judged by."""
    return PaneSeries(rule.grouping, rule.pane)

"""The rules about sampled states (`sample:<name>`), over one partition of `chat.samples`.

A partition holds all samples of an instance. There are no panes and no watermark: a window ends with the
sample that is judged, in the order of the log. That an instance has fallen silent shows when others have
gone on for longer than the rule's window; or, when nothing comes at all, by the clock.
"""

from collections.abc import Iterable, Mapping
from typing import Final, cast

import polars as pl

from schemas.batch import OFFSET
from schemas.time import MINUTE, SECOND, Micros
from streams.alerts.judged import Judged, Question, RuleVersion
from streams.alerts.kinds import SampledRule
from streams.alerts.kinds.kind import GONE
from streams.alerts.limits import Judging, Limits
from streams.alerts.measures import SAMPLE_GROUPING
from streams.alerts.needs import Need
from streams.alerts.sample_judge import SampleJudge
from streams.alerts.state import RuleState, unpack_rule
from streams.alerts.transitions import resolve

_WRITTEN_EVERY: Final[Micros] = 10 * SECOND
"""By the clock: what only moves on is written now and then; a transition at once."""
_COLUMNS: Final = ("service", "instance", "name", "value", "occurred_at", OFFSET)


class Sampling:
    """The rules about sampled states, in one partition of `chat.samples`. Its public signature is settled.

    Pure: the clock is an argument. Used as `judge.Judge` is.
    """

    def __init__(self, partition: int, rules: Iterable[RuleVersion], limits: Limits | None = None) -> None:
        self._partition = partition
        self._limits = limits or Limits()
        self._rules: dict[str, SampleJudge] = {}
        self._restored: dict[str, RuleState] = {}
        self._leaving: dict[str, RuleState] = {}
        self._left: list[str] = []
        self._wanted: list[RuleVersion] | None = None
        self._offset = -1
        self._taken_at: Micros | None = None
        """When something was last taken, by the clock."""
        self.set_rules(rules)

    @property
    def forgotten(self) -> int:
        """Instances that were let go because there were too many."""
        return sum(judge.state.forgotten for judge in self._rules.values())

    def set_rules(self, rules: Iterable[RuleVersion]) -> None:
        """All rules there are; those about something else are left out."""
        self._wanted = [
            version for version in rules if version.rule.enabled and version.rule.grouping == SAMPLE_GROUPING
        ]

    def restore(self, entries: Mapping[bytes, bytes]) -> None:
        """Take up what was written before. Raises `state.StateError` for entries that can't be read."""
        states = [unpack_rule(entry) for entry in entries.values()]
        self._restored = {state.rule_id: state for state in states}

    def outbox(self) -> Judged:
        """What the restored state had still to send; it may have been sent already."""
        found = Judged()
        for state in self._restored.values():
            found.take_outbox(state)
        return found

    def reading_from(self, committed: int) -> int:
        """The offset to read from, at most `committed`."""
        known = [state.offset + 1 for state in self._restored.values() if not state.ended]
        return min([committed, *known])

    def wanted(self, now: Micros) -> list[Question]:
        """What is to be asked of history. The same is asked until it is answered."""
        needs = [
            (judge.rule, judge.rule.needs(judge.state, max(judge.latest, now - MINUTE)))
            for judge in self._rules.values()
        ]
        return [Question(rule, *need) for rule, need in needs if need is not None]

    def set_reference(self, rule_id: str, start: Micros, until: Micros, frame: pl.DataFrame) -> None:
        """As `Judge.set_reference`."""
        judge = self._rules.get(rule_id)
        if judge is not None:
            judge.rule.learn(judge.state, Need("reference", start, until), frame)

    def take(self, samples: pl.DataFrame, now: Micros, committed: int = 0, through: int = -1) -> Judged:
        """Take the next records of the partition, in the order of their offsets, up to `through`.

        `samples` has service, instance, name (String), value (Float64), occurred_at (Datetime "us", UTC),
        imported (Boolean) and `_offset` (Int64). Rules that have no state yet begin at `committed`.
        """
        at = self._at(now)
        self._adopt(at)
        self._taken_at = now
        if samples.height:
            through = max(through, cast("int", samples[OFFSET].max()))
            live = samples.filter(~pl.col("imported")).select(_COLUMNS)
            live = live.with_columns(pl.col("occurred_at").dt.epoch("us"))
            for judge in self._rules.values():
                after = judge.state.offset if judge.state.offset >= 0 else committed - 1
                judge.judge(live.filter(pl.col(OFFSET) > max(after, self._offset)), at)
        self._offset = max(self._offset, through)
        return self._written(now)

    def tick(self, now: Micros) -> Judged:
        """Time has passed: instances may have fallen silent, and rules may have changed."""
        at = self._at(now)
        self._adopt(at)
        self._taken_at = now if self._taken_at is None else self._taken_at
        if now - self._taken_at >= self._limits.patience:
            for judge in self._rules.values():
                judge.look_for_silence(max(judge.latest, now), at)
        return self._written(now)

    def _at(self, now: Micros) -> Judging:
        return Judging(self._partition, now, self._limits)

    def _adopt(self, at: Judging) -> None:
        """Let changed rules take effect."""
        if self._wanted is None:
            return
        versions, self._wanted = self._wanted, None
        before, self._rules = self._rules, {}
        states = {name: judge.state for name, judge in before.items()} | self._restored
        self._restored = {}
        for version in versions:
            rule, revision = cast("SampledRule", version.rule), version.revision
            shape = (rule.kind_name(), rule.grouping, rule.metric)
            state = states.pop(rule.id, None) or self._leaving.pop(rule.id, None)
            fresh = RuleState(rule.id, revision, shape, offset=self._offset)
            if state is not None and (state.ended or state.shape != shape):
                resolve(state, list(state.open), "the rule judges something else now", at)
                fresh.outbox, state = state.outbox, None
            judge = before.get(rule.id) if state is not None else None
            if judge is None:
                judge = SampleJudge(rule, state or fresh)
            judge.become(rule)
            judge.changed |= judge.state.revision != revision
            judge.state.revision = revision
            self._rules[rule.id] = judge
            rule.revise(judge.state, at)
        for name, state in states.items():
            if not state.ended:
                resolve(state, list(state.open), GONE, at)
            state.ended = True
            self._leaving[name] = state

    def _written(self, now: Micros) -> Judged:
        out = Judged()
        for name in self._left:
            if name not in self._rules:
                out.entries[name.encode()] = None
        self._left.clear()
        for judge in self._rules.values():
            state = judge.state
            due = judge.changed and now - judge.written_at >= _WRITTEN_EVERY
            if not (due or state.outbox):
                continue
            state.offset = max(state.offset, self._offset)
            state.remembers_from = state.offset + 1
            out.entries[state.rule_id.encode()] = judge.pack()
            out.take_outbox(state)
            judge.changed, judge.written_at = False, now
        for name, state in self._leaving.items():
            out.entries[state.rule_id.encode()] = state.pack()
            out.take_outbox(state)
            self._left.append(name)
        self._leaving.clear()
        return out

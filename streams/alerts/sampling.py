"""Rules about sampled states (`sample:<name>`): judged at every sample, in the order of the log.

A partition of `chat.samples` holds all samples of an instance. There are no panes and no watermark: a
window ends with the sample that is judged. That an instance has fallen silent shows when others have gone
on for longer than the rule's window; or, when nothing comes at all, by the clock.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final, cast

import numpy as np
import polars as pl

from schemas.batch import OFFSET
from schemas.time import MINUTE, SECOND, Micros
from streams.alerts.baseline import References
from streams.alerts.evaluation import Evaluated, Window, evaluate
from streams.alerts.judged import Judged, Question, RuleVersion
from streams.alerts.judgement import bare, evidence_of, resolve, say, tell
from streams.alerts.lifecycle import PENDING, Group, Verdict, advance
from streams.alerts.limits import Judging, Limits
from streams.alerts.measures import SAMPLE_GROUPING, SAMPLE_PREFIX, SAMPLE_SCHEMA
from streams.alerts.records import Evidence, alert_record, summary
from streams.alerts.rule import AbsenceRule, BaselineRule, ChangeRule, ComparingRule
from streams.alerts.shares import ALWAYS, Source
from streams.alerts.state import Outbox, RuleState, Seen, unpack_rule

SampledRule = ComparingRule | AbsenceRule

_WRITTEN_EVERY: Final[Micros] = 10 * SECOND
"""By the clock: what only moves on is written now and then; a transition at once."""
_MOST_IN_WINDOW: Final = 6_000
"""Samples of one instance that a window holds: 100 minutes of one a second."""
_WITHOUT_DATA: Final = {"ok": Verdict.HOLDS, "alert": Verdict.VIOLATES}
_COLUMNS: Final = ("service", "instance", "name", "value", "occurred_at", OFFSET)


class _Sampled:
    """One rule, its state, and the samples that its window holds."""

    def __init__(self, rule: SampledRule, state: RuleState) -> None:
        self.rule = rule
        self.state = state
        self.references = References()
        self.samples: dict[Group, deque[tuple[Micros, float]]] = {}
        self.look_at: Micros = ALWAYS
        """When the log has come so far, some instance may have been silent for too long."""
        self.minute: Micros = ALWAYS
        """The end of the minute of which is counted what was evaluated."""
        self.counted: dict[Group, bool] = {}
        """The groups evaluated in it, and which of them violated the rule."""
        self.changed = False
        self.written_at: Micros = 0
        if "samples" in state.frames:
            for service, instance, at, value in state.frames["samples"].iter_rows():
                self.held((service, instance)).append((at, value))

    @property
    def windowed(self) -> bool:
        """More than the latest sample counts."""
        return self.rule.kind != "absence" and self.rule.aggregation != "last"

    @property
    def latest(self) -> Micros:
        """The latest time of a sample: how far the log has come."""
        return int(self.state.figures.get("latest", ALWAYS))

    def held(self, group: Group) -> deque[tuple[Micros, float]]:
        """The group's samples that its window holds."""
        return self.samples.setdefault(group, deque(maxlen=_MOST_IN_WINDOW))

    def pack(self) -> bytes:
        """The entry."""
        rows = [(*group, *sample) for group, held in self.samples.items() for sample in held]
        columns = {"service": pl.String, "instance": pl.String, "at": pl.Int64, "value": pl.Float64}
        self.state.frames = {"samples": pl.DataFrame(rows, schema=columns, orient="row")} if rows else {}
        return self.state.pack()


class Sampling:
    """The rules about sampled states, in one partition of `chat.samples`. Its public signature is settled.

    Pure: the clock is an argument. Used as `judge.Judge` is.
    """

    def __init__(self, partition: int, rules: Iterable[RuleVersion], limits: Limits | None = None) -> None:
        self._partition = partition
        self._limits = limits or Limits()
        self._rules: dict[str, _Sampled] = {}
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
        return sum(sampled.state.forgotten for sampled in self._rules.values())

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
            found.alerts += state.outbox.alerts
            found.decisions += state.outbox.decisions
            state.outbox = Outbox()
        return found

    def reading_from(self, committed: int) -> int:
        """The offset to read from, at most `committed`."""
        known = [state.offset + 1 for state in self._restored.values() if not state.ended]
        return min([committed, *known])

    def wanted(self, now: Micros) -> list[Question]:
        """What is to be asked of history. The same is asked until it is answered."""
        questions = []
        for sampled in self._rules.values():
            rule = sampled.rule
            if rule.kind in ("baseline", "change"):
                missing = sampled.references.missing(rule, max(sampled.latest, now - MINUTE))
                if missing is not None:
                    questions.append(Question(rule, "reference", *missing))
        return questions

    def set_reference(self, rule_id: str, start: Micros, until: Micros, frame: pl.DataFrame) -> None:
        """As `Judge.set_reference`."""
        sampled = self._rules.get(rule_id)
        if sampled is not None and sampled.rule.kind in ("baseline", "change"):
            sampled.references.add(sampled.rule, start, until, frame)

    def take(self, samples: pl.DataFrame, now: Micros, committed: int = 0, through: int = -1) -> Judged:
        """Take the next records of the partition, in the order of their offsets, up to `through`.

        `samples` has service, instance, name (String), value (Float64), occurred_at (Datetime "us", UTC),
        imported (Boolean) and `_offset` (Int64). Rules that have no state yet begin at `committed`.
        """
        self._adopt(now)
        self._taken_at = now
        if samples.height:
            through = max(through, cast("int", samples[OFFSET].max()))
            live = samples.filter(~pl.col("imported")).select(_COLUMNS)
            live = live.with_columns(pl.col("occurred_at").dt.epoch("us"))
            for sampled in self._rules.values():
                after = sampled.state.offset if sampled.state.offset >= 0 else committed - 1
                self._judge(sampled, live.filter(pl.col(OFFSET) > max(after, self._offset)), now)
        self._offset = max(self._offset, through)
        return self._written(now)

    def tick(self, now: Micros) -> Judged:
        """Time has passed: instances may have fallen silent, and rules may have changed."""
        self._adopt(now)
        self._taken_at = now if self._taken_at is None else self._taken_at
        if now - self._taken_at >= self._limits.patience:
            for sampled in self._rules.values():
                self._look_for_silence(sampled, max(sampled.latest, now), now)
        return self._written(now)

    def _adopt(self, now: Micros) -> None:
        """Let changed rules take effect."""
        if self._wanted is None:
            return
        versions, self._wanted = self._wanted, None
        at = Judging(self._partition, now, self._limits)
        before, self._rules = self._rules, {}
        states = {name: sampled.state for name, sampled in before.items()} | self._restored
        self._restored = {}
        for version in versions:
            rule, revision = cast("SampledRule", version.rule), version.revision
            shape = (rule.kind, rule.grouping, rule.metric)
            state = states.pop(rule.id, None) or self._leaving.pop(rule.id, None)
            fresh = RuleState(rule.id, revision, shape, offset=self._offset)
            if state is not None and (state.ended or state.shape != shape):
                resolve(state, list(state.open), "the rule judges something else now", at)
                fresh.outbox, state = state.outbox, None
            sampled = before.get(rule.id) if state is not None else None
            if sampled is None:
                sampled = _Sampled(rule, state or fresh)
            elif sampled.rule != rule:
                sampled.rule, sampled.references, sampled.look_at = rule, References(), ALWAYS
            sampled.changed |= sampled.state.revision != revision
            sampled.state.revision = revision
            self._rules[rule.id] = sampled
            self._narrow(sampled, at)
        for name, state in states.items():
            if not state.ended:
                resolve(state, list(state.open), "the rule is gone, or judges something else now", at)
            state.ended = True
            self._leaving[name] = state

    def _narrow(self, sampled: _Sampled, at: Judging) -> None:
        """End the alerts of instances that the rule is not about any more."""
        state, rule = sampled.state, sampled.rule
        if rule.filter and state.open:
            frame = pl.DataFrame(list(state.open), schema=list(rule.keys), orient="row")
            about = set(frame.filter(rule.selects()).rows())
            gone = [group for group in state.open if group not in about]
            resolve(state, gone, "the rule is not about this any more", at)

    def _judge(self, sampled: _Sampled, samples: pl.DataFrame, now: Micros) -> None:
        """Judge every sample of the rule's, one after the other; their figures are worked out in columns."""
        rule, state = sampled.rule, sampled.state
        samples = samples.filter((pl.col("name") == rule.metric.removeprefix(SAMPLE_PREFIX)) & rule.selects())
        rows, offsets, times = [], [], []
        last = {group: seen.last for group, seen in state.seen.items()}
        for service, instance, _, value, at, offset in samples.iter_rows():
            group = (service, instance)
            if at <= last.get(group, ALWAYS):
                continue  # one that came before, or too late to be the latest
            last[group] = at
            rows.append((service, instance, *_figures(sampled, group, at, value)))
            offsets.append(offset)
            times.append(at)
        if not rows:
            return
        sampled.changed = True
        frame = pl.DataFrame(rows, schema=SAMPLE_SCHEMA, orient="row")
        frame = frame.with_columns(pl.col("count").alias("requests"), pl.Series("at", times))
        evaluated = self._evaluated(sampled, frame)
        for row, (at, offset) in enumerate(zip(times, offsets, strict=True)):
            group = (rows[row][0], rows[row][1])
            self._saw(sampled, group, at)
            self._look_for_silence(sampled, at, now)
            found = evaluated[row]
            verdict = Verdict.HOLDS if found is None else _verdict(*found)
            self._count(sampled, group, at, verdict is Verdict.VIOLATES, now)
            if verdict is Verdict.HOLDS and group not in state.open:
                continue
            window = _window(rule, at, Source(self._partition, offset, offset))
            evidence = bare(window) if found is None else evidence_of(found[0], found[1], window)
            self._pass(sampled, group, verdict, evidence, now)

    def _evaluated(self, sampled: _Sampled, frame: pl.DataFrame) -> list[tuple[Evaluated, int] | None]:
        """Of each row what it was held against, and its row there."""
        rule = sampled.rule
        if isinstance(rule, AbsenceRule):
            return [None] * frame.height
        whole = Window(0, 0, frame, 1, 1, whole=True)
        if not isinstance(rule, BaselineRule | ChangeRule):
            evaluated = evaluate(rule, whole)
            return [(evaluated, row) for row in range(frame.height)]
        found: list[tuple[Evaluated, int] | None] = []
        for row, at in enumerate(frame["at"].to_list()):
            one = Window(at - rule.window, at, frame[row : row + 1], 1, 1, whole=True)
            found.append((evaluate(rule, one, sampled.references.of(rule, at)), 0))
            sampled.references.forget(at)
        return found

    def _saw(self, sampled: _Sampled, group: Group, at: Micros) -> None:
        state = sampled.state
        state.seen.pop(group, None)
        state.seen[group] = Seen(at, 0)
        state.figures["latest"] = max(sampled.latest, at)
        sampled.look_at = min(sampled.look_at, at + sampled.rule.window)
        if len(state.seen) > self._limits.most_groups:
            least = next((each for each in state.seen if each not in state.open), None)
            if least is not None:
                del state.seen[least]
                sampled.samples.pop(least, None)
                state.forgotten += 1

    def _pass(
        self, sampled: _Sampled, group: Group, verdict: Verdict, evidence: Evidence, now: Micros
    ) -> None:
        """Let a verdict act on a group's alert."""
        rule, state = sampled.rule, sampled.state
        at = Judging(self._partition, now, self._limits)
        before = state.open.get(group)
        ends_pending = before is not None and before.state == PENDING and verdict is Verdict.HOLDS
        if evidence.window_end < now - self._limits.too_late and not ends_pending:
            return
        alert, changed = advance(before, verdict, rule.id, group, evidence.window_end, rule.consecutive)
        if alert is None:
            return
        sampled.changed = True
        if changed is None:
            state.open[group] = alert
            return
        sampled.look_at = ALWAYS  # what is looked for depends on the alerts that there are
        words = summary(rule, before or alert, changed, evidence)
        tell(state, alert, alert_record(rule, state.revision, alert, changed, evidence, now, words), at)
        state.closed.clear()

    def _count(self, sampled: _Sampled, group: Group, at: Micros, violates: bool, now: Micros) -> None:
        """Say once a minute what was evaluated."""
        minute = at - at % MINUTE + MINUTE
        if minute > sampled.minute:
            if sampled.counted:
                rule, violating = sampled.rule, sum(sampled.counted.values())
                window = Window(sampled.minute - rule.window, sampled.minute, pl.DataFrame(), 1, 1, True)
                reason = f"{violating} of {len(sampled.counted)} instances violated the rule"
                where = Judging(self._partition, now, self._limits)
                counted = (len(sampled.counted), violating)
                say(sampled.state, rule, window, "evaluated", reason, counted, where)
            sampled.minute, sampled.counted = minute, {}
        if minute == sampled.minute:
            sampled.counted[group] = violates or sampled.counted.get(group, False)

    def _look_for_silence(self, sampled: _Sampled, reached: Micros, now: Micros) -> None:
        """See which instances have had no sample for longer than the rule's window, at the time `reached`."""
        if reached < sampled.look_at:
            return
        rule, state = sampled.rule, sampled.state
        for group, seen in list(state.seen.items()):
            if seen.last + rule.window <= reached:
                self._miss(sampled, group, seen, reached, now)
        forget_after = self._limits.forget_after
        looks = (_next_look(sampled, group, seen, forget_after) for group, seen in state.seen.items())
        sampled.look_at = min(looks, default=reached)

    def _miss(self, sampled: _Sampled, group: Group, seen: Seen, reached: Micros, now: Micros) -> None:
        """An instance has had no sample in the window; `seen.requests` counts how often that was judged."""
        rule, state = sampled.rule, sampled.state
        given_up = reached - seen.last > self._limits.forget_after
        verdict = Verdict.HOLDS if given_up else _WITHOUT_DATA.get(rule.no_data, Verdict.UNKNOWN)
        alert = state.open.get(group)
        earliest = now - self._limits.too_late
        if verdict is Verdict.VIOLATES:
            # Judged each minute, as long as that makes a difference.
            silent = seen.last + rule.window
            seen.requests = max(seen.requests, -((silent - earliest) // MINUTE))
            while (alert is None or alert.state == PENDING) and silent + seen.requests * MINUTE <= reached:
                self._pass(sampled, group, verdict, _nothing(rule, silent + seen.requests * MINUTE), now)
                seen.requests += 1
                alert = state.open.get(group)
        elif verdict is Verdict.HOLDS and alert is not None:
            end = reached if given_up else max(seen.last + rule.window, earliest)
            self._pass(sampled, group, verdict, _nothing(rule, end), now)
        if given_up:
            del state.seen[group]
            sampled.samples.pop(group, None)
            sampled.changed = True

    def _written(self, now: Micros) -> Judged:
        out = Judged()
        for name in self._left:
            if name not in self._rules:
                out.entries[name.encode()] = None
        self._left.clear()
        for sampled in self._rules.values():
            state = sampled.state
            due = sampled.changed and now - sampled.written_at >= _WRITTEN_EVERY
            if not (due or state.outbox):
                continue
            state.offset = max(state.offset, self._offset)
            state.remembers_from = state.offset + 1
            self._send(state, sampled.pack(), out)
            sampled.changed, sampled.written_at = False, now
        for name, state in self._leaving.items():
            self._send(state, state.pack(), out)
            self._left.append(name)
        self._leaving.clear()
        return out

    def _send(self, state: RuleState, entry: bytes, out: Judged) -> None:
        out.alerts += state.outbox.alerts
        out.decisions += state.outbox.decisions
        out.entries[state.rule_id.encode()] = entry
        state.outbox = Outbox()


def _window(rule: SampledRule, at: Micros, source: Source) -> Window:
    return Window(at - rule.window, at, pl.DataFrame(), 1, 1, whole=True, find_sources=lambda: (source,))


def _figures(sampled: _Sampled, group: Group, at: Micros, value: float) -> tuple[int, float, float, float]:
    """Count, sum, maximum and last of the window that ends with this sample."""
    if not sampled.windowed:
        return 1, value, value, value
    held = sampled.held(group)
    held.append((at, value))
    while held[0][0] <= at - sampled.rule.window:
        held.popleft()
    values = np.array([each for _, each in held])
    return len(held), float(values.sum()), float(values.max()), value


def _nothing(rule: SampledRule, end: Micros) -> Evidence:
    return Evidence(end - rule.window, end, None, 0, 1, 1)


def _next_look(sampled: _Sampled, group: Group, seen: Seen, forget_after: Micros) -> Micros:
    """When an instance of which nothing more is heard is to be looked at again."""
    rule = sampled.rule
    alert = sampled.state.open.get(group)
    if rule.no_data == "alert" and (alert is None or alert.state == PENDING):
        return seen.last + rule.window + seen.requests * MINUTE
    if rule.no_data == "ok" and alert is not None:
        return seen.last + rule.window
    return seen.last + forget_after


def _verdict(evaluated: Evaluated, row: int) -> Verdict:
    if evaluated.violates[row]:
        return Verdict.VIOLATES
    return Verdict.HOLDS if evaluated.holds[row] else Verdict.UNKNOWN

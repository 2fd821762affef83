"""Judges one rule about a sampled state: its samples, its silent instances, and what becomes of their alerts.

Every sample is judged, with the window that ends with it. An instance has fallen silent when the log, or the
clock, has gone on for longer than the rule's window.
"""

from collections import deque
from typing import Final

import numpy as np
import polars as pl

from schemas.time import MINUTE, Micros
from streams.alerts.closed_share import Source
from streams.alerts.kinds import SampledRule
from streams.alerts.kinds.comparing import evidence_of
from streams.alerts.lifecycle import PENDING, Group, Verdict, advance
from streams.alerts.limits import Judging
from streams.alerts.measures import SAMPLE_PREFIX, SAMPLE_SCHEMA
from streams.alerts.pane_series import ALWAYS
from streams.alerts.records import Evidence, alert_record
from streams.alerts.references import References
from streams.alerts.state import RuleState, Seen
from streams.alerts.transitions import decide_pane, emit, remember
from streams.alerts.window import Window

_MOST_IN_WINDOW: Final = 6_000
"""Samples of one instance that a window holds: 100 minutes of one a second."""
_WITHOUT_DATA: Final = {"ok": Verdict.HOLDS, "alert": Verdict.VIOLATES}


class SampleJudge:
    """One rule, its state, and the samples that its window holds."""

    def __init__(self, rule: SampledRule, state: RuleState) -> None:
        self.rule = rule
        self.state = state
        self.changed = False
        """The state is to be written."""
        self.written_at: Micros = 0
        self._samples: dict[Group, deque[tuple[Micros, float]]] = {}
        self._look_at: Micros = ALWAYS
        """When the log has come so far, some instance may have been silent for too long."""
        self._minute: Micros = ALWAYS
        """The end of the minute of which is counted what was evaluated."""
        self._counted: dict[Group, bool] = {}
        """The groups evaluated in it, and which of them violated the rule."""
        if "samples" in state.frames:
            for service, instance, at, value in state.frames["samples"].iter_rows():
                self._held((service, instance)).append((at, value))

    @property
    def latest(self) -> Micros:
        """The latest time of a sample: how far the log has come."""
        return int(self.state.figures.get("latest", ALWAYS))

    def become(self, rule: SampledRule) -> None:
        """Go on with another version of the rule."""
        if self.rule != rule:
            self.rule, self.state.references, self._look_at = rule, References(), ALWAYS

    def pack(self) -> bytes:
        """The entry."""
        rows = [(*group, *sample) for group, held in self._samples.items() for sample in held]
        columns = {"service": pl.String, "instance": pl.String, "at": pl.Int64, "value": pl.Float64}
        self.state.frames = {"samples": pl.DataFrame(rows, schema=columns, orient="row")} if rows else {}
        return self.state.pack()

    def judge(self, samples: pl.DataFrame, at: Judging) -> None:
        """Judge every sample of the rule's, one after the other; their figures are worked out in columns.

        `samples` as `Sampling.take` has them, in the order of the log, times in microseconds.
        """
        rule, state = self.rule, self.state
        samples = samples.filter((pl.col("name") == rule.metric.removeprefix(SAMPLE_PREFIX)) & rule.selects())
        rows, offsets, times = [], [], []
        last = {group: seen.last for group, seen in state.seen.items()}
        for service, instance, _, value, time, offset in samples.iter_rows():
            group = (service, instance)
            if time <= last.get(group, ALWAYS):
                continue  # one that came before, or too late to be the latest
            last[group] = time
            rows.append((service, instance, *self._figures(group, time, value)))
            offsets.append(offset)
            times.append(time)
        if not rows:
            return
        self.changed = True
        frame = pl.DataFrame(rows, schema=SAMPLE_SCHEMA, orient="row")
        frame = frame.with_columns(pl.col("count").alias("requests"), pl.Series("at", times))
        evaluated = rule.evaluate_samples(frame, state.references)
        for row, (time, offset) in enumerate(zip(times, offsets, strict=True)):
            group = (rows[row][0], rows[row][1])
            self._remember(group, time, at)
            self.look_for_silence(time, at)
            found = evaluated[row]
            verdict = Verdict.HOLDS if found is None else found[0].verdict(found[1])
            self._count(group, time, verdict is Verdict.VIOLATES, at)
            if verdict is Verdict.HOLDS and group not in state.open:
                continue
            window = _window(rule, time, Source(at.partition, offset, offset))
            evidence = Evidence.without_data(window) if found is None else evidence_of(*found, window)
            self._apply(group, verdict, evidence, at)

    def look_for_silence(self, reached: Micros, at: Judging) -> None:
        """See which instances have had no sample for longer than the rule's window, at the time `reached`."""
        if reached < self._look_at:
            return
        for group, seen in list(self.state.seen.items()):
            if seen.last + self.rule.window <= reached:
                self._miss(group, seen, reached, at)
        looks = (self._next_look(group, seen, at) for group, seen in self.state.seen.items())
        self._look_at = min(looks, default=reached)

    def _held(self, group: Group) -> deque[tuple[Micros, float]]:
        """The group's samples that its window holds."""
        return self._samples.setdefault(group, deque(maxlen=_MOST_IN_WINDOW))

    def _figures(self, group: Group, time: Micros, value: float) -> tuple[int, float, float, float]:
        """Count, sum, maximum and last of the window that ends with this sample."""
        if not self.rule.holds_samples:
            return 1, value, value, value
        held = self._held(group)
        held.append((time, value))
        while held[0][0] <= time - self.rule.window:
            held.popleft()
        values = np.array([each for _, each in held])
        return len(held), float(values.sum()), float(values.max()), value

    def _remember(self, group: Group, time: Micros, at: Judging) -> None:
        state = self.state
        self._look_at = min(self._look_at, time + self.rule.window)
        let_go = remember(state, group, Seen(time, 0), at.limits)
        state.figures["latest"] = max(self.latest, time)
        if let_go is not None:
            self._samples.pop(let_go, None)

    def _apply(self, group: Group, verdict: Verdict, evidence: Evidence, at: Judging) -> None:
        """Let a verdict act on a group's alert."""
        rule, state = self.rule, self.state
        before = state.open.get(group)
        ends_pending = before is not None and before.state == PENDING and verdict is Verdict.HOLDS
        if evidence.window_end < at.now - at.limits.too_late and not ends_pending:
            return
        alert, changed = advance(before, verdict, rule.id, group, evidence.window_end, rule.consecutive)
        if alert is None:
            return
        self.changed = True
        if changed is None:
            state.open[group] = alert
            return
        self._look_at = ALWAYS  # what is looked for depends on the alerts that there are
        summary = rule.summary(before or alert, changed, evidence)
        emit(state, alert, alert_record(rule, state.revision, alert, changed, evidence, at.now, summary), at)
        state.closed.clear()

    def _count(self, group: Group, time: Micros, violates: bool, at: Judging) -> None:
        """Decide once a minute about all that were evaluated in it."""
        minute = time - time % MINUTE + MINUTE
        if minute > self._minute:
            if self._counted:
                counted = len(self._counted), sum(self._counted.values())
                window = Window(self._minute - self.rule.window, self._minute, pl.DataFrame(), 1, 1, True)
                reason = f"{counted[1]} of {counted[0]} instances violated the rule"
                decide_pane(self.state, self.rule, window, "evaluated", reason, counted, at)
            self._minute, self._counted = minute, {}
        if minute == self._minute:
            self._counted[group] = violates or self._counted.get(group, False)

    def _miss(self, group: Group, seen: Seen, reached: Micros, at: Judging) -> None:
        """An instance has had no sample in the window; `seen.requests` counts how often that was judged."""
        rule, state = self.rule, self.state
        given_up = reached - seen.last > at.limits.forget_after
        verdict = Verdict.HOLDS if given_up else _WITHOUT_DATA.get(rule.no_data, Verdict.UNKNOWN)
        alert = state.open.get(group)
        earliest = at.now - at.limits.too_late
        if verdict is Verdict.VIOLATES:
            # Judged each minute, as long as that makes a difference.
            silent = seen.last + rule.window
            seen.requests = max(seen.requests, -((silent - earliest) // MINUTE))
            while (alert is None or alert.state == PENDING) and silent + seen.requests * MINUTE <= reached:
                self._apply(group, verdict, _nothing(rule, silent + seen.requests * MINUTE), at)
                seen.requests += 1
                alert = state.open.get(group)
        elif verdict is Verdict.HOLDS and alert is not None:
            end = reached if given_up else max(seen.last + rule.window, earliest)
            self._apply(group, verdict, _nothing(rule, end), at)
        if given_up:
            del state.seen[group]
            self._samples.pop(group, None)
            self.changed = True

    def _next_look(self, group: Group, seen: Seen, at: Judging) -> Micros:
        """When an instance that has no more samples is to be looked at again."""
        rule, alert = self.rule, self.state.open.get(group)
        if rule.no_data == "alert" and (alert is None or alert.state == PENDING):
            return seen.last + rule.window + seen.requests * MINUTE
        if rule.no_data == "ok" and alert is not None:
            return seen.last + rule.window
        return seen.last + at.limits.forget_after


def _window(rule: SampledRule, end: Micros, source: Source) -> Window:
    return Window(end - rule.window, end, pl.DataFrame(), 1, 1, whole=True, find_sources=lambda: (source,))


def _nothing(rule: SampledRule, end: Micros) -> Evidence:
    return Evidence(end - rule.window, end, None, 0, 1, 1)

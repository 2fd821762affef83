"""Rules that compare a window's value with a threshold: verdicts for each group, and what is restated later.

Groups are handled in columns; one by one only those that violate, or have an alert.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Final

import numpy as np
import polars as pl

from schemas.time import Micros
from streams.alerts.kinds.comparison import Evaluated
from streams.alerts.kinds.evaluation import evaluate
from streams.alerts.kinds.windowed import WindowedRule
from streams.alerts.lifecycle import Group, OpenAlert, Record, Verdict
from streams.alerts.limits import Judging, Limits
from streams.alerts.records import Evidence, number, window_summary
from streams.alerts.references import References
from streams.alerts.state import RuleState, Seen
from streams.alerts.transitions import apply, correct, decide_pane, given_up, pass_over, remember
from streams.alerts.window import HeldPanes, JudgedPane, Window

_WITHOUT_DATA: Final = {"keep": Verdict.UNKNOWN, "ok": Verdict.HOLDS, "alert": Verdict.VIOLATES}


class ComparingRule(WindowedRule):
    """A rule with a threshold. Its kinds say what is compared with it (`compare`), and in which unit."""

    def summary(self, alert: OpenAlert, state: str, evidence: Evidence) -> str:
        """The value of the window, and the threshold."""
        return window_summary(self, alert, state, evidence)

    def is_known(self, reference: pl.DataFrame | None) -> bool:
        """Whether there is what the value is compared with."""
        return True

    def judge(self, state: RuleState, pane: JudgedPane, at: Judging) -> None:
        """Hold the rule against the window."""
        window, limits = pane.window, at.limits
        evaluated = evaluate(self, window, self.reference(state.references, window.end))
        asked = bool(len(evaluated) or not self.keys or state.open or state.seen)
        self._remember(state, evaluated, window.end, limits)
        verdicts = dict(self._verdicts(state, evaluated, window, limits))
        excess = _keep_within(verdicts, state, limits)
        if asked:
            what, reason = _in_words(evaluated, window)
            if excess:
                reason += f"; {excess} of them make no alert, as a rule has at most {limits.most_groups}"
            value = number(evaluated.values[0]) if len(evaluated) == 1 else None
            counted = len(evaluated), int(evaluated.violates.sum())
            decide_pane(state, self, window, what, reason, counted, at, value=value)

        def evidence(group: Group) -> Evidence:
            return evidence_of(evaluated, evaluated.row_of.get(group), window)

        apply(state, self, window.end, verdicts, evidence, at)

    def pass_over(self, state: RuleState, held: HeldPanes, upto: Micros, at: Judging) -> None:
        """Windows that end too long ago are not judged."""
        pass_over(state, self, held, upto, at)

    def restate(self, state: RuleState, held: HeldPanes, ends: AbstractSet[Micros], at: Judging) -> bool:
        """State the figures of transitions anew whose windows have changed."""
        found = False
        for record in [*(alert.record for alert in state.open.values()), *state.closed]:
            start, end = record["window_start"], record["window_end"]
            if end - start != self.window or not any(start < each <= end for each in ends):
                continue
            window, reference = held.ending_at(end).window, self.reference(state.references, end)
            if window.whole and self.is_known(reference):
                self._restate(state, record, window, evaluate(self, window, reference), at)
                found = True
        return found

    @property
    def holds_samples(self) -> bool:
        """Whether more than the latest sample counts."""
        return self.aggregation != "last"

    def evaluate_samples(
        self, frame: pl.DataFrame, references: References
    ) -> list[tuple[Evaluated, int] | None]:
        """Of each sample what it is held against, and its row there.

        `frame` is as in `measures.SAMPLE_SCHEMA` (the figures of the window that ends with the sample), with
        `requests` and `at`.
        """
        evaluated = evaluate(self, Window(0, 0, frame, 1, 1, whole=True))
        return [(evaluated, row) for row in range(frame.height)]

    def _restate(
        self, state: RuleState, record: Record, window: Window, evaluated: Evaluated, at: Judging
    ) -> None:
        group = tuple(pair.partition("=")[2] for pair in record["group"])
        evidence = evidence_of(evaluated, evaluated.row_of.get(group), window)
        correct(state, self, record, group, evidence, at.now)

    def _remember(self, state: RuleState, evaluated: Evaluated, end: Micros, limits: Limits) -> None:
        """Remember which groups had data: all, if the rule alerts when they have none, else those with
        alerts."""
        if self.no_data == "alert":
            with_data = evaluated.groups.filter(pl.Series(~evaluated.no_data, dtype=pl.Boolean))
            groups = [()] * int((~evaluated.no_data).sum()) if not self.keys else with_data.rows()
            for group in groups:
                remember(state, group, Seen(end, 0), limits)
            return
        for group in state.open:
            row = evaluated.row_of.get(group)
            if row is not None and not evaluated.no_data[row]:
                remember(state, group, Seen(end, 0), limits)

    def _verdicts(
        self, state: RuleState, evaluated: Evaluated, window: Window, limits: Limits
    ) -> Iterator[tuple[Group, Verdict]]:
        for violating in np.flatnonzero(evaluated.violates).tolist():
            yield evaluated.group(violating), Verdict.VIOLATES
        without_data = _WITHOUT_DATA[self.no_data] if window.complete else Verdict.UNKNOWN
        for group in [*state.open, *(group for group in state.seen if group not in state.open)]:
            row = evaluated.row_of.get(group)
            if row is None or evaluated.no_data[row]:
                is_over = given_up(state, group, window.end, limits)
                yield group, Verdict.HOLDS if is_over else without_data
            elif evaluated.holds[row]:
                yield group, Verdict.HOLDS


def evidence_of(evaluated: Evaluated, row: int | None, window: Window) -> Evidence:
    """What the window says of the group in a row; None: of one that has no data."""
    if row is None:
        return Evidence.without_data(window)
    figures = {name: number(values[row]) for name, values in evaluated.extra.items()}
    return replace(
        Evidence.without_data(window),
        value=number(evaluated.values[row]),
        requests=int(evaluated.requests[row]),
        at_least=bool(evaluated.at_least[row]),
        details=tuple(f"{name}={value:.6g}" for name, value in figures.items() if value is not None),
    )


def _keep_within(verdicts: dict[Group, Verdict], state: RuleState, limits: Limits) -> int:
    """Leave out groups that would make more alerts than are kept, in their order; how many these are."""
    room = max(limits.most_groups - len(state.open), 0)
    new = [group for group, each in verdicts.items() if each is Verdict.VIOLATES and group not in state.open]
    excess = sorted(new)[room:] if len(new) > room else []
    for group in excess:
        del verdicts[group]
    state.forgotten += len(excess)
    return len(excess)


def _in_words(evaluated: Evaluated, window: Window) -> tuple[str, str]:
    """What was decided about the pane as a whole, and why."""
    groups = len(evaluated)
    if not window.whole:
        return "incomplete", "earlier panes of the window are not known"
    if not window.complete:
        return "incomplete", f"{window.parts_expected - window.parts} source partitions stayed behind"
    if evaluated.no_data.all():
        return "no-data", "no group had data"
    if (evaluated.no_data | evaluated.no_baseline).all():
        return "no-baseline", "nothing is known that the value could be held against"
    if (evaluated.no_data | evaluated.no_baseline | evaluated.too_few).all():
        return "too-few-requests", "no group had the requests that the rule wants"
    return "evaluated", f"{int(evaluated.violates.sum())} of {groups} groups violate the rule"

"""Rules of kind budget: what was used in a period reaches a step of the limit."""

from datetime import tzinfo
from typing import ClassVar, Final

import polars as pl

from schemas.time import Micros
from streams.alerts.kinds.budget import steps
from streams.alerts.kinds.budget.evidence import summary_of
from streams.alerts.kinds.budget.period import period_of
from streams.alerts.kinds.budget.spending import slot_length
from streams.alerts.kinds.budget.terms import BudgetTerms
from streams.alerts.kinds.kind import GONE, dumped
from streams.alerts.lifecycle import OpenAlert
from streams.alerts.limits import Judging
from streams.alerts.needs import Need
from streams.alerts.records import Evidence
from streams.alerts.state import RuleState
from streams.alerts.window import HeldPanes, JudgedPane

_BEGINS_ANEW: Final = ("metric", "period", "filter")
"""A budget that changes in one of these counts something else."""


class BudgetRule(BudgetTerms):
    """Fires when what was used since the period began reaches a step of the limit: once per period, group and
    step."""

    counts: ClassVar[bool] = True

    @property
    def tells_resolved(self) -> bool:
        """Only if it is asked for: a period's end resolves every alert."""
        return self.tell_reset

    def summary(self, alert: OpenAlert, state: str, evidence: Evidence) -> str:
        """That a step is reached."""
        return summary_of(self, alert.group, evidence)

    def needs(self, state: RuleState, reached: Micros) -> Need | None:
        """What was used in the period before it was counted here."""
        span = steps.unknown_span(state)
        if span is None:
            return None
        return Need("spent", *span, None if isinstance(self.period, str) else slot_length(self))

    def learn(self, state: RuleState, need: Need, frame: pl.DataFrame) -> None:
        """Add what was used before."""
        if need.what == "spent":
            steps.add_history(state, self, need.start, need.until, frame)

    def counts_from(self, start: Micros, zone: tzinfo) -> Micros:
        """The beginning of the period."""
        return period_of(self, start, zone)[0]

    def judge(self, state: RuleState, pane: JudgedPane, at: Judging) -> None:
        """Count the minute, and publish the steps that are reached."""
        steps.spend(state, self, pane, at)

    def pass_over(self, state: RuleState, held: HeldPanes, upto: Micros, at: Judging) -> None:
        """What is late is counted, too."""
        for end in held.ends(state.judged or 0, upto):
            self.judge(state, held.ending_at(end), at)
            state.judged = end

    def count_late(
        self, state: RuleState, end: Micros, rows: pl.DataFrame, replaced: pl.DataFrame | None
    ) -> bool:
        """Count the difference."""
        return steps.count_late(state, self, rows, replaced, end)

    def revise(self, state: RuleState, at: Judging) -> None:
        """What is counted stays, unless it is something else by now."""
        former, present = state.figures.get("rule", {}), dumped(self)
        if any(former.get(name) != present.get(name) for name in _BEGINS_ANEW):
            self.end(state, GONE, at)
            state.figures, state.frames = {}, {}
        elif state.figures:
            steps.revise(state, self, at.now)

    @classmethod
    def end(cls, state: RuleState, why: str, at: Judging) -> None:
        """Its alerts are in the columns, and what they are about is in the figures."""
        if "rule" in state.figures:
            steps.resolve_all(state, cls.model_validate(state.figures["rule"]), why, at.now)
        super().end(state, why, at)

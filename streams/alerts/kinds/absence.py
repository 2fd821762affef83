"""Rules of kind absence: a group that had data has none any more."""

from dataclasses import replace
from typing import ClassVar, Literal

import polars as pl
from pydantic import StrictInt, ValidationInfo, field_validator

from schemas.time import MINUTE, SECOND, Micros
from streams.alerts.bounds import whole_panes
from streams.alerts.errors import FieldError
from streams.alerts.fields import Duration, described
from streams.alerts.kinds.comparison import Evaluated
from streams.alerts.kinds.grouped import GroupedRule
from streams.alerts.lifecycle import Group, OpenAlert, Verdict
from streams.alerts.limits import Judging
from streams.alerts.measures import SAMPLE_PREFIX
from streams.alerts.records import Evidence, window_summary
from streams.alerts.references import References
from streams.alerts.state import RuleState, Seen
from streams.alerts.transitions import apply, decide_pane, given_up, pass_over, remember
from streams.alerts.units import Unit
from streams.alerts.window import HeldPanes, JudgedPane


class AbsenceRule(GroupedRule):
    """Fires when a group that had data has none any more."""

    kind: Literal["absence"]
    metric: str = described(
        "What is missed: requests, or a sampled state (sample:<name>).", default="requests"
    )
    window: Duration = described("For how long there was nothing: whole minutes, to 100.")
    minimum_requests: StrictInt = described(
        "How many requests the group must have had in a window of the same length, up to the last that "
        "came: a group that had fewer may well pause.",
        default=0,
        ge=0,
    )

    aggregation: ClassVar[Literal["sum"]] = "sum"
    operator: ClassVar[Literal["<="]] = "<="
    pane: ClassVar[Literal["1m"]] = "1m"
    consecutive: ClassVar[int] = 1
    no_data: ClassVar[Literal["alert"]] = "alert"

    @property
    def panes(self) -> int:
        """How many panes make a window."""
        return self.window // MINUTE

    @property
    def seconds(self) -> float:
        """The window's length."""
        return self.window / SECOND

    @property
    def measured_unit(self) -> Unit:
        """The unit of the metric."""
        return self.measure.unit(self.aggregation)

    @property
    def threshold_unit(self) -> Unit:
        """The same: what is held against nothing."""
        return self.measured_unit

    def summary(self, alert: OpenAlert, state: str, evidence: Evidence) -> str:
        """That there is no data, or again some."""
        return window_summary(self, alert, state, evidence)

    def judge(self, state: RuleState, pane: JudgedPane, at: Judging) -> None:
        """Look for groups that had data and have none in the window."""
        window = pane.window
        rows = self.selected(window.rows)
        requests = dict(zip(self._groups(rows), rows["requests"].to_list(), strict=True))
        for group in self._groups(self.selected(pane.latest)):
            remember(state, group, Seen(window.end, requests[group]), at.limits)
        missed = {
            group
            for group, seen in state.seen.items()
            if group not in requests and seen.requests >= self.minimum_requests
        }
        if requests or missed:
            reason = f"{len(missed)} of {len(requests) + len(missed)} groups had no data"
            what = "evaluated" if window.complete else "incomplete"
            decide_pane(state, self, window, what, reason, (len(requests) + len(missed), len(missed)), at)
        known = window.complete
        verdicts = dict.fromkeys(requests, Verdict.HOLDS if known else Verdict.UNKNOWN)
        for group in missed:
            is_over = given_up(state, group, window.end, at.limits)
            verdicts[group] = Verdict.HOLDS if is_over else Verdict.VIOLATES if known else Verdict.UNKNOWN

        def evidence(group: Group) -> Evidence:
            count = requests.get(group, 0)
            value = float(count) if count else None
            return replace(Evidence.without_data(window), value=value, requests=count)

        apply(state, self, window.end, verdicts, evidence, at)

    def pass_over(self, state: RuleState, held: HeldPanes, upto: Micros, at: Judging) -> None:
        """Windows that end too long ago are not judged."""
        pass_over(state, self, held, upto, at)

    @property
    def holds_samples(self) -> bool:
        """Whether more than the latest sample counts."""
        return False

    def evaluate_samples(
        self, frame: pl.DataFrame, references: References
    ) -> list[tuple[Evaluated, int] | None]:
        """A sample is held against nothing: that it is there is enough."""
        return [None] * frame.height

    def _groups(self, rows: pl.DataFrame) -> list[Group]:
        return rows.select(self.keys).rows() if self.keys else [()] * rows.height

    @field_validator("metric")
    @classmethod
    def _missable(cls, name: str) -> str:
        if name != "requests" and not name.startswith(SAMPLE_PREFIX):
            raise FieldError(
                f"{name} is counted from requests", "write requests, or a sampled state as sample:<name>"
            )
        return name

    @field_validator("window")
    @classmethod
    def _possible_window(cls, window: Micros) -> Micros:
        return whole_panes(window, "1m")

    @field_validator("minimum_requests")
    @classmethod
    def _requests_to_count(cls, least: int, info: ValidationInfo) -> int:
        if least and str(info.data.get("metric")).startswith(SAMPLE_PREFIX):
            raise FieldError("sampled states have no requests", "leave it out")
        return least

"""Rules of kind watchdog: always firing, for a dead man's switch outside."""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

from schemas.time import MINUTE, Micros
from streams.alerts.fields import Duration, Severity, described
from streams.alerts.kinds.kind import RuleBase
from streams.alerts.lifecycle import FIRING, OpenAlert, alert_id
from streams.alerts.limits import Judging
from streams.alerts.records import Evidence, alert_record
from streams.alerts.state import RuleState
from streams.alerts.transitions import emit, pass_over
from streams.alerts.units import NUMBER, Unit
from streams.alerts.window import HeldPanes, JudgedPane


class WatchdogRule(RuleBase):
    """Always fires, for a dead man's switch outside: when its notifications stop, something is broken."""

    kind: Literal["watchdog"]
    severity: Severity = described(
        "How bad it is when it fires: info, warning, error or critical.", default="info"
    )
    repeat_interval: Duration = described("How often it is told that all is well.", default=5 * MINUTE)

    metric: ClassVar[str] = "watchdog"
    grouping: ClassVar[str] = "total"
    keys: ClassVar[tuple[str, ...]] = ()
    filter: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    aggregation: ClassVar[Literal["last"]] = "last"
    operator: ClassVar[Literal[">="]] = ">="
    pane: ClassVar[Literal["1m"]] = "1m"
    window: ClassVar[Micros] = MINUTE
    minimum_requests: ClassVar[int] = 0
    consecutive: ClassVar[int] = 1
    no_data: ClassVar[Literal["alert"]] = "alert"

    reminds_itself: ClassVar[bool] = True
    """The notifier alone could not know that all is well."""

    @property
    def threshold_unit(self) -> Unit:
        """None: it is a bare number."""
        return NUMBER

    def summary(self, alert: OpenAlert, state: str, evidence: Evidence) -> str:
        """That judging goes on."""
        return f"{self.name}: panes are closed and judged"

    def judge(self, state: RuleState, pane: JudgedPane, at: Judging) -> None:
        """Fire at first, and again after each interval, as a further transition."""
        window = pane.window
        if not window.complete:
            return
        alert = state.open.get(())
        if alert is None:
            alert = OpenAlert((), alert_id(self.id, (), window.end), "firing", 1, window.end, 1)
        elif window.end - int(alert.record["changed_at"]) >= self.repeat_interval:
            alert = replace(alert, transition=alert.transition + 1)
        else:
            return
        evidence = Evidence.without_data(window)
        summary = self.summary(alert, FIRING, evidence)
        emit(state, alert, alert_record(self, state.revision, alert, FIRING, evidence, at.now, summary), at)

    def pass_over(self, state: RuleState, held: HeldPanes, upto: Micros, at: Judging) -> None:
        """What is late is no sign of life."""
        pass_over(state, self, held, upto, at)

"""What every rule has, and the contract of a kind of rules: what `Judge` asks of it.

A kind is one class in one module: its fields, what it has to know of the past, how it judges a pane, how it
revises what it said, its unit and its words. `streams.alerts.kinds` lists all of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Set as AbstractSet
from datetime import tzinfo
from typing import Any, ClassVar, Final, get_args

import polars as pl
from pydantic import BaseModel, ConfigDict, StrictBool, field_validator

from schemas.time import DAY, HOUR, MINUTE, Micros
from streams.alerts.bounds import within
from streams.alerts.fields import Duration, Labels, RuleId, RulePattern, Severity, Text, described
from streams.alerts.lifecycle import OpenAlert
from streams.alerts.limits import Judging
from streams.alerts.needs import Need
from streams.alerts.quiet import QuietHours
from streams.alerts.records import Evidence
from streams.alerts.state import RuleState
from streams.alerts.transitions import resolve
from streams.alerts.units import Unit
from streams.alerts.window import HeldPanes, JudgedPane

GONE: Final = "the rule is gone, or judges something else now"
"""Why the alerts of a rule end that is no more."""


class RuleBase(BaseModel, ABC):
    """What every rule has, and what its kind says of it.

    A rule is data. No method changes it, reads the clock (that is `at.now`), waits, or keeps anything but in
    the `RuleState` that it is given; and none may depend on how the log was cut into fetches. `Judge` calls
    them for the panes of `grouping` and `pane`, with the window of `window` that ends with each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: RuleId = described("What the rule is known by, and stays: small letters, digits, - and _.")
    name: Text = described("What it is called in notifications.")
    description: str = described(
        "What it is good for, and what to do when it fires.", default="", max_length=4000
    )
    enabled: StrictBool = described("Whether it is judged.", default=True)
    severity: Severity = described("How bad it is when it fires: info, warning, error or critical.")
    labels: Labels = described("What its alerts can be told apart by, besides: team: payments.", default={})
    repeat_interval: Duration = described(
        "How long after a notification one is sent again while the alert still fires.", default=4 * HOUR
    )
    quiet_hours: tuple[QuietHours, ...] = described(
        "When its alerts wait: what still fires at the end of these hours is told then.", default=()
    )
    inhibits: tuple[RulePattern, ...] = described(
        "Ids of rules (* stands for anything) whose alerts aren't told while one of this rule fires for the "
        "same group, or for one that contains it.",
        default=(),
    )
    inhibited_by: tuple[RulePattern, ...] = described(
        "Ids of rules that inhibit this one: the same, said from the other side.", default=()
    )

    reminds_itself: ClassVar[bool] = False
    """Its alerts come again by themselves while they fire: the notifier sends no reminders of them."""
    counts: ClassVar[bool] = False
    """It counts panes instead of looking at windows: what is late is counted at once, by `count_late`."""

    @field_validator("repeat_interval")
    @classmethod
    def _bounded_interval(cls, span: Micros) -> Micros:
        return within(span, MINUTE, 30 * DAY)

    # What it states of itself.

    @classmethod
    def kind_name(cls) -> str:
        """The name of the kind, which its field `kind` allows alone."""
        return str(get_args(cls.model_fields["kind"].annotation)[0])

    @property
    @abstractmethod
    def threshold_unit(self) -> Unit:
        """The unit of what it compares: of its alerts' value and threshold."""

    @property
    def stated_threshold(self) -> float | None:
        """The one threshold that a value is held against, in that unit; None where there is none."""
        return None

    @property
    def tells_resolved(self) -> bool:
        """Whether it is to be notified that its alerts have resolved."""
        return True

    @abstractmethod
    def summary(self, alert: OpenAlert, state: str, evidence: Evidence) -> str:
        """One sentence for a person: the alert has gone to `state`, for what is in evidence.

        It must not say more than the evidence does: the sentence is made again when that is corrected.
        """

    # What it needs.

    @property
    def latencies(self) -> tuple[str, ...]:
        """The latencies (`streams.catalogue.measures.LATENCIES`) that its windows must have."""
        return ()

    def needs(self, state: RuleState, reached: Micros) -> Need | None:
        """What it has to know of the past; `reached`: up to where it is judged. None: nothing, for now.

        Asked again and again, so it must be the same until it is answered. It must not take an answer for
        granted: a pane is judged when it is due, with or without it.
        """
        return None

    def learn(self, state: RuleState, need: Need, frame: pl.DataFrame) -> None:
        """Take the answer, as `streams.alerts.history_client.read` gives it.

        It must not take one twice, nor one to what it doesn't need any more. Nothing is said because of it:
        the next pane says what there is to say.
        """

    def known_until(self, until: Micros, now: Micros) -> Micros:
        """Up to where, at most `until`, what it needs can be in ClickHouse by `now`."""
        return until

    def counts_from(self, start: Micros, zone: tzinfo) -> Micros | None:
        """From where on it has to be given all panes to be judged at `start`; None: from its window on."""
        return None

    # How it judges.

    @abstractmethod
    def judge(self, state: RuleState, pane: JudgedPane, at: Judging) -> None:
        """Judge the pane that comes next: what changes goes into the state and its outbox.

        Called once a pane, in their order; `state.judged` is the end of the pane before. It must not resolve
        or raise anything for want of data in a window that is not complete.
        """

    @abstractmethod
    def pass_over(self, state: RuleState, held: HeldPanes, upto: Micros, at: Judging) -> None:
        """Panes after `state.judged`, up to `upto`, come too late (`at.too_late`).

        It must not fire for them. It says in a decision that they were passed over.
        """

    # How it revises.

    def count_late(
        self, state: RuleState, end: Micros, rows: pl.DataFrame, replaced: pl.DataFrame | None
    ) -> bool:
        """A judged pane has other rows for these groups now: whether that changes the state.

        For kinds that count. It must not publish anything: late events never fire into the past.
        """
        return False

    def restate(self, state: RuleState, held: HeldPanes, ends: AbstractSet[Micros], at: Judging) -> bool:
        """Judged panes that end then have changed: state anew what rests on them; whether anything does.

        For kinds that look at windows. It must not change any alert, only the figures that were stated.
        """
        return False

    def revise(self, state: RuleState, at: Judging) -> None:
        """This version of the rule takes the state of an earlier one: end the alerts that it would not raise.

        Kind, grouping and pane are the same; with others it would have begun with an empty state. It must
        not raise anything: the next pane does.
        """

    @classmethod
    def end(cls, state: RuleState, why: str, at: Judging) -> None:
        """The rule is gone: resolve its alerts. There is no rule any more, only what the state has of it."""
        resolve(state, list(state.open), why, at)


def dumped(rule: RuleBase) -> dict[str, Any]:
    """The rule as JSON that `parse_rule` reads as the same rule: all fields, units as people write them."""
    return {"id": rule.id, "kind": rule.kind_name(), **rule.model_dump(mode="json")}

"""What a judge is given, what it asks, and what a step of it comes to."""

from dataclasses import dataclass, field
from typing import NamedTuple

from schemas.time import Micros
from streams.alerts.kinds import Rule
from streams.alerts.kinds.kind import RuleBase
from streams.alerts.lifecycle import Record
from streams.alerts.needs import Need, Wanted
from streams.alerts.state import Outbox, RuleState


class RuleVersion(NamedTuple):
    """A rule, and the revision of its definition."""

    rule: Rule
    revision: int


class Question(NamedTuple):
    """What a rule has to know of the past, from `start` to `until` (excluded)."""

    rule: RuleBase
    what: Wanted
    start: Micros
    until: Micros
    step: Micros | None = None
    """In spans of which length the sums are to be; None: in one."""

    @property
    def need(self) -> Need:
        """What is asked, whichever rule asks it."""
        return Need(*self[1:])


@dataclass
class Judged:
    """What a step has come to: `entries` are to be written first, then the records are to be sent."""

    alerts: list[Record] = field(default_factory=list)
    """As in `schemas/alert.avsc`."""
    decisions: list[Record] = field(default_factory=list)
    """As in `schemas/decision.avsc`."""
    entries: dict[bytes, bytes | None] = field(default_factory=dict)
    """Entries of the state by key; None: to be deleted."""
    refused: int = 0
    """Shares whose rows could not be read."""

    def take_outbox(self, state: RuleState) -> None:
        """Add what a state has to send; that is then done."""
        self.alerts += state.outbox.alerts
        self.decisions += state.outbox.decisions
        state.outbox = Outbox()

    def __bool__(self) -> bool:
        return bool(self.alerts or self.decisions or self.entries)

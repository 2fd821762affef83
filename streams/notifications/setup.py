"""What people have set up, as the notifier needs it, and what follows from it for an alert."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo
from functools import cached_property
from typing import Literal, NamedTuple

from schemas.time import Micros
from streams.alerts.rule import RuleBase
from streams.endpoints.endpoint import Endpoint
from streams.notifications.body import instant
from streams.notifications.inhibition import Inhibition, Inhibitors
from streams.notifications.quiet import Quiet
from streams.notifications.routing import Routing
from streams.notifications.silence import Acknowledgement, Silence
from streams.notifications.transition import Transition

Held = Literal["acknowledged", "silenced", "inhibited", "quiet"]


class Hold(NamedTuple):
    """Why an alert isn't told now."""

    what: Held
    by: str
    """The silence, the acknowledgement, the alert that inhibits; empty for quiet hours."""
    reason: str


@dataclass(frozen=True)
class Setup:
    """Rules, endpoints, silences and acknowledgements, each by id; `zone` is the service's time zone."""

    rules: Mapping[str, RuleBase]
    endpoints: Mapping[str, Endpoint]
    silences: Mapping[str, Silence | Acknowledgement]
    zone: tzinfo = UTC

    @cached_property
    def routing(self) -> Routing:
        """Who is told."""
        return Routing(self.endpoints)

    @cached_property
    def inhibitors(self) -> Inhibitors:
        """Which rules inhibit which."""
        return Inhibitors(self.rules)

    @cached_property
    def quiet(self) -> Quiet:
        """When rules are quiet."""
        return Quiet(self.rules, self.zone)

    @cached_property
    def acknowledgements(self) -> dict[str, Acknowledgement]:
        """By the alert that they are about."""
        return {each.alert_id: each for each in self.silences.values() if isinstance(each, Acknowledgement)}

    def active(self, now: Micros) -> list[Silence]:
        """The silences that hold now, in a stable order."""
        found = [each for each in self.silences.values() if isinstance(each, Silence) and each.active(now)]
        return sorted(found, key=lambda silence: silence.id)

    def repeat_interval(self, rule_id: str, otherwise: Micros) -> Micros:
        """How long after a notification one is sent again."""
        rule = self.rules.get(rule_id)
        return otherwise if rule is None else rule.repeat_interval

    def tells_resolved(self, rule_id: str) -> bool:
        """Whether the rule wants it told that its alerts have resolved."""
        rule = self.rules.get(rule_id)
        return rule is None or rule.tells_resolved


class Holding:
    """What holds alerts back at one moment. Each is looked at once, however many endpoints it concerns."""

    def __init__(self, setup: Setup, firing: Mapping[str, Mapping[str, Transition]], now: Micros) -> None:
        self._setup = setup
        self._now = now
        self._silences = setup.active(now)
        self._inhibition = Inhibition(setup.inhibitors, firing)
        self._known: dict[str, Hold | None] = {}

    def of(self, heard: Transition) -> Hold | None:
        """Why an alert that fires isn't told; None when it is."""
        if heard.alert_id not in self._known:
            self._known[heard.alert_id] = (
                self._acknowledged(heard)
                or self._silenced(heard)
                or self._inhibited(heard)
                or self.quiet(heard)
            )
        return self._known[heard.alert_id]

    def of_resolved(self, heard: Transition) -> Hold | None:
        """The same for one that nobody was told of before it resolved: acknowledging it changes nothing."""
        return self._silenced(heard) or self._inhibited(heard) or self.quiet(heard)

    def quiet(self, heard: Transition) -> Hold | None:
        """Whether the rule has quiet hours."""
        until = self._setup.quiet.until(heard.rule_id, self._now)
        if until is None:
            return None
        return Hold("quiet", "", f"the rule is quiet until {instant(until)}")

    def _acknowledged(self, heard: Transition) -> Hold | None:
        found = self._setup.acknowledgements.get(heard.alert_id)
        if found is None:
            return None
        because = f": {found.reason}" if found.reason else ""
        return Hold("acknowledged", found.id, f"acknowledged by {found.author}{because}")

    def _silenced(self, heard: Transition) -> Hold | None:
        for silence in self._silences:
            if silence.matches(heard.properties):
                until = silence.ends_at.isoformat()
                return Hold(
                    "silenced", silence.id, f"silenced by {silence.author} until {until}: {silence.reason}"
                )
        return None

    def _inhibited(self, heard: Transition) -> Hold | None:
        by = self._inhibition.of(heard)
        if by is None:
            return None
        return Hold("inhibited", by.alert_id, f"inhibited by {by.rule_name}: {by.summary}")

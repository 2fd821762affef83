"""Quiet hours: when the alerts of a rule wait, until those that still fire are told."""

from collections.abc import Mapping
from datetime import tzinfo

from schemas.time import Micros
from streams.alerts.quiet import quiet_until
from streams.alerts.rule import RuleBase


class Quiet:
    """The quiet hours of the rules there are. What they say of a rule is asked for once per moment."""

    def __init__(self, rules: Mapping[str, RuleBase], zone: tzinfo) -> None:
        self._rules = {rule.id: rule for rule in rules.values() if rule.quiet_hours}
        self._zone = zone
        self._asked: dict[str, tuple[Micros, Micros | None]] = {}

    def until(self, rule_id: str, now: Micros) -> Micros | None:
        """When the rule's quiet hours end; None while there are none."""
        rule = self._rules.get(rule_id)
        if rule is None:
            return None
        asked = self._asked.get(rule_id)
        if asked is None or asked[0] != now:
            asked = self._asked[rule_id] = (now, quiet_until(rule.quiet_hours, now, self._zone))
        return asked[1]

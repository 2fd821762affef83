"""Inhibition: an alert isn't told while another fires that explains it.

An alert of a rule inhibits those of the rules that it names (or that name it) for the same group, or for
one within it: the total explains every model. Pending alerts inhibit nothing; silenced and acknowledged
ones do, since their cause is known. Where rules inhibit each other, the alert that began first explains
the others, so that one of them is always told.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache

from streams.alerts.rule import RuleBase
from streams.endpoints.subscription import matches
from streams.notifications.transition import Transition

_Age = tuple[int, str]


class Inhibitors:
    """Which rules inhibit which: worked out once for the rules there are."""

    def __init__(self, rules: Mapping[str, RuleBase]) -> None:
        self._rules = rules
        self._of: dict[str, frozenset[str]] = {}
        self.any = any(rule.inhibits or rule.inhibited_by for rule in rules.values())

    def of(self, rule_id: str) -> frozenset[str]:
        """The rules whose alerts inhibit those of this one."""
        known = self._of.get(rule_id)
        if known is None:
            own = self._rules.get(rule_id)
            known = self._of[rule_id] = frozenset(
                other.id
                for other in self._rules.values()
                if _named(rule_id, other.inhibits) or (own is not None and _named(other.id, own.inhibited_by))
            )
        return known

    @lru_cache(maxsize=10_000)  # noqa: B019 - goes with the rules
    def mutual(self, one: str, other: str) -> bool:
        """Whether `one`, which inhibits `other`, is inhibited by it in turn, be it over several."""
        seen: set[str] = set()
        ahead = [one]
        while ahead:
            rule_id = ahead.pop()
            if rule_id == other:
                return True
            if rule_id not in seen:
                seen.add(rule_id)
                ahead += self.of(rule_id)
        return False


def _named(rule_id: str, patterns: Iterable[str]) -> bool:
    return any(matches(pattern, rule_id) for pattern in patterns)


class Inhibition:
    """Which of the alerts that fire inhibits one. Valid as long as the same alerts fire."""

    def __init__(self, inhibitors: Inhibitors, firing: Mapping[str, Mapping[str, Transition]]) -> None:
        self._inhibitors = inhibitors
        self._firing = firing
        self._oldest: dict[str, dict[tuple[str, ...], dict[frozenset[tuple[str, str]], Transition]]] = {}

    def of(self, target: Transition) -> Transition | None:
        """The alert that inhibits this one; None where none does."""
        if not self._inhibitors.any:
            return None
        for rule_id in sorted(self._inhibitors.of(target.rule_id)):
            if rule_id not in self._firing:
                continue
            mutual = self._inhibitors.mutual(rule_id, target.rule_id)
            for keys, groups in self._by_group(rule_id).items():
                if not target.group_by_name.keys() >= set(keys):
                    continue
                source = groups.get(frozenset((key, target.group_by_name[key]) for key in keys))
                if source is None or source.alert_id == target.alert_id:
                    continue
                if not mutual or _age(source) < _age(target):
                    return source
        return None

    def _by_group(self, rule_id: str) -> dict[tuple[str, ...], dict[frozenset[tuple[str, str]], Transition]]:
        known = self._oldest.get(rule_id)
        if known is None:
            known = self._oldest[rule_id] = {}
            for alert in sorted(self._firing[rule_id].values(), key=_age):
                groups = known.setdefault(tuple(sorted(alert.group_by_name)), {})
                groups.setdefault(frozenset(alert.group_by_name.items()), alert)
        return known


def _age(alert: Transition) -> _Age:
    return alert.started_at, alert.alert_id

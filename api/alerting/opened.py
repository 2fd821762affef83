"""The alerts that are open, pure: from the transitions of `chat.alerts`."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from streams.notifications.transition import FIRING, RESOLVED, Transition

Record = Mapping[str, Any]
"""An Alert, as its Avro record; instants are aware datetimes."""

_MOST_RESOLVED: Final = 1_000


class OpenAlerts:
    """The newest transition of each alert: of all that are pending or firing, and of those resolved last."""

    def __init__(self, most_resolved: int = _MOST_RESOLVED) -> None:
        self._most_resolved = most_resolved
        self._open: dict[str, Record] = {}
        self._resolved: OrderedDict[str, Record] = OrderedDict()
        self.firing: dict[str, dict[str, Transition]] = {}
        """Those that fire, by rule and id."""

    def apply(self, record: Record) -> None:
        """A transition, or a correction of one. What is known already, or older, changes nothing."""
        key = record["alert_id"]
        held = self.get(key)
        if held is not None and _version(record) <= _version(held):
            return
        self._open.pop(key, None)
        self._resolved.pop(key, None)
        self._index(record)
        if record["state"] != RESOLVED:
            self._open[key] = record
            return
        self._resolved[key] = record
        while len(self._resolved) > self._most_resolved:
            self._resolved.popitem(last=False)

    def get(self, key: str) -> Record | None:
        """The newest transition of an alert; None for one that is not known (any more)."""
        return self._open.get(key) or self._resolved.get(key)

    def open(self) -> list[Record]:
        """Those that are pending or firing, by the time of their last transition, newest first."""
        return sorted(self._open.values(), key=lambda r: (r["changed_at"], r["alert_id"]), reverse=True)

    def _index(self, record: Record) -> None:
        of_rule = self.firing.setdefault(record["rule_id"], {})
        of_rule.pop(record["alert_id"], None)
        if record["state"] == FIRING:
            of_rule[record["alert_id"]] = Transition.of(record)
        if not of_rule:
            del self.firing[record["rule_id"]]


def _version(record: Record) -> tuple[int, int]:
    return record["transition"], record["revision"]

"""What comes of a step of the notifier: notifications to be sent, and decisions to be recorded."""

from collections.abc import Sequence
from typing import Any

from schemas.time import Micros
from streams.notifications.body import alert_item, alerts_data, body
from streams.notifications.grouping import GroupId, Item, Member, Telling, common
from streams.notifications.ids import decision_id, notification_id
from streams.notifications.setup import Hold
from streams.notifications.state import OpenAlert, Outbox
from streams.notifications.transition import Transition

_MOST_NOTIFICATIONS = 256
_MOST_DECISIONS = 2_000
"""In one step; the next one, a moment later, goes on."""


class Plan:
    """Gathers what a step at the moment `now` has to say. What several endpoints are told is written once."""

    def __init__(self, now: Micros, public_url: str) -> None:
        self.now = now
        self._public_url = public_url
        self._notifications: list[dict[str, Any]] = []
        self._decisions: list[dict[str, Any]] = []
        self._items: dict[tuple[str, tuple[int, ...]], dict[str, Any]] = {}
        self._bodies: dict[tuple[Any, ...], str] = {}

    @property
    def full(self) -> bool:
        """Whether the rest is better left to the next step."""
        return len(self._notifications) >= _MOST_NOTIFICATIONS or len(self._decisions) >= _MOST_DECISIONS

    def outbox(self) -> Outbox:
        """What there is to be sent."""
        return Outbox(tuple(self._notifications), tuple(self._decisions))

    def item(self, heard: Transition, transitions: Sequence[int] = ()) -> dict[str, Any]:
        """The alert as bodies have it."""
        told = tuple(transitions) or (heard.transition,)
        # A single transition that is not the newest is described as it was, not as it is.
        key = (heard.alert_id, (heard.transition, *told))
        if key not in self._items:
            self._items[key] = alert_item(heard, self._public_url, told)
        return self._items[key]

    def notify(
        self,
        group: GroupId,
        type_: str,
        batch: Sequence[tuple[Item, OpenAlert]],
        part: tuple[int, int, int],
    ) -> str:
        """One notification; `part` is its number, of how many, telling how many alerts in all. Its id."""
        endpoint_id, key = group
        told = [f"{item.alert_id}/{each}" for item, _ in batch for each in item.transitions]
        # A reminder tells nothing new: only the time makes it another one.
        id_ = notification_id(endpoint_id, type_, *told, *([self.now] if type_ == "alert.reminder" else []))
        alike = (type_, key, part, *told)
        if alike not in self._bodies:
            items = [self.item(alert.heard[item.transitions[-1]], item.transitions) for item, alert in batch]
            self._bodies[alike] = body(type_, self.now, alerts_data(common(key), items, *part))
        self._notifications.append(
            {
                "notification_id": id_,
                "endpoint_id": endpoint_id,
                "type": type_,
                "created_at": self.now,
                "body": self._bodies[alike],
                "alerts": told,
                "redriven": 0,
            }
        )
        return id_

    def hold(self, member: Member, telling: Telling, hold: Hold, alert: OpenAlert, endpoint_id: str) -> bool:
        """Transitions are held back from an endpoint: a decision for each of which that isn't on record.
        Whether there was one."""
        mark = f"{hold.what}|{hold.by}"
        new = [transition for transition in telling if member.said.get(transition) != mark]
        for transition in new:
            member.said[transition] = mark
            heard = alert.heard[transition]
            self.decide(heard, hold.what, hold.reason, endpoint_id=endpoint_id, by=hold.by)
        return bool(new)

    def decide(
        self,
        heard: Transition,
        what: str,
        reason: str,
        *,
        endpoint_id: str | None = None,
        notification: str | None = None,
        by: str | None = None,
    ) -> None:
        """A decision about a transition: for an endpoint, or for all."""
        self._decisions.append(
            {
                "decision_id": decision_id(
                    heard.alert_id, heard.transition, endpoint_id or "", what, by or "", self.now
                ),
                "decided_at": self.now,
                "what": what,
                "reason": reason,
                "rule_id": heard.rule_id,
                "rule_revision": heard.rule_revision,
                "alert_id": heard.alert_id,
                "transition": heard.transition,
                "grouping": heard.grouping,
                "group": list(heard.group),
                "pane_end": heard.window_end,
                "value": heard.value,
                "threshold": heard.threshold,
                "groups": 0,
                "violating": 0,
                "parts": heard.parts,
                "parts_expected": heard.parts_expected,
                "endpoint_id": endpoint_id,
                "notification_id": notification,
                "silence_id": by if what in ("silenced", "acknowledged") else None,
            }
        )

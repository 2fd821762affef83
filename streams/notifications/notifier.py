"""The notifier: hears transitions of alerts, and says who is told of which, when, and why somebody is not.

Pure: time and everything that people have set up are arguments. Each transition to firing or resolved ends,
for each endpoint that subscribes to it, in a notification, or in what held it back; a transition that no
endpoint subscribes to is `unmatched`. What was held back is told when nothing holds it any more, if the
alert still fires then.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Any, Final

from schemas.time import Micros
from streams.alerts.rule import RuleBase
from streams.endpoints.endpoint import Endpoint
from streams.notifications.flush import flush, remind, reminding_at, takes_end
from streams.notifications.grouping import Group, Intervals, Member, key_of
from streams.notifications.plan import Plan
from streams.notifications.routing import ALERT_FIRING, ALERT_RESOLVED
from streams.notifications.setup import Holding, Setup
from streams.notifications.silence import Acknowledgement, Silence
from streams.notifications.state import Commit, Commits, Memory, OpenAlert, Outbox
from streams.notifications.transition import FIRING, PENDING, RESOLVED, Transition

_NEVER: Final[Micros] = 2**63


@dataclass(frozen=True)
class Terms:
    """By what the notifier goes."""

    intervals: Intervals = field(default_factory=Intervals)
    group_by: tuple[str, ...] = ("rule",)
    """The properties that alerts of a group have in common."""
    zone: tzinfo = UTC
    """The service's time zone, for quiet hours."""
    public_url: str = "http://127.0.0.1:8000"
    """Where people reach the API, for links."""


Planned = Outbox
"""What a step has to say: Avro records of `notifications` and `decisions`."""


class Notifier:
    """All there is to know of the alerts that fire, and of what whom was told."""

    def __init__(self, terms: Terms | None = None) -> None:
        self._terms = terms or Terms()
        self._setup = Setup({}, {}, {}, self._terms.zone)
        self._setup_changed = False
        self._memory = Memory()
        self._commits = Commits()
        self._firing: dict[str, dict[str, Transition]] = {}
        self._reviewed_at: Micros = 0
        self._soonest: Micros = 0
        self.offset = -1
        """Everything up to this offset of chat.alerts is in the state."""

    @classmethod
    def restore(cls, terms: Terms, entries: Mapping[bytes, bytes]) -> tuple["Notifier", Outbox]:
        """From the entries that were committed: the notifier as of the last commit that is there as a whole,
        and what it had then still to send. Raises StateError for entries that it did not write."""
        notifier = cls(terms)
        notifier._commits, parts, notifier.offset, outbox = Commits.restore(entries)
        notifier._memory.load(parts)
        for alert in notifier._memory.alerts.values():
            notifier._index(alert)
        return notifier, outbox

    @property
    def open_alerts(self) -> int:
        """How many alerts fire, or are still to be told."""
        return len(self._memory.alerts)

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return len(self._memory.groups)

    @property
    def forgotten_early(self) -> int:
        """How many alerts that are over were forgotten before their time: too many came."""
        return self._memory.forgotten_early

    @property
    def due(self) -> Micros | None:
        """When there is something to tell next, if nothing happens before; None: nothing waits."""
        return self._soonest if self._memory.groups and self._soonest < _NEVER else None

    def define(
        self,
        rules: Mapping[str, RuleBase],
        endpoints: Mapping[str, Endpoint],
        silences: Mapping[str, Silence | Acknowledgement],
    ) -> None:
        """What is set up from now on."""
        self._setup = Setup(rules, endpoints, silences, self._terms.zone)
        self._setup_changed = True

    def take(self, alerts: Iterable[Mapping[str, Any]], now: Micros, offset: int | None = None) -> Planned:
        """Hear `Alert` records, in their order; `offset` is that of the last one on chat.alerts.

        What there is to notify comes from `tick`, when its time has come.
        """
        plan = Plan(now, self._terms.public_url)
        for record in alerts:
            self._hear(Transition.of(record), plan)
        if offset is not None:
            self.offset = max(self.offset, offset)
        return plan.outbox()

    def tick(self, now: Micros) -> Planned:
        """Tell what is due. Call it often: ten times a second."""
        review = self._setup_changed or not 0 <= now - self._reviewed_at < self._terms.intervals.review
        if not review and now < self._soonest:
            return Outbox()
        plan = Plan(now, self._terms.public_url)
        holding = Holding(self._setup, self._firing, now)
        if self._setup_changed:
            self._retire(plan)
        if review:
            self._setup_changed, self._reviewed_at = False, now
            self._review(plan, holding)
        if now >= self._soonest:
            self._tell(plan, holding)
        return plan.outbox()

    def commit(self, planned: Planned) -> Commit | None:
        """The entries that make durable what has happened since the last commit, with what is `planned` in
        the outbox; None where nothing has happened."""
        if not self._memory.changed and not planned:
            return None
        return self.settle(planned)

    def settle(self, planned: Planned | None = None) -> Commit:
        """The same in any case: also to put on record that nothing is left to be sent."""
        return self._commits.commit(self._memory.changes(), self.offset, planned or Outbox())

    def _hear(self, heard: Transition, plan: Plan) -> None:
        alert = self._memory.alerts.get(heard.alert_id)
        if alert is not None and heard.transition <= alert.newest:
            self._correct(alert, heard)
            return
        if heard.state == PENDING or heard.revision > 0:
            return
        if alert is None:
            if heard.transition <= self._memory.over(heard.alert_id):
                return
            if heard.state == RESOLVED:
                plan.decide(heard, "unmatched", "nobody was told that it fires")
                self._memory.remember_over(heard.alert_id, heard.transition, plan.now)
                return
            alert = self._memory.alerts[heard.alert_id] = OpenAlert({}, heard.transition)
        alert.heard[heard.transition] = heard
        alert.newest = heard.transition
        self._index(alert)
        if heard.state == FIRING:
            self._fire(alert, heard, plan)
        else:
            self._resolve(alert, heard, plan)
        if heard.state == RESOLVED:
            for place in list(alert.places.items()):
                self._leave(self._memory.groups[place], heard.alert_id)
        self._tidy(alert, plan.now)
        self._memory.touch_alert(heard.alert_id)

    def _correct(self, alert: OpenAlert, heard: Transition) -> None:
        known = alert.heard.get(heard.transition)
        if known is not None and heard.revision > known.revision:
            alert.heard[heard.transition] = heard
            self._index(alert)
            self._memory.touch_alert(heard.alert_id)

    def _index(self, alert: OpenAlert) -> None:
        alerts = self._firing.setdefault(alert.now.rule_id, {})
        if alert.firing:
            alerts[alert.now.alert_id] = alert.now
        else:
            alerts.pop(alert.now.alert_id, None)
        if not alerts:
            del self._firing[alert.now.rule_id]

    def _fire(self, alert: OpenAlert, heard: Transition, plan: Plan) -> None:
        takers = self._setup.routing.takers(ALERT_FIRING, heard, plan.item(heard))
        if not takers:
            plan.decide(heard, "unmatched", "no endpoint subscribes to it")
        for endpoint_id in takers:
            self._member(alert, endpoint_id, plan.now).waiting.append([heard.transition])

    def _resolve(self, alert: OpenAlert, heard: Transition, plan: Plan) -> None:
        why_not: str | None = None
        takers: set[str] = set()
        if self._setup.tells_resolved(heard.rule_id):
            takers.update(self._setup.routing.takers(ALERT_RESOLVED, heard, plan.item(heard)))
        else:
            why_not = "the rule doesn't want it told that a period is over"
        for endpoint_id, key in list(alert.places.items()):
            member = self._memory.groups[(endpoint_id, key)].members[heard.alert_id]
            if why_not is None and takes_end(alert, member, endpoint_id, self._setup, plan):
                takers.add(endpoint_id)
                self._resolve_at(alert, heard, endpoint_id, plan)
            else:
                # What waits still goes out; what is held back would have to fire to be told.
                self._member(alert, endpoint_id, None).held = []
        for endpoint_id in sorted(takers.difference(alert.places)):
            if self._setup.routing.takes(endpoint_id, ALERT_FIRING, heard, plan.item(heard)):
                because = "the endpoint was not told that it fires"
                plan.decide(heard, "unmatched", because, endpoint_id=endpoint_id)
            else:
                self._member(alert, endpoint_id, plan.now).waiting.append([heard.transition])
        if not takers:
            plan.decide(heard, "unmatched", why_not or "no endpoint subscribes to it")

    def _resolve_at(self, alert: OpenAlert, heard: Transition, endpoint_id: str, plan: Plan) -> None:
        member = self._member(alert, endpoint_id, None)
        last_held = member.said.get(member.held[-1], "") if member.held else ""
        if member.told or member.waiting or last_held.startswith("acknowledged"):
            # One notification tells that it fired and that this is over.
            before = [each for telling in member.waiting for each in telling]
            member.waiting = [[*before, heard.transition]]
            self._member(alert, endpoint_id, plan.now)
        elif member.held:
            what, _, by = last_held.partition("|")
            because = "nobody was told that it fires: that was held back, too"
            plan.decide(heard, what, because, endpoint_id=endpoint_id, by=by or None)
        member.held = []

    def _member(self, alert: OpenAlert, endpoint_id: str, came_at: Micros | None) -> Member:
        """What the endpoint is told of the alert. With `came_at` something has just come for it."""
        alert_id = alert.now.alert_id
        key = alert.places.get(endpoint_id)
        if key is None:
            if alert.key is None:
                alert.key = key_of(alert.now.properties, self._terms.group_by)
            key = alert.places[endpoint_id] = alert.key
        id_ = (endpoint_id, key)
        group = self._memory.groups.get(id_)
        if group is None:
            group = self._memory.groups[id_] = Group(id_)
        if came_at is not None:
            group.wait(came_at, self._terms.intervals.group_wait)
            self._wake(group)
        self._memory.touch_group(id_)
        return group.members.setdefault(alert_id, Member())

    def _wake(self, group: Group) -> None:
        self._soonest = min(self._soonest, group.due or _NEVER, group.remind_at or _NEVER)

    def _retire(self, plan: Plan) -> None:
        """Groups of endpoints that are gone."""
        for group in [each for each in self._memory.groups.values() if each.id[0] not in self._setup.routing]:
            for alert_id, member in group.members.items():
                alert = self._memory.alerts[alert_id]
                for transition in (each for telling in member.waiting for each in telling):
                    because = "the endpoint was deleted"
                    plan.decide(alert.heard[transition], "unmatched", because, endpoint_id=group.id[0])
                member.waiting, member.held, member.told = [], [], 0
            self._clean(group, plan.now, whole=True)

    def _review(self, plan: Plan, holding: Holding) -> None:
        """Let go what nothing holds back any more."""
        for group in self._memory.groups.values():
            for alert_id, member in group.members.items():
                if not member.held:
                    continue
                alert = self._memory.alerts[alert_id]
                heard = alert.heard[member.held[-1]]
                hold = holding.of(heard) if heard.state == FIRING else holding.quiet(heard)
                if hold is None:
                    member.waiting.insert(0, member.held)
                    member.held = []
                    group.wait(plan.now, self._terms.intervals.group_wait)
                    self._wake(group)
                elif not plan.hold(member, member.held, hold, alert, group.id[0]):
                    continue
                self._memory.touch_group(group.id)

    def _tell(self, plan: Plan, holding: Holding) -> None:
        intervals = self._terms.intervals
        soonest = _NEVER
        for group in list(self._memory.groups.values()):
            if group.due is not None and group.due <= plan.now and not plan.full:
                flush(group, self._memory.alerts, self._setup, intervals, plan, holding)
                self._clean(group, plan.now)
            if group.remind_at is not None and group.remind_at <= plan.now and not plan.full:
                remind(group, self._memory.alerts, self._setup, intervals, plan, holding)
                self._memory.touch_group(group.id)
            soonest = min(soonest, group.due or _NEVER, group.remind_at or _NEVER)
        self._soonest = soonest

    def _clean(self, group: Group, now: Micros, *, whole: bool = False) -> None:
        """Forget what is told and over; `whole`: the group."""
        for alert_id in list(group.members):
            alert = self._memory.alerts[alert_id]
            self._leave(group, alert_id, anyhow=whole)
            self._tidy(alert, now)
        if whole:
            group.due = None
        group.remind_at = reminding_at(group, self._memory.alerts, self._setup, self._terms.intervals)
        self._drop_empty(group)

    def _leave(self, group: Group, alert_id: str, *, anyhow: bool = False) -> None:
        """Forget what the endpoint was told of an alert, when nothing can follow from it any more."""
        alert, member = self._memory.alerts[alert_id], group.members[alert_id]
        if anyhow or (member.idle and not (alert.firing and member.told)):
            del group.members[alert_id]
            del alert.places[group.id[0]]
            self._drop_empty(group)

    def _drop_empty(self, group: Group) -> None:
        if not group.members and group.due is None:
            self._memory.groups.pop(group.id, None)
        self._memory.touch_group(group.id)

    def _tidy(self, alert: OpenAlert, now: Micros) -> None:
        """Forget transitions that nobody is still to be told of, and the alert itself when it is over."""
        alert_id = alert.now.alert_id
        if not alert.firing and not alert.places:
            del self._memory.alerts[alert_id]
            self._memory.remember_over(alert_id, alert.newest, now)
            self._memory.touch_alert(alert_id)
        elif len(alert.heard) > 1:
            needed = {alert.newest}
            for place in alert.places.items():
                member = self._memory.groups[place].members[alert_id]
                needed.update([member.told], member.held, *member.waiting)
            if not needed.issuperset(alert.heard):
                alert.heard = {number: each for number, each in alert.heard.items() if number in needed}
                self._memory.touch_alert(alert_id)

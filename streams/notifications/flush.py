"""Telling what waits in a group, and reminding of what still fires."""

from collections.abc import Mapping

from schemas.time import Micros
from streams.alerts.kinds import KINDS
from streams.notifications.grouping import Group, Intervals, Item, Member, Telling, batches
from streams.notifications.plan import Plan
from streams.notifications.routing import ALERT_REMINDER, TYPES
from streams.notifications.setup import Holding, Setup
from streams.notifications.state import OpenAlert
from streams.notifications.transition import FIRING, RESOLVED

Alerts = Mapping[str, OpenAlert]


def flush(
    group: Group, alerts: Alerts, setup: Setup, intervals: Intervals, plan: Plan, holding: Holding
) -> None:
    """Tell what waits in the group, as far as nothing holds it back, and set when it is looked at next."""
    items: dict[str, list[Item]] = {type_: [] for type_ in TYPES.values()}
    for alert_id, member in group.members.items():
        alert = alerts[alert_id]
        for telling in list(member.waiting):
            if _sorted_out(telling, member, alert, group.id[0], setup, plan, holding):
                member.waiting.remove(telling)
            else:
                items[TYPES[alert.heard[telling[-1]].state]].append(Item(alert_id, tuple(telling)))
    more_is_coming = plan.now - group.heard_at < intervals.group_wait
    told = 0
    for type_, waiting in items.items():
        together = list(batches(waiting, more_is_coming))
        total = sum(map(len, together))
        for number, batch in enumerate(together, 1):
            _tell(group, type_, batch, (number, len(together), total), alerts, plan)
        told += total
    if any(member.waiting for member in group.members.values()):
        group.due = plan.now + intervals.group_wait
    else:
        group.due = plan.now + intervals.group_interval if told else None


def _sorted_out(
    telling: Telling,
    member: Member,
    alert: OpenAlert,
    endpoint_id: str,
    setup: Setup,
    plan: Plan,
    holding: Holding,
) -> bool:
    """Whether this isn't told now; then it is decided why."""
    heard = alert.heard[telling[-1]]
    if heard.state == FIRING:
        taken = setup.routing.takes(endpoint_id, TYPES[FIRING], heard, plan.item(heard))
    else:
        taken = takes_end(alert, member, endpoint_id, setup, plan)
    if not taken:
        for each in telling:
            because = "the endpoint doesn't subscribe to it any more"
            plan.decide(alert.heard[each], "unmatched", because, endpoint_id=endpoint_id)
        return True
    if heard.state == FIRING:
        hold = holding.of(heard)
    elif member.told:
        hold = holding.quiet(heard)
    else:
        hold = holding.of_resolved(heard)
    if hold is None:
        return False
    plan.hold(member, telling, hold, alert, endpoint_id)
    if alert.firing or (heard.state != FIRING and member.told):
        member.held.extend(telling)
    return True


def takes_end(alert: OpenAlert, member: Member, endpoint_id: str, setup: Setup, plan: Plan) -> bool:
    """Whether the endpoint is to be told that the alert is over: by how the alert is, or was when the
    endpoint was told that it fires. The rule's severity or labels may have changed since."""
    told = alert.heard.get(member.told, alert.now)
    type_ = TYPES[RESOLVED]
    return setup.routing.takes(endpoint_id, type_, alert.now, plan.item(alert.now)) or (
        told is not alert.now and setup.routing.takes(endpoint_id, type_, told, plan.item(told))
    )


def _tell(
    group: Group, type_: str, batch: list[Item], part: tuple[int, int, int], alerts: Alerts, plan: Plan
) -> None:
    id_ = plan.notify(group.id, type_, [(item, alerts[item.alert_id]) for item in batch], part)
    for item in batch:
        alert, member = alerts[item.alert_id], group.members[item.alert_id]
        member.waiting.remove(list(item.transitions))
        for transition in item.transitions:
            heard = alert.heard[transition]
            if heard.state == FIRING:
                member.told, member.told_at = max(member.told, transition), plan.now
            member.said.pop(transition, None)
            plan.decide(heard, "notified", f"told as {type_}", endpoint_id=group.id[0], notification=id_)


def remind(
    group: Group, alerts: Alerts, setup: Setup, intervals: Intervals, plan: Plan, holding: Holding
) -> None:
    """Tell again what still fires, and set when that is next. Those that come due soon come along."""
    due: list[Item] = []
    for alert_id, member in group.members.items():
        alert = alerts[alert_id]
        interval = _interval(alert, setup, intervals)
        if not _is_reminded_of(alert, member) or plan.now - member.told_at < interval // 2:
            continue
        member.told_at = plan.now
        taken = setup.routing.takes(group.id[0], ALERT_REMINDER, alert.now, plan.item(alert.now))
        if taken and holding.of(alert.now) is None:
            due.append(Item(alert_id, (alert.newest,)))
    together = list(batches(due, more_is_coming=False))
    for number, batch in enumerate(together, 1):
        reminded = [(item, alerts[item.alert_id]) for item in batch]
        plan.notify(group.id, ALERT_REMINDER, reminded, (number, len(together), len(due)))
    group.remind_at = reminding_at(group, alerts, setup, intervals)


def reminding_at(group: Group, alerts: Alerts, setup: Setup, intervals: Intervals) -> Micros | None:
    """When what still fires is told again; None where nothing does."""
    return min(
        (
            member.told_at + _interval(alerts[alert_id], setup, intervals)
            for alert_id, member in group.members.items()
            if _is_reminded_of(alerts[alert_id], member)
        ),
        default=None,
    )


def _is_reminded_of(alert: OpenAlert, member: Member) -> bool:
    kind = KINDS.get(alert.now.kind)
    reminds_itself = kind is not None and kind.reminds_itself
    return alert.firing and member.told > 0 and not reminds_itself


def _interval(alert: OpenAlert, setup: Setup, intervals: Intervals) -> Micros:
    return setup.repeat_interval(alert.now.rule_id, intervals.repeat_interval)

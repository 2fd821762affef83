"""The queries of alerts and deliveries, pure: what a caller wrote is always a parameter."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from api.alerting.cursor import Cursor
from api.clickhouse import Query
from schemas.contract import schema
from schemas.time import Micros

_ALERT: Final = ", ".join(f"a.`{name}`" for name in schema("Alert").fields)
_ATTEMPT: Final = ", ".join(schema("DeliveryAttempt").fields)
_NOTIFICATION: Final = ", ".join(schema("Notification").fields)
# The copies of a record may lie in parts of different days.
_FINAL: Final = "SETTINGS do_not_merge_across_partitions_select_final = 0"


@dataclass
class _Where:
    conditions: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)

    def equal(self, column: str, value: str | int | None) -> None:
        """A condition on the column, unless there is none to be."""
        if value is not None:
            kind = "String" if isinstance(value, str) else "Int64"
            name = column.replace(".", "_")
            self.conditions.append(f"{column} = {{{name}:{kind}}}")
            self.parameters[name] = value

    def any_of(self, column: str, values: Sequence[str]) -> None:
        """A condition that allows each of the values, or all when there are none."""
        if values:
            name = column.replace(".", "_")
            self.conditions.append(f"has({{{name}:Array(String)}}, toString({column}))")
            self.parameters[name] = list(values)

    def between(self, column: str, start: Micros | None, end: Micros | None) -> None:
        """A span of time, the start included."""
        for name, operator, time in (("since", ">=", start), ("until", "<", end)):
            if time is not None:
                self.conditions.append(
                    f"{column} {operator} fromUnixTimestamp64Micro({{{name}:Int64}}, 'UTC')"
                )
                self.parameters[name] = time

    def after(self, column: str, key: str, cursor: Cursor | None) -> None:
        """What comes behind the cursor, from the newest to the oldest."""
        if cursor is not None:
            at = "fromUnixTimestamp64Micro({cursor_at:Int64}, 'UTC')"
            self.conditions.append(f"({column}, {key}) < ({at}, {{cursor_id:String}})")
            self.parameters |= {"cursor_at": cursor.at, "cursor_id": cursor.id}

    @property
    def text(self) -> str:
        return " AND ".join(self.conditions) or "1"


@dataclass(frozen=True)
class AlertFilter:
    """Which alerts are asked for: those that changed within [start, end), by what they are now."""

    states: Sequence[str] = ()
    severities: Sequence[str] = ()
    rule_id: str | None = None
    labels: Sequence[str] = ()
    """`key=value` texts, all of which hold: of the group, or of the rule's labels."""
    start: Micros | None = None
    end: Micros | None = None


@dataclass(frozen=True)
class DeliveryFilter:
    """Which attempts are asked for."""

    endpoint_id: str | None = None
    notification_id: str | None = None
    outcomes: Sequence[str] = ()
    types: Sequence[str] = ()
    start: Micros | None = None
    end: Micros | None = None


def alerts(wanted: AlertFilter, cursor: Cursor | None, limit: int) -> Query:
    """Each alert at its newest transition, newest first; Avro fields by name."""
    inner, outer = _Where(), _Where()
    inner.equal("a.rule_id", wanted.rule_id)
    # Those that changed within the span, each as it is now.
    changed = _Where()
    changed.between("changed_at", wanted.start, wanted.end)
    outer.any_of("n.state", wanted.states)
    outer.any_of("n.severity", wanted.severities)
    for index, text in enumerate(wanted.labels):
        outer.conditions.append(f"has(arrayConcat(n.labels, n.group), {{label{index}:String}})")
        outer.parameters[f"label{index}"] = text
    outer.after("n.changed_at", "n.alert_id", cursor)
    text = f"""
        SELECT n.* FROM (
            SELECT {_ALERT} FROM alerts AS a
            WHERE {inner.text} AND a.alert_id IN (SELECT alert_id FROM alerts WHERE {changed.text})
            ORDER BY a.alert_id, a.transition DESC, a.revision DESC
            LIMIT 1 BY a.alert_id
        ) AS n
        WHERE {outer.text}
        ORDER BY n.changed_at DESC, n.alert_id DESC
        LIMIT {{limit:UInt32}}"""  # noqa: S608 - see above
    return Query(text, {**inner.parameters, **changed.parameters, **outer.parameters, "limit": limit})


def transitions(alert_id: str) -> Query:
    """Every transition of an alert, in order, each at its newest revision; Avro fields by name."""
    text = f"""
        SELECT {_ALERT} FROM alerts AS a
        WHERE a.alert_id = {{alert_id:String}}
        ORDER BY a.transition, a.revision DESC
        LIMIT 1 BY a.transition"""  # noqa: S608 - see above
    return Query(text, {"alert_id": alert_id})


def decisions(alert_id: str, limit: int) -> Query:
    """What was decided about an alert, in order."""
    text = f"""
        SELECT decided_at, what, reason, transition, value, endpoint_id, notification_id, silence_id
        FROM decisions FINAL
        WHERE alert_id = {{alert_id:String}}
        ORDER BY decided_at, transition, decision_id
        LIMIT {{limit:UInt32}} {_FINAL}"""  # noqa: S608 - see above
    return Query(text, {"alert_id": alert_id, "limit": limit})


def held_back_by(silence_id: str, limit: int) -> Query:
    """What a silence or acknowledgement held back, newest first."""
    text = f"""
        SELECT decided_at, what, alert_id, transition, rule_id, group, endpoint_id, reason
        FROM decisions FINAL
        WHERE silence_id = {{silence_id:String}}
        ORDER BY decided_at DESC, decision_id
        LIMIT {{limit:UInt32}} {_FINAL}"""  # noqa: S608 - see above
    return Query(text, {"silence_id": silence_id, "limit": limit})


def notifications_of(alert_id: str, limit: int) -> Query:
    """The notifications of an alert, in order, and what became of each."""
    text = """
        SELECT n.notification_id AS notification_id, n.endpoint_id AS endpoint_id, n.type AS type,
            n.created_at AS created_at, d.outcome AS outcome, d.attempts AS attempts
        FROM (
            SELECT notification_id, endpoint_id, type, created_at FROM notifications
            WHERE arrayExists(told -> startsWith(told, {prefix:String}), alerts)
            ORDER BY notification_id, redriven
            LIMIT 1 BY notification_id
        ) AS n
        LEFT JOIN (
            SELECT notification_id, argMax(outcome, (redriven, started_at)) AS outcome,
                uniqExactIf(attempt_id, attempt > 0) AS attempts
            FROM deliveries
            WHERE notification_id IN (
                SELECT notification_id FROM notifications
                WHERE arrayExists(told -> startsWith(told, {prefix:String}), alerts)
            )
            GROUP BY notification_id
        ) AS d ON n.notification_id = d.notification_id
        ORDER BY created_at, notification_id
        LIMIT {limit:UInt32}"""
    return Query(text, {"prefix": f"{alert_id}/", "limit": limit})


def deliveries(wanted: DeliveryFilter, cursor: Cursor | None, limit: int) -> Query:
    """Attempts, newest first; Avro fields by name."""
    where = _Where()
    where.equal("endpoint_id", wanted.endpoint_id)
    where.equal("notification_id", wanted.notification_id)
    where.any_of("outcome", wanted.outcomes)
    where.any_of("type", wanted.types)
    where.between("started_at", wanted.start, wanted.end)
    where.after("started_at", "attempt_id", cursor)
    text = f"""
        SELECT {_ATTEMPT} FROM deliveries FINAL
        WHERE {where.text}
        ORDER BY started_at DESC, attempt_id DESC
        LIMIT {{limit:UInt32}} {_FINAL}"""  # noqa: S608 - see above
    return Query(text, {**where.parameters, "limit": limit})


def notification(notification_id: str) -> Query:
    """The notification as it was asked for last: no row, or one; Avro fields by name."""
    text = f"""
        SELECT {_NOTIFICATION} FROM notifications
        WHERE notification_id = {{notification_id:String}}
        ORDER BY redriven DESC
        LIMIT 1"""  # noqa: S608 - see above
    return Query(text, {"notification_id": notification_id})


def notifications_between(
    endpoint_id: str,
    start: Micros,
    end: Micros,
    *,
    undelivered: bool,
    cursor: Cursor | None,
    limit: int,
) -> Query:
    """The endpoint's notifications that were made in [start, end), oldest first, each as it was asked for
    last; Avro fields by name. `undelivered`: only those with no successful attempt."""
    where = _Where()
    where.equal("endpoint_id", endpoint_id)
    where.between("created_at", start, end)
    if cursor is not None:
        at = "fromUnixTimestamp64Micro({cursor_at:Int64}, 'UTC')"
        where.conditions.append(f"(created_at, notification_id) > ({at}, {{cursor_id:String}})")
        where.parameters |= {"cursor_at": cursor.at, "cursor_id": cursor.id}
    if undelivered:
        where.conditions.append(
            "notification_id NOT IN (SELECT notification_id FROM deliveries "
            "WHERE endpoint_id = {endpoint_id:String} AND outcome = 'delivered')"
        )
    text = f"""
        SELECT {_NOTIFICATION} FROM (
            SELECT {_NOTIFICATION} FROM notifications
            WHERE {where.text}
            ORDER BY notification_id, redriven DESC
            LIMIT 1 BY notification_id
        )
        ORDER BY created_at, notification_id
        LIMIT {{limit:UInt32}}"""  # noqa: S608 - see above
    return Query(text, {**where.parameters, "limit": limit})

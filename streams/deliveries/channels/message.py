"""A notification as a person reads it: what mail and chat have in common.

What a body holds is written in docs/notifications.md. A body that holds something else (a newer version, a
type that is not known here) still becomes a message, of what can be made out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from streams.deliveries.notification import Notification

SEVERITIES: Final = ("info", "warning", "error", "critical")
_STATES: Final = {"alert.firing": "FIRING", "alert.resolved": "RESOLVED", "alert.reminder": "STILL FIRING"}
_MOST_FACTS: Final = 20
_LONGEST_FACT: Final = 300


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert of a notification."""

    id: str
    transition: int
    state: str
    severity: str
    rule: str
    rule_id: str
    group: Mapping[str, str]
    labels: Mapping[str, str]
    summary: str
    started_at: str
    changed_at: str
    metric: str
    value: float | None
    threshold: float | None
    unit: str
    coverage: str | None
    """`3 of 4 partitions`, where the figure is of a part of the traffic."""
    link: str | None

    @property
    def resolved(self) -> bool:
        """Whether it is over."""
        return self.state == "resolved"

    @property
    def title(self) -> str:
        """The rule and the group, in a line."""
        group = ", ".join(f"{key}={value}" for key, value in self.group.items())
        return f"{self.rule} ({group})" if group else self.rule

    def facts(self) -> Iterator[tuple[str, str]]:
        """What is to be said beside the summary."""
        yield "severity", self.severity
        if self.value is not None:
            yield "value", figure(self.value, self.unit)
        if self.threshold is not None:
            yield "threshold", figure(self.threshold, self.unit)
        yield "since", moment(self.started_at)
        if self.resolved:
            yield "until", moment(self.changed_at)
        if self.labels:
            yield "labels", ", ".join(f"{key}={value}" for key, value in self.labels.items())
        if self.coverage:
            yield "counted", self.coverage


@dataclass(frozen=True, slots=True)
class Message:
    """What a notification says. `facts` are those of what is no alert."""

    type: str
    title: str
    text: str
    severity: str
    resolved: bool
    alerts: tuple[Alert, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    link: str | None = None


def figure(value: float, unit: str) -> str:
    """A figure for a person: `12.3 %`, `5,230 ms`."""
    if unit == "ratio":
        return f"{value * 100:.4g} %"
    text = f"{value:,.0f}" if value == int(value) or abs(value) >= 10_000 else f"{value:,.4g}"
    return f"{text} {unit}".strip()


def moment(instant: str) -> str:
    """`2026-01-31T09:30:00.000000Z` as `2026-01-31 09:30:00 UTC`."""
    if len(instant) >= 20 and instant.endswith("Z"):
        return f"{instant[:10]} {instant[11:19]} UTC"
    return instant


def shortened(text: str, most: int) -> str:
    """The text in at most so many characters, with an ellipsis when it is cut."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def one_line(text: str) -> str:
    """The text without line breaks and control characters."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())


def message(notification: Notification) -> Message:
    """What a notification says."""
    event = orjson.loads(notification.body)
    data = event.get("data") if isinstance(event, dict) else event
    data = data if isinstance(data, dict) else {"data": data}
    if isinstance(data.get("alerts"), list):
        return _of_alerts(notification.type, data)
    return _of_event(notification.type, data)


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {one_line(str(key)): one_line(str(each)) for key, each in value.items()}


def _link(data: Mapping[str, Any], *names: str) -> str | None:
    links = data.get("links")
    for name in names:
        url = links.get(name) if isinstance(links, dict) else None
        if isinstance(url, str) and url.startswith(("https://", "http://")):
            return url
    return None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _alert(item: Mapping[str, Any]) -> Alert:
    def text(name: str) -> str:
        value = item.get(name)
        return "" if value is None else one_line(str(value))

    coverage = item.get("coverage")
    parts = coverage if isinstance(coverage, dict) else {}
    partial = _number(parts.get("parts")), _number(parts.get("expected"))
    lacking = None not in partial and partial[0] != partial[1]
    return Alert(
        id=text("alert_id"),
        transition=round(_number(item.get("transition")) or 0),
        state=text("state"),
        severity=text("severity") or "error",
        rule=text("rule_name") or text("rule_id"),
        rule_id=text("rule_id"),
        group=_texts(item.get("group")),
        labels=_texts(item.get("labels")),
        summary=text("summary"),
        started_at=text("started_at"),
        changed_at=text("changed_at"),
        metric=text("metric"),
        value=_number(item.get("value")),
        threshold=_number(item.get("threshold")),
        unit=text("unit"),
        coverage=f"{parts['parts']} of {parts['expected']} partitions" if lacking else None,
        link=_link(item, "events", "alert"),
    )


def _worst(alerts: Sequence[Alert]) -> str:
    known = [alert.severity for alert in alerts if alert.severity in SEVERITIES]
    return max(known, key=SEVERITIES.index, default="error")


def _of_alerts(type_: str, data: Mapping[str, Any]) -> Message:
    alerts = tuple(_alert(item) for item in data["alerts"] if isinstance(item, dict))
    severity = _worst(alerts)
    state = _STATES.get(type_, one_line(type_))
    if len(alerts) == 1 and data.get("parts", 1) == 1:
        subject = alerts[0].title
        text = alerts[0].summary
    else:
        rules = sorted({alert.rule for alert in alerts})
        of_what = rules[0] if len(rules) == 1 else f"{len(rules)} rules"
        total = data.get("total", len(alerts))
        subject = f"{total} alerts of {of_what}"
        if data.get("parts", 1) != 1:
            subject += f", part {data.get('part')} of {data['parts']}"
        text = ", ".join(f"{key}={value}" for key, value in _texts(data.get("group")).items())
    return Message(
        type_,
        f"[{state}] {severity}: {one_line(subject)}",
        text,
        severity,
        bool(alerts) and all(alert.resolved for alert in alerts),
        alerts,
    )


def _of_event(type_: str, data: Mapping[str, Any]) -> Message:
    name = one_line(str(data.get("endpoint_name") or data.get("name") or data.get("endpoint_id") or ""))
    severity, text = "info", ""
    if type_ == "endpoint.failing" and data.get("disabled"):
        severity, title = "critical", f"The endpoint {name} is disabled"
        text = "Its notifications are parked until somebody enables it."
    elif type_ == "endpoint.failing":
        severity, title = "error", f"The endpoint {name} keeps failing"
        until = moment(one_line(str(data.get("to_be_disabled_at"))))
        text = f"It will be disabled at {until} unless a delivery succeeds."
    elif type_ == "endpoint.test":
        title = f"A test for the endpoint {name}"
        text = "Somebody wants to see whether notifications arrive. They do."
    elif type_ == "request.failed":
        severity = "error"
        title = f"A request failed: {one_line(str(data.get('error_type') or 'unknown error'))}"
    elif type_ == "window.closed":
        title = f"A window of {data.get('pane')} closed: {data.get('grouping')}"
    elif type_ == "span.ended":
        title = f"A span ended: {data.get('kind')} {name}"
    else:
        title = type_
    return Message(
        type_,
        one_line(title),
        text,
        severity,
        False,
        facts=tuple(_facts(data))[:_MOST_FACTS],
        link=_link(data, "events", "endpoint"),
    )


def _facts(data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in data.items():
        if name in ("version", "links") or value is None or value in ([], {}):
            continue
        if isinstance(value, dict | list):
            value = orjson.dumps(value).decode()
        yield one_line(name), shortened(moment(one_line(str(value))), _LONGEST_FACT)

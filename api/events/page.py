"""The page of events: one document, with all that was said by others escaped."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from jinja2 import Environment, StrictUndefined

from api.models.alerts import Alert
from api.models.events import Events, ShownEvent, ShownRequest, ShownSample, ShownSpan
from streams.alerts.units import UNITS, show

POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""What the page may load: its styles and its icon."""

_PAGE: Final = Environment(
    autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
).from_string(Path(__file__).with_name("page.html").read_text("utf-8"))


class Cell(NamedTuple):
    """A cell of the table; `kind` is its class."""

    text: str
    kind: str = ""


class Row(NamedTuple):
    """A line of the table, and what unfolds below it."""

    cells: Sequence[Cell]
    fields: Sequence[tuple[str, str]]


_NONE: Final = Cell("\N{EN DASH}", "unknown")
_UNKNOWN_NUMBER: Final = Cell("unknown", "number unknown")
_COLUMNS: Final[dict[str, Sequence[str]]] = {
    "chat.requests": (
        "Time (UTC)",
        "Service",
        "Model",
        "User",
        "Space",
        "Tokens",
        "Latency",
        "Error",
        "Cost",
    ),
    "chat.spans": ("Time (UTC)", "Service", "Kind", "Name", "User", "Space", "Phase", "Duration", "Error"),
    "chat.samples": ("Time (UTC)", "Service", "Instance", "Name", "Value", "State"),
}


def render(events: Events, data: str, following: str | None) -> str:
    """The page. `data` is where the same is to be had as JSON; `following`, where the next page is."""
    topic, alert = events.covers.topic, events.alert
    shown = f"{len(events.events):,} {topic.removeprefix('chat.')}, newest first"
    if events.stored is not None:
        shown += f"; {events.stored:,} in all"
    elif events.more:
        shown += "; there are more"
    return _PAGE.render(
        title=alert.summary if alert else _title(events),
        heading=f"Alert: {alert.rule.name}, {alert.severity}, {alert.state}" if alert else "Events",
        facts=_facts(alert, events) if alert else [("Events", events.covers.include or "one")],
        missing=events.missing,
        shown=shown,
        columns=_COLUMNS[topic],
        rows=[Row(_cells(event), _fields(event)) for event in events.events],
        data=data,
        next=following,
    )


def _title(events: Events) -> str:
    covers = events.covers
    if covers.start is not None and covers.end is not None:
        return f"{covers.topic} from {_time(covers.start)} to {_time(covers.end)} UTC"
    return f"One event of {covers.topic}"


def _facts(alert: Alert, events: Events) -> list[tuple[str, str]]:
    facts = [
        ("Value", _figure(alert.value, alert.unit, "no data")),
        ("Threshold", _figure(alert.threshold, alert.unit, "none")),
        ("Window (UTC)", f"{_time(alert.window.start)} to {_time(alert.window.end)}"),
        ("Metric", f"{alert.metric}, {alert.aggregation}"),
        ("Group", ", ".join(f"{key}: {value}" for key, value in alert.group.items()) or "all"),
        ("Counted", f"{alert.requests:,}"),
        ("Transition", str(alert.transition)),
    ]
    if events.alert and alert.corrections:
        facts.append(("Corrections", str(alert.corrections)))
    return facts


def _figure(value: float | None, unit: str, without: str) -> str:
    if value is None:
        return without
    return show(value, unit) if unit in UNITS else f"{value:g} {unit}".rstrip()


def _cells(event: ShownEvent) -> list[Cell]:
    when, service = Cell(_time(event.occurred_at)), Cell(event.service)
    if isinstance(event, ShownSample):
        return [
            *(when, service, _text(event.instance), Cell(event.name)),
            *(Cell(f"{event.value:g}", "number"), _text(event.state)),
        ]
    of_whom = _text(event.user_id), _text(event.space_id)
    error = Cell(event.error_type, "bad") if event.error_type is not None else _NONE
    if isinstance(event, ShownSpan):
        kind, name, phase = Cell(event.kind), Cell(event.name), Cell(event.phase)
        return [when, service, kind, name, *of_whom, phase, _duration(event.duration_ms), error]
    model = Cell(f"{event.provider} / {event.model}")
    latency = _duration(event.total_ms)
    return [when, service, model, *of_whom, _tokens(event), latency, error, _cost(event.cost_usd)]


def _fields(event: ShownEvent) -> list[tuple[str, str]]:
    """All that the event reports, by its names in JSON."""
    reported = event.model_dump(mode="json", exclude_none=True)
    source = reported.pop("source")
    reported["source"] = f"{source['topic']}/{source['partition']} at offset {source['offset']}"
    return [(name, _plain(value)) for name, value in reported.items() if value != []]


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _text(value: str | None) -> Cell:
    return _NONE if value is None else Cell(value)


def _tokens(event: ShownRequest) -> Cell:
    known = [event.prompt_tokens, event.completion_tokens]
    if known == [None, None]:
        return _UNKNOWN_NUMBER
    prompt, completion = ("unknown" if each is None else f"{each:,}" for each in known)
    return Cell(f"{prompt} + {completion}", "number")


def _duration(ms: float | None) -> Cell:
    return _UNKNOWN_NUMBER if ms is None else Cell(f"{ms:,.1f} ms", "number")


def _cost(usd: float | None) -> Cell:
    if usd is None:
        return _UNKNOWN_NUMBER
    # To the nano-USD, in which costs are kept: a cheap request is not a free one.
    whole, _, fraction = f"{usd:.9f}".partition(".")
    return Cell(f"{whole}.{fraction.rstrip('0') or '0'} USD", "number")


def _time(time: datetime) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S.") + f"{time.microsecond // 1000:03d}"

"""Events that endpoints subscribe to: closed windows, failed requests, finished spans.

Pure. A batch is narrowed in columns to what some subscription may mean; what is left, usually little, is
held against each subscription as a whole. Ids are made from the endpoint and the record's place, so that a
batch that is read again gives the same notifications again.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import polars as pl
import pyarrow as pa

from schemas.batch import OFFSET
from schemas.time import Micros, micros_of
from schemas.topics import CLOSED, REQUESTS, SPANS
from streams.alerts.filters import pattern
from streams.catalogue.groupings import GROUPINGS
from streams.catalogue.measures import LATENCIES, SUMS
from streams.endpoints.endpoint import Endpoint
from streams.endpoints.subscription import (
    REQUEST_FAILED,
    SPAN_ENDED,
    WINDOW_CLOSED,
    PropertyFilter,
    Subscription,
)
from streams.notifications.body import body, event_data, instant, window_data
from streams.notifications.grouping import MOST_TOGETHER
from streams.notifications.ids import notification_id
from streams.notifications.transition import pairs

TOPICS: Final = {WINDOW_CLOSED: CLOSED.name, REQUEST_FAILED: REQUESTS.name, SPAN_ENDED: SPANS.name}
"""Where each type of event comes from."""

_TYPES: Final = {topic: type_ for type_, topic in TOPICS.items()}
_COMPARED: Final = {
    ">": pl.Expr.gt,
    ">=": pl.Expr.ge,
    "<": pl.Expr.lt,
    "<=": pl.Expr.le,
}

Notification = dict[str, Any]
"""An Avro record."""


class Subscriptions:
    """What enabled endpoints subscribe to, besides alerts."""

    def __init__(self, endpoints: Iterable[Endpoint], public_url: str) -> None:
        self._public_url = public_url
        self._of: dict[str, list[tuple[Endpoint, list[Subscription]]]] = {type_: [] for type_ in TOPICS}
        for endpoint in endpoints:
            for type_, subscribed in self._of.items():
                meant = [each for each in endpoint.subscriptions if each.takes(type_)]
                if endpoint.enabled and meant:
                    subscribed.append((endpoint, meant))

    @property
    def topics(self) -> frozenset[str]:
        """Where events come from that somebody wants."""
        return frozenset(TOPICS[type_] for type_, subscribed in self._of.items() if subscribed)

    def subscribers(self, topic: str) -> list[str]:
        """The endpoints that want events of the topic."""
        return [endpoint.id for endpoint, _ in self._of[_TYPES[topic]]]

    def events(self, topic: str, partition: int, frame: pl.DataFrame, now: Micros) -> list[Notification]:
        """Notifications of the events in a frame of `chat.requests` or `chat.spans`, columns as in the
        schema and `_offset`, in their order. Events that were brought in after the fact are no news."""
        type_ = _TYPES[topic]
        subscribed = self._of[type_]
        ended = (pl.col("phase").cast(pl.String) == "finished") & ~pl.col("imported")
        if type_ == REQUEST_FAILED:
            ended &= pl.col("error_type").is_not_null()
        meant = [_may_mean(each, frame.schema) for _, all_of in subscribed for each in all_of]
        rows = frame.filter(ended & pl.any_horizontal(meant)) if meant else frame.clear()
        made: list[Notification] = []
        for row in rows.iter_rows(named=True):
            offset = row.pop(OFFSET)
            data = event_data(_plain(row), topic, partition, offset, self._public_url)
            text: str | None = None
            for endpoint, all_of in subscribed:
                if any(each.wants(type_, data) for each in all_of):
                    text = text or body(type_, now, data)
                    made.append(_notification(type_, endpoint, (topic, partition, offset), now, text))
        return made

    def closed(
        self, partition: int, offset: int, share: Mapping[str, Any], rows: pa.Table, now: Micros
    ) -> list[Notification]:
        """Notifications of a source partition's share of a closed pane. `share` has the record's other
        fields, times in microseconds. Endpoints that want the same rows are told the same."""
        named = _window_rows(share["grouping"], rows)
        about = {"pane": share["pane"], "grouping": share["grouping"]}
        made: list[Notification] = []
        texts: dict[tuple[int, ...], list[str]] = {}
        for endpoint, all_of in self._of[WINDOW_CLOSED]:
            wanted = tuple(
                number
                for number, row in enumerate(named)
                if any(each.wants(WINDOW_CLOSED, {**about, **row["group"], **row}) for each in all_of)
            )
            if not wanted:
                continue
            if wanted not in texts:
                texts[wanted] = self._window_bodies(share, [named[number] for number in wanted], now)
            for part, text in enumerate(texts[wanted]):
                place: tuple[str | int, ...] = (CLOSED.name, partition, offset)
                if part:
                    place = (*place, part)
                made.append(_notification(WINDOW_CLOSED, endpoint, place, now, text))
        return made

    def may_mean(self, share: Mapping[str, Any]) -> bool:
        """Whether somebody may want this share of a pane: to be asked before its rows are unpacked."""
        about = {"pane": share["pane"], "grouping": share["grouping"]}
        return share["rows"] is not None and any(
            (not each.panes or about["pane"] in each.panes)
            and (not each.groupings or about["grouping"] in each.groupings)
            for _, all_of in self._of[WINDOW_CLOSED]
            for each in all_of
        )

    def _window_bodies(
        self, share: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], now: Micros
    ) -> list[str]:
        batches = [rows[begin : begin + MOST_TOGETHER] for begin in range(0, len(rows), MOST_TOGETHER)]
        return [
            body(WINDOW_CLOSED, now, window_data(share, batch, number, len(batches), self._public_url))
            for number, batch in enumerate(batches, 1)
        ]


def _notification(
    type_: str, endpoint: Endpoint, place: tuple[str | int, ...], now: Micros, text: str
) -> Notification:
    return {
        "notification_id": notification_id(endpoint.id, *place),
        "endpoint_id": endpoint.id,
        "type": type_,
        "created_at": now,
        "body": text,
        "alerts": [],
        "redriven": 0,
    }


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """An event's fields as bodies have them."""
    fields = {
        key: instant(micros_of(each)) if isinstance(each, datetime) else each for key, each in row.items()
    }
    fields["attributes"] = pairs(row["attributes"] or [])
    return fields


def _window_rows(grouping: str, rows: pa.Table) -> list[dict[str, Any]]:
    """The rows as bodies have them: the sketches stay behind, they are no reading."""
    kept = [name for name in rows.column_names if not name.endswith(("_keys", "_counts"))]
    found = []
    for row in rows.select(kept).to_pylist():
        latencies = {
            name: {part: row[f"{name}_{part}"] for part in ("count", "sum", "min", "max")}
            for name in LATENCIES
            if f"{name}_count" in row
        }
        sums = {name: row[name] for name in SUMS if name in row}
        group = {key: row[key] for key in GROUPINGS[grouping].keys}
        found.append({"group": group, **sums, "latencies": latencies})
    return found


def _may_mean(subscription: Subscription, columns: Mapping[str, pl.DataType]) -> pl.Expr:
    """What holds for every event that the subscription means, as far as columns can tell."""
    conditions = [_holds(each, columns) for each in subscription.filters]
    if subscription.kinds and "kind" in columns:
        conditions.append(pl.col("kind").cast(pl.String).is_in(list(subscription.kinds)))
    known = [condition for condition in conditions if condition is not None]
    return pl.all_horizontal(known) if known else pl.lit(value=True)


def _holds(wanted: PropertyFilter, columns: Mapping[str, pl.DataType]) -> pl.Expr | None:
    """The condition on a column; None where it is about something else, or mixes texts and numbers."""
    kind = columns.get(wanted.property)
    if kind is None:
        return None
    column = pl.col(wanted.property)
    if wanted.operator == "present":
        return column.is_not_null()
    if wanted.operator == "absent":
        return column.is_null()
    if wanted.operator in _COMPARED:
        if not kind.is_numeric():
            return None
        return _COMPARED[wanted.operator](column, float(wanted.values[0])).fill_null(value=False)
    texts = [each for each in wanted.values if isinstance(each, str)]
    if wanted.operator != "=" or len(texts) < len(wanted.values) or kind not in (pl.String, pl.Enum):
        return None
    return column.cast(pl.String).str.contains(pattern(texts)).fill_null(value=False)

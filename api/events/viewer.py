"""The events asked for, from ClickHouse, with whether they are all there."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from api.alerting.alerts import Alerts
from api.alerting.cursor import Cursor
from api.alerting.opened import Record
from api.clickhouse import ClickHouse
from api.errors import BadParameterError, NotFoundError, UnavailableError
from api.events import completeness, sql
from api.events.selection import Place, Selection, of_transition
from api.models.alerts import Alert
from api.models.events import Covered, Events, EventSource, ShownEvent, ShownRequest, ShownSample, ShownSpan
from api.times import Clock, to_time
from schemas.time import HOUR, MINUTE, SECOND, Micros
from schemas.topics import REQUESTS, SAMPLES, SPANS
from streams.notifications.transition import Transition

_MODELS: Final = {REQUESTS.name: ShownRequest, SPANS.name: ShownSpan, SAMPLES.name: ShownSample}
_LONGEST_COUNTED: Final[Micros] = 2 * HOUR
_FIRST_LOOK: Final[Micros] = 5 * MINUTE
_WIDER: Final = 8


class Viewer:
    """Questions of raw events. All raise as `ClickHouse.rows` does."""

    def __init__(self, clickhouse: ClickHouse, alerts: Alerts, clock: Clock) -> None:
        self._clickhouse = clickhouse
        self._alerts = alerts
        self._clock = clock

    async def of_alert(
        self, alert_id: str, transition: int | None, cursor: Cursor | None, limit: int
    ) -> Events:
        """What the window of an alert's transition (None: the newest) was made of.

        Raises NotFoundError when there is no such alert, or transition.
        """
        record = await self._record(alert_id, transition)
        alert = Transition.of(record)
        wanted = of_transition(alert)
        # Before the events: what is stored by now is among them.
        reached = await self._reached(wanted.topic.name)
        missing = completeness.of_sources(alert, reached)
        if not alert.sources and wanted.topic is REQUESTS:
            missing += await self._missing_of_span(wanted, reached)
        rows, more = await self._page(wanted, cursor, limit)
        stored = await self._stored(wanted)
        if stored is not None:
            missing += completeness.of_count(alert, stored)
        covers = Covered(
            by="alert",
            topic=wanted.topic.name,
            start=to_time(alert.window_start),
            end=to_time(alert.window_end),
            equal=dict(wanted.equal),
            include=wanted.include.value,
        )
        return _answer(covers, rows, missing, more=more, alert=Alert.of(record), stored=stored)

    async def of_span(self, wanted: Selection, cursor: Cursor | None, limit: int) -> Events:
        """The requests of a span of time."""
        missing = await self._missing_of_span(wanted, await self._reached(wanted.topic.name))
        rows, more = await self._page(wanted, cursor, limit)
        covers = Covered(
            by="span",
            topic=wanted.topic.name,
            start=to_time(wanted.start),
            end=to_time(wanted.end),
            equal=dict(wanted.equal),
            include=wanted.include.value,
        )
        return _answer(covers, rows, missing, more=more)

    async def at(self, place: Place) -> Events:
        """The event of a place on Kafka, if it is stored."""
        reached = await self._reached(place.topic)
        rows = await self._clickhouse.records(sql.at(place))
        missing = [] if rows else completeness.of_place(place, reached)
        covers = Covered(by="place", topic=place.topic, start=None, end=None, equal={}, include=None)
        return _answer(covers, rows, missing, more=False)

    async def _record(self, alert_id: str, transition: int | None) -> Record:
        live = self._alerts.opened.get(alert_id)
        if live is not None and transition in (None, live["transition"]):
            return live
        known = await self._alerts.archive.transitions(alert_id)
        found = [row for row in known if transition in (None, row["transition"])]
        if found:
            return found[-1]
        if live is None and not known:
            if not self._alerts.follower.caught_up:
                raise UnavailableError(
                    f"The alert {alert_id!r} is not in ClickHouse, and chat.alerts is still being read.",
                    where="kafka",
                )
            raise NotFoundError(
                f"There is no alert {alert_id!r}: /api/alerts lists those that are open, "
                "/api/alerts/history all.",
                where="alert",
            )
        raise NotFoundError(
            f"The alert {alert_id!r} has no transition {transition}, or ClickHouse has it not yet: "
            f"/api/alerts/{alert_id} lists them.",
            where="transition",
        )

    async def _reached(self, topic: str) -> dict[int, int]:
        return {int(row[0]): int(row[1]) for row in await self._clickhouse.rows(sql.reached(topic))}

    async def _missing_of_span(self, wanted: Selection, reached: Mapping[int, int]) -> list[str]:
        rows = await self._clickhouse.rows(sql.counted(wanted.start, wanted.end))
        newest = await self._clickhouse.rows(sql.newest_pane())
        counted = sorted((int(p), int(last), int(open_)) for p, last, open_ in rows)
        return completeness.of_span(wanted.end, counted, int(newest[0][0]) * SECOND, reached, self._clock())

    async def _stored(self, wanted: Selection) -> int | None:
        """How many there are; None when there are too many to count them in time."""
        if wanted.end - wanted.start > _LONGEST_COUNTED:
            return None
        try:
            return int((await self._clickhouse.rows(sql.count(wanted)))[0][0])
        except BadParameterError:
            return None

    async def _page(
        self, wanted: Selection, cursor: Cursor | None, limit: int
    ) -> tuple[list[dict[str, Any]], bool]:
        """The newest events, behind the cursor. Long spans are read from their end, as far as need be."""
        rows: list[dict[str, Any]] = []
        end = wanted.end if cursor is None else min(wanted.end, cursor.at + 1)
        length = _FIRST_LOOK
        while end > wanted.start and len(rows) <= limit:
            start = max(wanted.start, end - length)
            look = replace(wanted, start=start, end=end)
            rows += await self._clickhouse.records(sql.page(look, cursor, limit + 1 - len(rows)))
            end, length = start, length * _WIDER
        return rows[:limit], len(rows) > limit


def _answer(
    covers: Covered,
    rows: list[dict[str, Any]],
    missing: list[str],
    *,
    more: bool,
    alert: Alert | None = None,
    stored: int | None = None,
) -> Events:
    last = rows[-1] if more else None
    return Events(
        covers=covers,
        alert=alert,
        complete=not missing,
        missing=missing,
        stored=stored,
        events=[_shown(covers.topic, row) for row in rows],
        more=more,
        next=last and Cursor.of(last["occurred_at"], last["event_id"]),
    )


def _shown(topic: str, row: Mapping[str, Any]) -> ShownEvent:
    fields = dict(row)
    source = EventSource(topic=topic, partition=fields.pop("partition"), offset=fields.pop("offset"))
    shown: ShownEvent = _MODELS[topic](source=source, **fields)
    return shown

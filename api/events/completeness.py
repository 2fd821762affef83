"""Whether ClickHouse has all of the events asked for, pure: in words, why not."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from api.events.selection import Place
from api.models.alert_detail import offsets_of
from api.times import to_time
from schemas.time import SECOND, Micros
from schemas.topics import REQUESTS
from streams.notifications.transition import Transition

SETTLING: Final[Micros] = 30 * SECOND
"""How long after it happened an event may be on its way."""

Reached = Mapping[int, int]
"""The highest offset that is stored, by source partition."""


def of_sources(alert: Transition, reached: Reached) -> list[str]:
    """What is not stored yet of the offsets that an alert rests on."""
    ranges = offsets_of(list(alert.sources))
    found = _behind(((each.topic, each.partition, each.last) for each in ranges), reached)
    if len(ranges) < len(alert.sources):
        found.append("where all of the window's events are can't be read from the alert's sources")
    if alert.parts < alert.parts_expected:
        found.append(
            f"only {alert.parts} of {alert.parts_expected} source partitions had come so far when the alert "
            "was judged: of the others it is not known whether their events are stored"
        )
    return found


def of_count(alert: Transition, stored: int) -> list[str]:
    """Whether fewer are stored than the alert has counted."""
    if stored >= alert.requests:
        return []
    return [
        f"the alert counted {alert.requests:,}, and {stored:,} are stored: the others are still to come, "
        "have expired, or were sent twice and are kept once"
    ]


def of_span(
    end: Micros,
    counted: Sequence[tuple[int, int, int]],
    newest: Micros,
    reached: Reached,
    now: Micros,
) -> list[str]:
    """What may be missing from a span of requests up to `end`; the rows of `counted` as the query has them.

    `newest` is the end of the newest minute that the windows have.
    """
    found = _behind(((REQUESTS.name, partition, last) for partition, last, _ in counted), reached)
    if end > now:
        found.append(f"the span is not over: it is {_said(now)}")
    elif end > now - SETTLING:
        found.append("events of its last seconds may be on their way")
    if any(open_minutes for _, _, open_minutes in counted):
        found.append("minutes of the span are still open: events may come for them")
    if min(end, now) > newest:
        known = f"go up to {_said(newest)}" if newest else "hold nothing yet"
        found.append(f"the stored windows {known}: whether later requests are all stored is not known")
    return found


def of_place(place: Place, reached: Reached) -> list[str]:
    """Why the event of this place was not found."""
    behind = _behind([(place.topic, place.partition, place.offset)], reached)
    return behind or [
        f"{place.topic}/{place.partition} is stored beyond offset {place.offset}, which is not there: it was "
        "refused (the table dead_letters says why), has expired, or was sent again and a later copy is kept"
    ]


def _behind(wanted: Iterable[tuple[str, int, int]], reached: Reached) -> list[str]:
    found = []
    for topic, partition, last in wanted:
        stored = reached.get(partition)
        if stored is None or stored < last:
            known = "not stored at all yet" if stored is None else f"stored up to offset {stored}"
            found.append(
                f"{topic}/{partition} is {known}, and the events asked for go up to offset {last}: "
                "ClickHouse is behind"
            )
    return found


def _said(time: Micros) -> str:
    return to_time(time).isoformat(timespec="seconds").replace("+00:00", "Z")

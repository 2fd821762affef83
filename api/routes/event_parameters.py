"""Which events are asked for, as a dependency of routes: the parameters, checked against each other."""

from typing import Annotated, Final, NamedTuple

from fastapi import Depends, Query

from api.alerting.cursor import Cursor
from api.errors import BadParameterError
from api.events.selection import TABLES, Place, Selection
from api.live.state import Include
from api.routes.parameters import CursorParameter, page_parameter
from api.times import parse_time
from schemas.topics import REQUESTS

_INT32: Final = 2**31 - 1
_INT64: Final = 2**63 - 1
_WAYS: Final = {
    "alert": ("alert", "transition"),
    "from": ("from", "to", "include"),
    "topic": ("topic", "partition", "offset"),
}
_OPTIONAL: Final = ("transition", "include")
_HOW: Final = "Ask with alert and transition, with from and to, or with topic, partition and offset"

AlertParameter = Annotated[
    str | None, Query(description="The events of this alert's window and group.", max_length=200)
]
TransitionParameter = Annotated[
    int | None, Query(description="At this transition; without it, the newest.", ge=1, le=_INT32)
]
FromParameter = Annotated[
    str | None,
    Query(
        alias="from",
        description="The requests from then on: ISO 8601, UTC unless it says otherwise.",
    ),
]
ToParameter = Annotated[str | None, Query(description="Until then, excluded.")]
EventIncludeParameter = Annotated[
    Include | None,
    Query(description="With `from` and `to`: live events, imported ones, or all. Without it: all."),
]
TopicParameter = Annotated[
    str | None,
    Query(description="The event of a place on Kafka: chat.requests, chat.spans, chat.samples."),
]
PartitionParameter = Annotated[int | None, Query(description="Its partition.", ge=0, le=_INT32)]
OffsetParameter = Annotated[int | None, Query(description="Its offset.", ge=0, le=_INT64)]


class Asked(NamedTuple):
    """What was asked for, one way or the other."""

    alert: tuple[str, int | None] | None
    span: Selection | None
    place: Place | None
    cursor: Cursor | None
    limit: int


async def _asked(
    alert: AlertParameter = None,
    transition: TransitionParameter = None,
    from_: FromParameter = None,
    to: ToParameter = None,
    include: EventIncludeParameter = None,
    topic: TopicParameter = None,
    partition: PartitionParameter = None,
    offset: OffsetParameter = None,
    cursor: CursorParameter = None,
    limit: Annotated[int, page_parameter(1_000)] = 200,
) -> Asked:
    """Raises BadParameterError."""
    _check_way(
        {
            "alert": alert,
            "transition": transition,
            "from": from_,
            "to": to,
            "include": include,
            "topic": topic,
            "partition": partition,
            "offset": offset,
        }
    )
    behind = None if cursor is None else Cursor.read(cursor)
    if alert is not None:
        return Asked((alert, transition), None, None, behind, limit)
    if from_ is not None and to is not None:
        return Asked(None, _span(from_, to, include), None, behind, limit)
    place = _place(topic, partition or 0, offset or 0)
    if cursor is not None:
        raise BadParameterError("A place has one event, and no further page.", where="cursor")
    return Asked(None, None, place, None, limit)


AskedDep = Annotated[Asked, Depends(_asked)]


def _check_way(parameters: dict[str, object]) -> None:
    """Whether what was given belongs together, and is all that it takes."""
    given = {name for name in parameters if parameters[name] is not None}
    if not given:
        raise BadParameterError(f"{_HOW}.", where="alert")
    way = next((way for way, names in _WAYS.items() if given & set(names)), "alert")
    for name in sorted(given):
        if name not in _WAYS[way]:
            raise BadParameterError(f"{name} does not go together with {way}. {_HOW}.", where=name)
    for name in _WAYS[way]:
        if name not in given and name not in _OPTIONAL:
            raise BadParameterError(f"{name} is missing. {_HOW}.", where=name)


def _span(from_: str, to: str, include: Include | None) -> Selection:
    start, end = parse_time(from_, "from"), parse_time(to, "to")
    if end <= start:
        raise BadParameterError("to is not after from: write a later time.", where="to")
    return Selection(REQUESTS, start, end, include=include or Include.ALL)


def _place(topic: str | None, partition: int, offset: int) -> Place:
    if topic not in TABLES:
        raise BadParameterError(
            f"The events of {topic!r} are not kept: it is {', '.join(TABLES)}.", where="topic"
        )
    return Place(topic, partition, offset)

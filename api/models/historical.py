"""The answer of `/api/metrics/historical`."""

from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from api.models.current import LeftOut
from streams.windows.periods import Period

_EXAMPLE: Final[dict[str, Any]] = {
    "type": "latency",
    "aggregation": "p95",
    "measure": "total",
    "unit": "ms",
    "grouping": "model",
    "include": "all",
    "window": {"start": "2026-05-04T09:00:00Z", "end": "2026-05-04T09:15:00Z", "step": "5m"},
    "age_ms": 4000,
    "coverage": {
        "panes": 10,
        "first_pane": "2026-05-04T09:00:00Z",
        "last_pane": "2026-05-04T09:14:00Z",
        "open_panes": 1,
        "unpriced": 0,
    },
    "series": [
        {
            "key": {"provider": "openai", "model": "gpt-4o-mini"},
            "requests": 2410,
            "overall": 4102.7,
            "points": [
                {"start": "2026-05-04T09:00:00Z", "value": 4020.1},
                {"start": "2026-05-04T09:05:00Z", "value": None},
                {"start": "2026-05-04T09:10:00Z", "value": 4188.0},
            ],
        }
    ],
    "left_out": {"groups": 0, "requests": 0},
}


class SeriesWindow(BaseModel):
    """The range, moved outwards to whole steps."""

    start: datetime = Field(description="Start, included, UTC.")
    end: datetime = Field(description="End, excluded, UTC.")
    step: str = Field(description=f"Distance of two points: {', '.join(Period)}.")


class SeriesCoverage(BaseModel):
    """What the series rest on."""

    panes: int = Field(description="Panes that have data, of any group asked for.")
    first_pane: datetime | None = Field(description="Start of the first pane with data; null without data.")
    last_pane: datetime | None = Field(description="Start of the last pane with data; null without data.")
    open_panes: int = Field(
        description="Panes that were still open when last written: their figures may grow."
    )
    unpriced: int = Field(description="Requests of the shown groups whose cost is not known.")


class Point(BaseModel):
    """A step's figure."""

    start: datetime = Field(description="Start of the step, UTC.")
    value: int | float | None = Field(description="Null where there is no data.")


class Series(BaseModel):
    """One group's figures over time."""

    key: dict[str, str] = Field(description="The group: the grouping's key fields; empty for the total.")
    requests: int = Field(description="Requests of the group in the whole range.")
    overall: int | float | None = Field(description="The same figure over the whole range at once.")
    points: list[Point] = Field(description="One per step, in order, without gaps in time.")


class Historical(BaseModel):
    """Series of figures over time."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    type: str
    aggregation: str
    measure: str | None = Field(description="Which latency, or which tokens; null for the other types.")
    unit: str = Field(description="The figures' unit.")
    grouping: str
    include: str = Field(description="Which events are counted: live, imported or all.")
    window: SeriesWindow
    age_ms: int | None = Field(
        description="Milliseconds since the newest of these figures was written; null without data."
    )
    coverage: SeriesCoverage
    series: list[Series] = Field(description="By requests, most first.")
    left_out: LeftOut

"""From the queries' rows to series, pure."""

from collections.abc import Sequence
from typing import Any

from api.history.question import Aggregation, Question
from api.models.current import LeftOut
from api.models.historical import Historical, Point, Series, SeriesCoverage, SeriesWindow
from api.times import to_time
from schemas.time import SECOND, Micros

Rows = Sequence[Sequence[Any]]


def build(question: Question, overall: Rows, series: Rows, coverage: Rows, now: Micros) -> Historical:
    """The answer; rows as `api.history.sql` describes them."""
    steps = question.steps()
    values = {(k1, k2, bucket * SECOND): value for k1, k2, bucket, value in series}
    shown = [
        Series(
            key=dict(zip(question.grouping.keys, (k1, k2), strict=False)),
            requests=requests,
            overall=_per_second(question, value, question.start, question.end, now),
            points=[
                Point(
                    start=to_time(start),
                    value=_per_second(question, values.get((k1, k2, start)), start, end, now),
                )
                for start, end in steps
            ],
        )
        for k1, k2, value, requests, *_ in overall
    ]
    groups, requests = overall[0][5:7] if overall else (0, 0)
    panes, first, last, open_panes, written = coverage[0]
    return Historical(
        type=question.kind,
        aggregation=question.aggregation,
        measure=question.measure,
        unit=question.unit,
        grouping=question.grouping.name,
        include=question.include,
        window=SeriesWindow(start=to_time(question.start), end=to_time(question.end), step=question.step),
        age_ms=max(0, now // 1000 - written * 1000) if panes else None,
        coverage=SeriesCoverage(
            panes=panes,
            first_pane=to_time(first * SECOND) if panes else None,
            last_pane=to_time(last * SECOND) if panes else None,
            open_panes=open_panes,
            unpriced=sum(row[4] for row in overall),
        ),
        series=shown,
        left_out=LeftOut(groups=groups - len(shown), requests=requests - sum(s.requests for s in shown)),
    )


def _per_second(
    question: Question, value: float | None, start: Micros, end: Micros, now: Micros
) -> int | float | None:
    """The value; for a rate, divided by the seconds of the step that have passed."""
    if value is None or question.aggregation is not Aggregation.RATE:
        return value
    return value / (max(min(end, now) - start, SECOND) / SECOND)

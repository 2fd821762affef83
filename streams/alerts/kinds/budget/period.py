"""The period of a budget that a moment lies in, by the calendar of the service's time zone."""

from datetime import UTC, datetime, time, timedelta, tzinfo

import numpy as np

from schemas.time import MINUTE, SECOND, Micros, micros_of
from streams.alerts.kinds.budget.terms import BudgetTerms
from streams.windows.panes import Pane


def period_of(rule: BudgetTerms, at: Micros, zone: tzinfo) -> tuple[Micros, Micros]:
    """Start and end of the period that a moment lies in; a rolling one ends with the moment's minute."""
    if not isinstance(rule.period, str):
        end = at - at % MINUTE + MINUTE
        return end - rule.period, end
    today = datetime.fromtimestamp(at / SECOND, UTC).astimezone(zone).date()
    if rule.period == "day":
        first, after = today, today + timedelta(days=1)
    elif rule.period == "week":
        first = today - timedelta(days=today.weekday())
        after = first + timedelta(days=7)
    else:
        first = today.replace(day=1)
        after = (first + timedelta(days=32)).replace(day=1)
    days = Pane("1d", 0, None, zone)
    # By noon, which every day has: midnights are skipped or doubled by some zones.
    noons = [micros_of(datetime.combine(day, time(12), zone)) for day in (first, after)]
    start, end = days.starts(np.array(noons, dtype=np.int64)).tolist()
    return start, end

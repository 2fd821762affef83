"""The period of a budget that a moment lies in, by the calendar of its own time zone or the service's."""

from datetime import tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from schemas.time import MINUTE, Micros
from streams.alerts.fields import Calendar
from streams.alerts.kinds.budget.terms import BudgetTerms
from streams.windows.periods import Period

_PERIODS: Final[dict[Calendar, Period]] = {"day": Period.DAY, "week": Period.WEEK, "month": Period.MONTH}


def period_of(rule: BudgetTerms, at: Micros, zone: tzinfo) -> tuple[Micros, Micros]:
    """Start and end of the period that a moment lies in; a rolling one ends with the moment's minute.

    `zone` is the service's.
    """
    if not isinstance(rule.period, str):
        end = at - at % MINUTE + MINUTE
        return end - rule.period, end
    zone = ZoneInfo(rule.timezone) if rule.timezone else zone
    period = _PERIODS[rule.period]
    start = period.floor(at, zone)
    return start, period.next(start, zone)

"""Panes: the lengths of time in which requests are counted and written, and what each is good for.

An hour, a calendar day, a week and a month are sums of panes, made when they are asked for (`periods`).
"""

from dataclasses import dataclass
from typing import Final

from schemas.time import DAY, HOUR, MINUTE, SECOND, Micros
from streams.catalogue.groupings import (
    ERROR,
    MODEL,
    REGION,
    SERVICE,
    SPACE,
    TOTAL,
    USER,
    WORKFLOW,
    Grouping,
)


@dataclass(frozen=True)
class PaneLength:
    """One length of pane, and which groupings are counted in it."""

    name: str
    length: Micros
    """Of a calendar day: about."""
    groupings: tuple[Grouping, ...]
    calendar: bool = False
    """A day of the configured time zone, which may have 23 or 25 hours."""
    live_only: bool = False
    """Written at every step, for live figures; imported events have no such panes."""
    in_history: bool = False
    """ClickHouse has it."""
    spans: tuple[Micros, ...] = ()
    """The lengths of merged spans of which long windows are put together, ascending from the pane's own; each
    divides the next."""
    longest_window: Micros = 0
    """Of live figures that are put together of it; 0: none are."""
    longest_judged: Micros = 0
    """The longest window of a rule; 0: no rule is judged by it. Closed panes are kept for two hours on
    `chat.closed`, those of a second for a quarter of one."""

    @property
    def stored(self) -> str:
        """The name of the panes that it is in ClickHouse, or is the sum of there."""
        return self.name if self.in_history else ONE_MINUTE.name

    def has(self, grouping: str) -> bool:
        """Whether the grouping is counted in it."""
        return any(each.name == grouping for each in self.groupings)


ONE_SECOND: Final = PaneLength(
    "1s",
    SECOND,
    (TOTAL, SERVICE),
    live_only=True,
    in_history=True,
    spans=(SECOND, 10 * SECOND, MINUTE),
    longest_window=10 * MINUTE,
    longest_judged=10 * MINUTE,
)
ONE_MINUTE: Final = PaneLength(
    "1m",
    MINUTE,
    (TOTAL, SERVICE, MODEL, SPACE, WORKFLOW, REGION, ERROR, USER),
    in_history=True,
    spans=(MINUTE, 10 * MINUTE, HOUR),
    longest_window=24 * HOUR,
    longest_judged=100 * MINUTE,
)
FIVE_MINUTES: Final = PaneLength(
    "5m", 5 * MINUTE, (TOTAL, SERVICE, MODEL), spans=(5 * MINUTE, HOUR), longest_judged=100 * MINUTE
)
ONE_DAY: Final = PaneLength("1d", DAY, (SPACE,), calendar=True)

PANES: Final = {each.name: each for each in (ONE_SECOND, ONE_MINUTE, FIVE_MINUTES, ONE_DAY)}
LIVE: Final = {each.name: each for each in PANES.values() if each.longest_window}
"""Those that live figures are put together of, the shortest first."""
JUDGED: Final = {each.name: each for each in PANES.values() if each.longest_judged}
"""Those that rules are judged by, the shortest first."""

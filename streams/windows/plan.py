"""What is counted, and the rules of time."""

from dataclasses import dataclass
from functools import cached_property

from schemas.time import DAY, HOUR, Micros
from streams.catalogue.groupings import Grouping
from streams.windows.panes import Pane


@dataclass(frozen=True)
class Plan:
    """What is counted: which groupings in which panes; and the rules of time."""

    counted: tuple[tuple[Grouping, Pane], ...]
    lateness: Micros
    keep_imported: Micros = HOUR
    """How long, by the clock, a block of imported events waits for more of them."""
    write_every: Micros = 0
    """How often, by the clock, an open block is counted and written at most; those for live figures always
    are."""
    remember: int = 2_000_000
    """Most ids of recent events that a partition remembers, to tell repeats."""

    @cached_property
    def groupings(self) -> dict[str, Grouping]:
        """The groupings by name."""
        return {grouping.name: grouping for grouping, _ in self.counted}

    @cached_property
    def panes(self) -> dict[str, Pane]:
        """The panes by name."""
        return {pane.name: pane for _, pane in self.counted}

    @cached_property
    def kinds(self) -> frozenset[tuple[str, str]]:
        """Which grouping is counted in which pane, by their names."""
        return frozenset((grouping.name, pane.name) for grouping, pane in self.counted)

    @cached_property
    def shortest(self) -> str | None:
        """The shortest pane that lasts, if any does: an event that is too late for it is too late."""
        lasting = sorted((pane.length or DAY, pane.name) for _, pane in self.lasting)
        return lasting[0][1] if lasting else None

    @cached_property
    def live(self) -> tuple[tuple[Grouping, Pane], ...]:
        """What is counted for live figures alone, at every step."""
        return tuple((grouping, pane) for grouping, pane in self.counted if pane.live_only)

    @cached_property
    def lasting(self) -> tuple[tuple[Grouping, Pane], ...]:
        """What is counted when it is written."""
        return tuple((grouping, pane) for grouping, pane in self.counted if not pane.live_only)

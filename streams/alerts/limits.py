"""The bounds of judging, and where and when it is done."""

from dataclasses import dataclass
from datetime import UTC, tzinfo

from schemas.time import DAY, MINUTE, Micros


@dataclass(frozen=True)
class Limits:
    """The bounds of judging. Spans are microseconds."""

    patience: Micros = MINUTE
    """How long, by the clock, a pane waits for source partitions that stay behind."""
    too_late: Micros = 10 * MINUTE
    """Panes that ended longer ago than this, by the clock, are caught up with: they change no alert."""
    corrections: Micros = 10 * MINUTE
    """How long after a pane was judged late events still correct what was stated of it (event time)."""
    forget_after: Micros = DAY
    """How long after its last data a group is missed; then its alert resolves, and it is forgotten."""
    most_groups: int = 10_000
    """Most groups of a rule and a partition that have an alert, or of which it is remembered that they had
    data; and most whose steps of a budget are published with one pane: the others' follow with the next."""
    most_spenders: int = 500_000
    """Most groups that a budget counts per partition."""


@dataclass(frozen=True)
class Judging:
    """Where and when a pane is judged."""

    partition: int
    now: Micros
    limits: Limits
    too_late: bool = False
    zone: tzinfo = UTC
    """The service's time zone."""

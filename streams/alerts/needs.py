"""What a rule has to know of the past, from before the panes that are judged."""

from typing import Literal, NamedTuple

from schemas.time import Micros

Wanted = Literal["reference", "spent"]
"""`reference`: what earlier windows were, group by group; `spent`: the sums of all minutes."""


class Need(NamedTuple):
    """What a rule has to know, from `start` to `until` (excluded)."""

    what: Wanted
    start: Micros
    until: Micros
    step: Micros | None = None
    """In spans of which length the sums are to be; None: in one."""

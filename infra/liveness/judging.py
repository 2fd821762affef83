"""When a part is stalled. Pure: what was seen of a unit at one look after another in, a verdict out."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Wait:
    """Something that a unit has declared to wait for."""

    number: int
    """Tells it from any other wait."""
    what: str
    since: float
    """Seconds of the part's clock."""
    bound: float | None = None
    """Most seconds that it may take, by its own declaration; None: as long as it takes."""


@dataclass(frozen=True)
class Sighting:
    """A unit at one look."""

    moves: int
    """How often it has got on, ever."""
    occupied: bool
    """It starts, a step is under way, or work waits."""
    waits: tuple[Wait, ...] = ()
    computing: bool = False
    """A thread of it has used CPU since the look before."""
    doing: str = ""
    """What it is occupied with, in words."""


@dataclass(frozen=True)
class Standing:
    """What is remembered of a unit from look to look."""

    moves: int = -1
    still: float = 0.0
    """For how many seconds it has been occupied and has not got on."""
    waited: Mapping[int, float] = field(default_factory=dict)
    """For how many seconds each of its bounded waits has lasted."""


def looked(before: Standing, seen: Sighting, elapsed: float) -> Standing:
    """The standing after one more look, `elapsed` seconds after the look before.

    Seconds in which the process itself did not run (it was stopped, or the machine slept) are not to be
    counted in `elapsed`.
    """
    moved = seen.moves != before.moves or seen.computing
    patient = any(wait.bound is None for wait in seen.waits)
    still = 0.0 if moved or patient or not seen.occupied else before.still + elapsed
    waited = {
        wait.number: before.waited.get(wait.number, 0.0) + (0.0 if seen.computing else elapsed)
        for wait in seen.waits
        if wait.bound is not None
    }
    return Standing(seen.moves, still, waited)


def stalled(standing: Standing, seen: Sighting, stall_after: float) -> str | None:
    """Why the unit is stalled, or None when it is not.

    It is when it has stood still for `stall_after` seconds, and for the bound of what it waits for besides;
    and when something that it waits for has overrun its bound by `stall_after`, whatever else is declared.
    """
    overdue = [
        wait
        for wait in seen.waits
        if wait.bound is not None and standing.waited.get(wait.number, 0.0) >= wait.bound + stall_after
    ]
    if overdue:
        late = overdue[0]
        waited = standing.waited[late.number]
        return f"{late.what} has taken {waited:.0f} s, where {late.bound:g} s is the most it may take"
    longest = max((wait.bound or 0.0 for wait in seen.waits), default=0.0)
    if standing.still >= stall_after + longest and standing.still > 0:
        under = f", waiting for {seen.waits[-1].what}" if seen.waits else ""
        return f"no progress for {standing.still:.0f} s: {seen.doing or 'work waits'}{under}"
    return None

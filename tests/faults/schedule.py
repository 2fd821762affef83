"""Which fault comes when: pure, and the same for the same seed."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice

SHORTEST_S, SHORT_S, LONG_S = 2.0, 5.0, 15.0
LASTING_S = 60.0
EVERYTHING = ("rollup", "usage", "deliveries", "sink")


@dataclass(frozen=True)
class Kind:
    """A fault, as the schedule sees it.

    `lanes` are the parts that it keeps busy: of a fault at the same time, no other takes them. If `either`,
    it takes one of them, in turns.
    """

    name: str
    lanes: tuple[str, ...]
    either: bool = False
    lasting: bool = False
    """Whether it may last a minute, now and then."""


@dataclass(frozen=True)
class Fault:
    """One of a schedule; `seconds` is how long it lasts, where it lasts."""

    number: int
    kind: str
    lanes: tuple[str, ...]
    seed: int
    seconds: float


def schedule(seed: int, length: int, kinds: Sequence[Kind]) -> list[Fault]:
    """So many faults: all kinds in an order of chance, then all of them again in another.

    In a round, those that take everything come one after the other: in between, the parts have their
    faults side by side. The first round has short ones only.
    """
    chance = random.Random(seed)
    faults = (fault for round_ in count() for fault in _round(round_, kinds, chance))
    return [
        Fault(number, kind.name, lanes, chance.getrandbits(32), seconds)
        for number, (kind, lanes, seconds) in enumerate(islice(faults, length), start=1)
    ]


def _round(
    number: int, kinds: Sequence[Kind], chance: random.Random
) -> list[tuple[Kind, tuple[str, ...], float]]:
    whole = [kind for kind in kinds if not kind.either and len(kind.lanes) > 1]
    others = [kind for kind in kinds if kind not in whole]
    chance.shuffle(whole)
    chance.shuffle(others)
    order = [*whole, *others] if chance.random() < 0.5 else [*others, *whole]
    either = [kind for kind in kinds if kind.either]
    turn: Mapping[str, int] = {kind.name: at + number for at, kind in enumerate(either)}

    def lanes(kind: Kind) -> tuple[str, ...]:
        return (kind.lanes[turn[kind.name] % len(kind.lanes)],) if kind.either else kind.lanes

    return [(kind, lanes(kind), _seconds(number, kind, chance)) for kind in order]


def _seconds(number: int, kind: Kind, chance: random.Random) -> float:
    if number and kind.lasting and chance.random() < 0.2:
        return LASTING_S
    return chance.uniform(SHORTEST_S, LONG_S if number else SHORT_S)


def ready(waiting: Sequence[Fault], busy: frozenset[str]) -> Fault | None:
    """The first that can begin while some lanes are busy; none overtakes another of the same lane."""
    taken = set(busy)
    for fault in waiting:
        if taken.isdisjoint(fault.lanes):
            return fault
        taken.update(fault.lanes)
    return None

"""The schedule of faults: the same for the same seed, all kinds in every round, none in another's way."""

from collections import Counter

import pytest

from tests.faults.catalogue import CATALOGUE, KINDS
from tests.faults.schedule import EVERYTHING, LASTING_S, SHORT_S, Fault, ready, schedule

ALL = list(KINDS.values())


def test_the_same_seed_gives_the_same_schedule() -> None:
    assert schedule(7, 200, ALL) == schedule(7, 200, ALL)
    assert schedule(7, 200, ALL) != schedule(8, 200, ALL)


@pytest.mark.parametrize("seed", range(20))
def test_every_kind_comes_once_before_any_comes_again(seed: int) -> None:
    rounds = schedule(seed, 3 * len(ALL), ALL)

    for begin in range(0, len(rounds), len(ALL)):
        of_round = [fault.kind for fault in rounds[begin : begin + len(ALL)]]
        assert sorted(of_round) == sorted(KINDS)


def test_two_hundred_faults_kill_the_broker_and_add_workers_five_times() -> None:
    times = Counter(fault.kind for fault in schedule(1, 200, ALL))

    assert min(times["broker-killed"], times["second-worker"], times["late-worker"]) >= 5


def test_every_part_has_its_share_of_the_faults_that_take_one_of_them() -> None:
    rounds = max(len(kind.lanes) for kind in ALL)
    either = [fault for fault in schedule(1, rounds * len(ALL), ALL) if KINDS[fault.kind].either]
    lanes = {(fault.kind, fault.lanes) for fault in either}

    assert lanes == {(kind.name, (part,)) for kind in ALL if kind.either for part in kind.lanes}


def test_the_first_round_is_short_and_later_ones_may_last_a_minute() -> None:
    faults = schedule(1, 10 * len(ALL), ALL)

    assert max(fault.seconds for fault in faults[: len(ALL)]) <= SHORT_S
    assert {KINDS[fault.kind].lasting for fault in faults if fault.seconds == LASTING_S} == {True}


def test_faults_of_different_parts_happen_side_by_side_and_none_overtakes_in_its_lane() -> None:
    first, second, whole, third = (
        Fault(1, "a", ("sink",), 0, 0),
        Fault(2, "b", ("rollup",), 0, 0),
        Fault(3, "c", EVERYTHING, 0, 0),
        Fault(4, "d", ("usage",), 0, 0),
    )

    assert ready([first, second, whole, third], frozenset()) is first
    assert ready([second, whole, third], frozenset({"sink"})) is second
    assert ready([whole, third], frozenset({"sink", "rollup"})) is None
    assert ready([whole, third], frozenset()) is whole


def test_every_kind_says_what_it_is_and_how_long_recovering_may_take() -> None:
    for name, entry in CATALOGUE.items():
        assert entry.about.endswith("."), name
        assert entry.within_s <= (30 if "worker" in name or name == "agent-raises" else 60)

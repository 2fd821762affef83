"""The ids of what is over: known for as long as they can come again, in little memory."""

import random

import numpy as np

from schemas.time import DAY, HOUR
from streams.deliveries.remembered import Over, Remembered

NOW = 1000 * DAY


def _over(number: int, at: int = NOW) -> Over:
    return Over(random.Random(number).getrandbits(64), at)


def _filled(memory: Remembered, numbers: range, at: int = NOW) -> dict[bytes, bytes | None]:
    overs = [_over(number, at) for number in numbers]
    for over in overs:
        memory.add(over, NOW + 1000 * DAY)
    return memory.fold(overs).blocks


def test_it_knows_what_was_added_before_and_after_folding_and_nothing_else() -> None:
    memory = Remembered(7 * DAY, 1_000_000)
    memory.add(_over(1), NOW)
    assert memory.knows([_over(1).digest, _over(2).digest]) == [True, False]
    memory.fold([_over(1)])
    assert memory.knows([_over(2).digest, _over(1).digest]) == [False, True]
    assert memory.knows([]) == []


def test_it_comes_back_from_its_blocks() -> None:
    memory = Remembered(7 * DAY, 1_000_000)
    entries: dict[bytes, bytes | None] = {}
    for start in range(0, 10_000, 300):
        entries |= _filled(memory, range(start, start + 300))
    again = Remembered(7 * DAY, 1_000_000)
    again.restore({key: entry for key, entry in entries.items() if entry is not None})
    assert len(again) == len(memory) == 10_200
    assert all(again.knows([_over(number).digest for number in range(10_200)]))
    assert not any(again.knows([_over(number).digest for number in range(10_200, 11_000)]))


def test_an_id_takes_eight_bytes() -> None:
    blocks = _filled(Remembered(7 * DAY, 1_000_000), range(8192))
    assert sum(len(entry or b"") for entry in blocks.values()) < 8192 * 8 + 100


def test_ids_are_forgotten_when_what_is_made_much_later_comes() -> None:
    memory = Remembered(DAY, 1_000_000)
    _filled(memory, range(4096))
    _filled(memory, range(4096, 5000), NOW + 23 * HOUR)
    assert all(memory.knows([_over(number).digest for number in range(5000)]))
    written = _filled(memory, range(5000, 5001), NOW + 25 * HOUR)
    assert None in written.values()
    assert memory.knows([_over(1).digest, _over(4500).digest]) == [False, True]
    assert memory.forgotten_early == 0


def test_time_in_which_nothing_comes_forgets_nothing() -> None:
    memory = Remembered(DAY, 1_000_000)
    entries = _filled(memory, range(4096))
    again = Remembered(DAY, 1_000_000)
    again.restore({key: entry for key, entry in entries.items() if entry is not None})
    again.add(_over(9000), NOW + 30 * DAY)
    again.fold([_over(9000)])
    assert all(again.knows([_over(number).digest for number in range(4096)]))


def test_too_many_are_forgotten_early_and_counted() -> None:
    memory = Remembered(7 * DAY, 10_000)
    for start in range(0, 20_000, 1000):
        _filled(memory, range(start, start + 1000))
    assert len(memory) <= 10_000
    assert memory.forgotten_early == 20_000 - len(memory)
    assert all(memory.knows([_over(number).digest for number in range(19_000, 20_000)]))


def test_what_claims_to_come_from_the_future_forgets_nothing() -> None:
    memory = Remembered(DAY, 1_000_000)
    _filled(memory, range(4096))
    future = _over(5000, NOW + 1000 * DAY)
    memory.add(future, NOW)
    memory.fold([future])
    assert all(memory.knows([_over(number).digest for number in range(4096)]))


def test_a_fetch_is_looked_up_at_once() -> None:
    memory = Remembered(7 * DAY, 1_000_000)
    memory.restore(
        {
            b"m%010d" % number: NOW.to_bytes(8, "little")
            + np.sort(np.random.default_rng(number).integers(0, 2**63, 4096, dtype=np.uint64)).tobytes()
            for number in range(50)
        }
    )
    asked = np.random.default_rng(49).integers(0, 2**63, 4096, dtype=np.uint64).tolist()
    assert all(memory.knows(asked))

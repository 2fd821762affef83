"""How much of a partition may be dead-lettered before the sink halts it."""

from collections.abc import Sequence

import pytest

from schemas.batch import Refusal
from schemas.errors import Reason
from sinks.dlq_limit import DlqLimit, Halt, Tally

LIMIT = DlqLimit(share=0.5, window=100)


def judge(tally: Tally, marks: Sequence[bool], first: int = 0) -> Halt | None:
    """The verdict on records of which those marked are refused."""
    refused = [Refusal(at, first + at, Reason.MALFORMED, "torn") for at, bad in enumerate(marks) if bad]
    return tally.judge(3, len(marks), refused)


def halts_after(marks: Sequence[bool], step: int) -> int | None:
    """How many records are taken, in steps of so many, before the halt; None without one."""
    tally = Tally(LIMIT)
    for start in range(0, len(marks), step):
        if judge(tally, marks[start : start + step], start) is not None:
            return start
    return None


def test_few_records_prove_nothing_however_bad_they_are() -> None:
    assert judge(Tally(LIMIT), [True] * 9) is None


def test_when_most_of_enough_records_are_refused_the_partition_is_halted() -> None:
    halt = judge(Tally(LIMIT), [True] * 12, first=500)
    assert halt is not None
    assert (halt.partition, halt.refused, halt.seen, halt.first.offset) == (3, 10, 10, 500)
    assert halt.reasons == (("malformed", 12),)
    assert "10 of the last 10 records of partition 3" in halt.found
    assert "offset 500: torn" in halt.found


def test_half_is_allowed_and_more_is_not() -> None:
    assert judge(Tally(LIMIT), [False, True] * 200) is None
    assert judge(Tally(LIMIT), [False] * 50 + [True] * 50) is None
    assert judge(Tally(LIMIT), [False] * 50 + [True] * 51) is not None


def test_only_the_latest_records_count() -> None:
    long_good = [False] * 10_000
    assert judge(Tally(LIMIT), long_good + [True] * 50 + long_good) is None
    assert judge(Tally(LIMIT), long_good + [True] * 51 + long_good) is not None


@pytest.mark.parametrize("marks", [[False] * 300 + [True] * 100, [True, False, True] * 60])
def test_the_cut_of_the_batches_makes_no_difference(marks: list[bool]) -> None:
    alone = halts_after(marks, 1)
    assert alone is not None
    for step in (7, 64, 1_000):
        taken = halts_after(marks, step)
        assert taken is not None
        assert taken <= alone < taken + step


def test_what_was_halted_counts_as_not_seen() -> None:
    tally = Tally(LIMIT)
    assert judge(tally, [False] * 50) is None
    assert judge(tally, [True] * 60) is not None
    assert judge(tally, [True] * 50) is None


def test_a_share_of_one_allows_everything() -> None:
    assert judge(Tally(DlqLimit(share=1.0, window=100)), [True] * 1_000) is None


@pytest.mark.parametrize("lost", [60, 2**31])
def test_a_refusal_of_many_records_counts_as_many(lost: int) -> None:
    refused = [Refusal(40, 40, Reason.UNREADABLE_BATCH, "torn")]
    halt = Tally(LIMIT).judge(3, 41, refused, {40: lost})
    assert halt is not None
    assert halt.refused == 41
    assert Tally(LIMIT).judge(3, 41, refused, {40: 40}) is None
    assert Tally(LIMIT).judge(3, 41, refused) is None

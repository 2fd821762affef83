"""A fetch that got lost on the way is noticed, and fetched again."""

from streams.runtime.continuity import Continuity, Verdict


def test_fetches_that_follow_one_another_are_taken() -> None:
    partition = Continuity(100)
    assert [partition.judge(100, 149), partition.judge(150, 150)] == [Verdict.TAKE, Verdict.TAKE]
    assert partition.expected == 151


def test_records_that_come_again_are_taken_and_move_nothing_back() -> None:
    partition = Continuity(100)
    assert partition.judge(40, 80) is Verdict.TAKE
    assert partition.expected == 100


def test_a_hole_is_fetched_again_and_what_was_under_way_is_left() -> None:
    partition = Continuity(100)
    assert partition.judge(200, 299) is Verdict.REWIND
    assert partition.judge(300, 399) is Verdict.LEAVE
    assert partition.expected == 100
    assert partition.judge(100, 399) is Verdict.TAKE
    assert partition.judge(400, 400) is Verdict.TAKE


def test_a_hole_with_nothing_in_it_is_stepped_over_once_it_has_been_fetched_again() -> None:
    partition = Continuity(100)
    assert partition.judge(200, 299) is Verdict.REWIND
    assert partition.judge(200, 310) is Verdict.TAKE
    assert partition.expected == 311


def test_a_second_hole_is_a_hole_of_its_own() -> None:
    partition = Continuity(0)
    partition.judge(10, 19)
    partition.judge(0, 19)
    assert partition.judge(30, 39) is Verdict.REWIND

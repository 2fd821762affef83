"""Health by progress: who has work waiting and does not get on with it."""

import pytest

from api.health.progress import FOLLOWERS, PATIENCE, Follower, Offsets, Progress, Sighting, Verdict
from schemas.time import SECOND
from schemas.topics import TOPICS

ROLLUP = Follower("rollup", "chatgauge-rollup", "chat.requests")


@pytest.fixture
def progress() -> Progress:
    return Progress([ROLLUP])


def verdict(progress: Progress, now: int) -> Verdict:
    return progress.judge(now)[0]


def seen(*partitions: tuple[int | None, int], members: int = 1) -> Sighting:
    """Partitions as (committed, end)."""
    return Sighting(members, {p: Offsets(committed, 0, end) for p, (committed, end) in enumerate(partitions)})


def test_before_its_topic_exists_a_follower_is_awaited(progress: Progress) -> None:
    assert not verdict(progress, 0).ok
    assert verdict(progress, 0).detail == "awaiting the topic chat.requests"


def test_without_any_event_all_is_well_even_without_members(progress: Progress) -> None:
    progress.observe(ROLLUP, seen((None, 0), (None, 0), members=0), 0)
    assert verdict(progress, 100 * SECOND).ok


def test_with_events_and_no_member_it_is_not(progress: Progress) -> None:
    progress.observe(ROLLUP, seen((5, 5), members=0), 0)
    assert not verdict(progress, 0).ok
    assert "rollup is not running" in verdict(progress, 0).detail


def test_who_lags_and_advances_is_well(progress: Progress) -> None:
    for second in range(0, 120, 10):
        progress.observe(ROLLUP, seen((second, 10_000)), second * SECOND)
    assert verdict(progress, 120 * SECOND).ok
    assert verdict(progress, 120 * SECOND).lag == 9_890


def test_who_lags_and_stands_still_is_not_and_the_partition_is_named(progress: Progress) -> None:
    for second in range(0, 40, 10):
        progress.observe(ROLLUP, seen((10, 10), (7, 1_207)), second * SECOND)
    assert verdict(progress, PATIENCE - 1).ok
    stuck = verdict(progress, PATIENCE)
    assert not stuck.ok
    assert stuck.stuck == (1,)
    assert stuck.detail == ("rollup has not advanced for 30 s in chat.requests, partition 1 (1,200 waiting)")


def test_a_partition_that_its_group_has_halted_is_not_well_at_once_and_says_why(progress: Progress) -> None:
    offsets = {0: Offsets(7, 0, 7), 1: Offsets(7, 0, 1_207, "halted: nothing of it can be read")}
    progress.observe(ROLLUP, Sighting(1, offsets), 0)
    halted = verdict(progress, 0)
    assert not halted.ok
    assert halted.stuck == (1,)
    assert halted.detail == "rollup on chat.requests, partition 1: halted: nothing of it can be read"


def test_a_group_that_never_commits_is_not_well_after_a_while(progress: Progress) -> None:
    progress.observe(ROLLUP, seen((None, 3)), 0)
    assert verdict(progress, SECOND).ok
    assert not verdict(progress, PATIENCE).ok


def test_an_idle_hour_does_not_count_as_standing_still(progress: Progress) -> None:
    progress.observe(ROLLUP, seen((5, 5)), 0)
    progress.observe(ROLLUP, seen((5, 6)), 3_600 * SECOND)
    assert verdict(progress, 3_610 * SECOND).ok


def test_who_advances_again_is_well_again(progress: Progress) -> None:
    progress.observe(ROLLUP, seen((5, 9)), 0)
    assert not verdict(progress, PATIENCE).ok
    progress.observe(ROLLUP, seen((6, 9)), PATIENCE)
    assert verdict(progress, PATIENCE).ok


def test_records_deleted_by_retention_do_not_wait() -> None:
    assert Offsets(committed=None, begin=90, end=100).lag == 10
    assert Offsets(committed=20, begin=90, end=100).lag == 10


def test_every_topic_that_somebody_works_off_is_looked_at() -> None:
    followed = {follower.topic for follower in FOLLOWERS}
    kept_by_whoever_reads_them = {"AgentState", "Definition"}
    assert followed == {topic.name for topic in TOPICS if topic.record not in kept_by_whoever_reads_them}


def test_an_open_transaction_is_named_where_all_before_it_is_read(progress: Progress) -> None:
    offsets = {0: Offsets(7, 0, 7, held_back=3), 1: Offsets(5, 0, 7, held_back=3), 2: Offsets(7, 0, 7)}
    progress.observe(ROLLUP, Sighting(1, offsets), 0)
    found = verdict(progress, 0)
    assert (found.ok, found.lag) == (True, 2)
    assert found.detail == (
        "2 waiting; an open transaction holds back 3 records from offset 7 in chat.requests, partition 0"
    )

"""Which blocks are written, and which records stay uncommitted meanwhile."""

from sinks.coalescing import Arrival, Coalescing, version
from sinks.writer import Assignment
from streams.windows.block import Block
from tests.sinks.making import HELD, block

INTERVAL = 10.0


def arrive(coalescing: Coalescing, kafka_offset: int, what: Block, assignment: Assignment = HELD) -> None:
    coalescing.add(Arrival(assignment, kafka_offset, what))


def test_of_one_identity_only_the_newest_is_written() -> None:
    coalescing = Coalescing(INTERVAL)
    for offset in (10, 20, 30):
        arrive(coalescing, offset, block(offset=offset))
    assert [a.block.offset for a in coalescing.due(0.0)] == [30]
    assert coalescing.folded == 2


def test_a_later_record_with_an_older_state_does_not_win() -> None:
    coalescing = Coalescing(INTERVAL)
    arrive(coalescing, 1, block(offset=30))
    arrive(coalescing, 2, block(offset=20))
    assert [a.block.offset for a in coalescing.due(0.0)] == [30]


def test_blocks_born_at_different_offsets_add_up_and_are_both_written() -> None:
    coalescing = Coalescing(INTERVAL)
    arrive(coalescing, 1, block(since=0, offset=10))
    arrive(coalescing, 2, block(since=11, offset=20))
    assert [a.block.since for a in coalescing.due(0.0)] == [0, 11]


def test_an_open_pane_is_written_at_once_and_then_at_most_every_interval() -> None:
    coalescing = Coalescing(INTERVAL)
    arrive(coalescing, 1, block(offset=1))
    assert len(coalescing.due(100.0)) == 1
    arrive(coalescing, 2, block(offset=2))
    assert coalescing.due(109.9) == []
    arrive(coalescing, 3, block(offset=3))
    assert [a.block.offset for a in coalescing.due(110.0)] == [3]


def test_a_closed_pane_is_written_at_once() -> None:
    coalescing = Coalescing(INTERVAL)
    arrive(coalescing, 1, block(offset=1))
    coalescing.due(100.0)
    arrive(coalescing, 2, block(offset=2, closed=True))
    assert [a.block.offset for a in coalescing.due(100.1)] == [2]
    arrive(coalescing, 3, block(offset=3, closed=True, revision=1))
    assert [a.block.offset for a in coalescing.due(100.2)] == [3]


def test_the_first_block_held_back_is_where_a_restart_must_read_from() -> None:
    coalescing = Coalescing(INTERVAL)
    arrive(coalescing, 1, block(offset=1, grouping="total", rows=None))
    arrive(coalescing, 2, block(offset=1))
    coalescing.due(100.0)
    arrive(coalescing, 3, block(offset=2, grouping="total"))
    arrive(coalescing, 4, block(offset=2))
    arrive(coalescing, 5, block(offset=3, grouping="total"))
    coalescing.due(101.0)
    assert coalescing.first_held([HELD]) == {HELD: 4}
    coalescing.due(120.0)
    assert coalescing.first_held([HELD]) == {}


def test_what_another_assignment_brought_is_forgotten() -> None:
    coalescing = Coalescing(INTERVAL)
    other = Assignment(1, 1)
    arrive(coalescing, 1, block(partition=0))
    arrive(coalescing, 1, block(partition=1), other)
    coalescing.forget_all_but({HELD})
    assert [a.block.key.partition for a in coalescing.due(0.0)] == [0]


def test_at_the_end_everything_is_written() -> None:
    coalescing = Coalescing(INTERVAL)
    arrive(coalescing, 1, block(offset=1))
    coalescing.due(100.0)
    arrive(coalescing, 2, block(offset=2))
    assert [a.block.offset for a in coalescing.due(100.1, everything=True)] == [2]


def test_versions_order_by_offset_then_revision_then_closing() -> None:
    states = [
        block(offset=0),
        block(offset=0, closed=True),
        block(offset=1),
        block(offset=1, revision=1),
        block(offset=1, revision=1, closed=True),
        block(offset=1, revision=2),
        block(offset=1, revision=10**6),
        block(offset=2),
        block(offset=2**46),
    ]
    versions = [version(state) for state in states]
    assert versions == sorted(set(versions))
    assert versions[-1] < 2**64

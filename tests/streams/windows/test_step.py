"""What a step leaves to do: the rows of panes that close, put together."""

from streams.catalogue.groupings import SPACE, USER, Grouping
from streams.windows.aggregate import Events, aggregate
from streams.windows.block import BlockKey
from streams.windows.panes import Pane
from streams.windows.state import BlockState
from streams.windows.step import Step, closed_rows
from tests.streams.windows.requests import NOON, Request, frame, request

MINUTE = 60_000_000
MINUTES = Pane("1m", 0, MINUTE)


def states(requests: list[Request], grouping: Grouping, revision: int = 0) -> list[BlockState]:
    found = []
    for share in aggregate(Events(frame(requests)), grouping, MINUTES):
        key = BlockKey(0, False, "1m", share.pane_start, grouping.name, share.bucket)
        state = BlockState(key, grouping, share.pane_start + MINUTE, share.first_offset, revision=revision)
        state.add(share, requests[-1]["_offset"])
        found.append(state)
    return found


def test_a_step_that_changed_nothing_is_complete_and_leaves_nothing_to_do() -> None:
    step = Step()
    assert (step.blocks, step.expired, step.closed, step.corrected) == ([], [], [], [])
    assert (step.complete, step.counted, step.repeats, step.too_late) == (True, 0, 0, 0)
    Step().blocks.append(None)  # type: ignore[arg-type]
    assert Step().blocks == [], "each has lists of its own"


def test_nothing_closes_no_pane() -> None:
    assert closed_rows([]) == []


def test_the_blocks_of_a_pane_are_one_with_the_first_offset_and_the_highest_revision_of_them() -> None:
    requests = [request(30, user_id="u1"), request(10, user_id="u2"), request(20, user_id="u3")]
    blocks = states(requests, USER)
    assert len(blocks) == 3
    for revision, block in zip((2, 5, 3), blocks, strict=True):
        block.revision = revision

    (closed,) = closed_rows(blocks)

    assert (closed.grouping, closed.pane, closed.pane_start, closed.pane_end) == (
        *(USER, "1m", NOON),
        NOON + MINUTE,
    )
    assert (closed.since, closed.revision) == (10, 5)
    assert sorted(closed.rows["user_id"].to_pylist()) == ["u1", "u2", "u3"]
    assert closed.rows["requests"].to_pylist() == [1, 1, 1]


def test_panes_and_groupings_stay_apart_in_the_order_of_their_blocks() -> None:
    requests = [request(0, NOON), request(1, NOON + MINUTE), request(2, NOON + MINUTE)]
    closed = closed_rows([*states(requests, SPACE), *states(requests, USER, revision=1)])
    assert [
        (each.grouping.name, each.pane_start, each.pane_end, each.since, each.revision) for each in closed
    ] == [
        ("space", NOON, NOON + MINUTE, 0, 0),
        ("space", NOON + MINUTE, NOON + 2 * MINUTE, 1, 0),
        ("user", NOON, NOON + MINUTE, 0, 1),
        ("user", NOON + MINUTE, NOON + 2 * MINUTE, 1, 1),
    ]
    assert [each.rows["requests"].to_pylist() for each in closed] == [[1], [2], [1], [2]]

"""Who else writes to a changelog that this worker owns, and what is to be written again."""

from schemas.time import MINUTE
from streams.fence import Fence, repairs
from streams.windows.block import Block, BlockKey, pack_rows, row_schema, write_block
from streams.windows.measures import TOTAL
from tests.streams.windows.requests import NOON


def entry(offset: int, minute: int = 0, revision: int = 0, closed: bool = False) -> tuple[bytes, bytes]:
    start = NOON + minute * MINUTE
    key = BlockKey(0, False, "1m", start, "total", 0)
    rows = pack_rows(row_schema(TOTAL).empty_table())
    block = Block(key, start + MINUTE, 0, offset, start, revision, closed, rows)
    return key.encode(), write_block(block)


KEY, _ = entry(0)


def mended(foreign: tuple[bytes, bytes | None], own: tuple[bytes, bytes], counted_to: int) -> object:
    return repairs(dict([foreign]), dict([own]), counted_to)


def test_writes_that_follow_one_another_are_all_our_own() -> None:
    fence = Fence(100)
    assert not fence.foreign([100, 101], end=102)
    assert not fence.foreign([102], end=103)
    assert not fence.foreign([], end=103)


def test_writes_of_others_are_found_before_between_and_after_our_own() -> None:
    fence = Fence(100)
    assert fence.foreign([102, 103], end=104) == range(100, 102)
    assert fence.foreign([104, 106], end=107) == range(105, 106)
    assert fence.foreign([], end=109) == range(107, 109)
    assert not fence.foreign([109], end=110)


def test_a_block_that_is_out_of_date_is_replaced_by_our_own() -> None:
    assert mended(entry(40), entry(50), counted_to=60) == [KEY]
    assert mended(entry(50, closed=True), entry(50, revision=1, closed=True), counted_to=60) == [KEY]


def test_a_block_that_is_as_new_as_ours_or_newer_stays() -> None:
    assert mended(entry(50), entry(50), counted_to=60) == []
    assert mended(entry(70), entry(50), counted_to=60) == []


def test_a_block_that_we_have_expired_is_expired_again() -> None:
    stale = entry(40, minute=-1)
    assert mended(stale, entry(50), counted_to=60) == [stale[0]]


def test_a_block_of_somebody_who_is_ahead_stays() -> None:
    assert mended(entry(70, minute=1), entry(50), counted_to=60) == []


def test_what_others_have_expired_and_we_have_not_is_written_again() -> None:
    assert mended((KEY, None), entry(50), counted_to=60) == [KEY]
    assert mended((entry(0, minute=-1)[0], None), entry(50), counted_to=60) == []

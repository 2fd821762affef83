"""Values that lie in the records of a fetch are read as a list of them is."""

import numpy as np
import pytest

from schemas import wire
from schemas.block import Block
from schemas.resolution import field_types
from schemas.values import ValueList, ValueRuns
from tests.schemas.events import REQUEST, long, request, value

HEADER = wire.single_object_header(REQUEST.fingerprint)
GOOD = [value(request(number)) for number in range(6)]
ODD = [None, b"", b"\xc3", b"\xc3\x01", HEADER[:9], b"\0\0\0\0", b"\0\0\0\0\7", b"JSON", HEADER]


def runs(values: list[bytes | None], gap: int = 12) -> ValueRuns:
    """The values, with so much between the end of one and the body of the next; a null begins nowhere."""
    octets, begins, ends = bytearray(), [], []
    for one in values:
        octets += b"\xaa" * (gap - len(HEADER))
        begins.append(len(octets))
        octets += one or b""
        ends.append(len(octets) - (one is None))
    return ValueRuns(bytes(octets) + bytes(16), np.array(begins, np.int64), np.array(ends, np.int64))


def block() -> Block:
    return Block(HEADER, field_types(REQUEST), REQUEST.fields)


def test_each_is_what_it_was() -> None:
    values = [*GOOD, *ODD]
    found = runs(values)
    assert len(found) == len(values)
    assert [found[at] for at in range(len(values))] == values


def test_they_are_grouped_by_their_headers_alike() -> None:
    values = [*GOOD[:3], *ODD, *GOOD[3:], b"\0\0\0\0\7more", b"\xc3\x01stranger", b"\0\0\0\0\1x"]
    one, other = ValueList(values).grouped(), runs(values).grouped()
    assert {header: which.tolist() for header, which in one.of.items()} == {
        header: which.tolist() for header, which in other.of.items()
    }
    assert [(at, error.reason, error.detail) for at, error in one.without] == [
        (at, error.reason, error.detail) for at, error in other.without
    ]


def test_they_are_decoded_alike_all_or_some() -> None:
    for which in (None, np.array([0, 2, 5]), np.array([3])):
        expected = ValueList(GOOD).decode(block(), which)
        found = runs(GOOD).decode(block(), which)
        assert expected is not None
        assert found is not None
        assert found.equals(expected)


@pytest.mark.parametrize("bad", ODD)
def test_one_that_is_not_right_spoils_all(bad: bytes | None) -> None:
    assert runs([*GOOD, bad]).decode(block()) is None
    assert runs([bad, *GOOD]).decode(block()) is None


@pytest.mark.parametrize("gap", [10, 11])
def test_they_must_not_lie_too_near_to_each_other(gap: int) -> None:
    assert runs(GOOD, gap).decode(block()) is None
    assert runs(GOOD[:1], gap).decode(block()) is not None


def test_however_much_lies_between_them_is_skipped() -> None:
    for gap in (12, 13, 75, 76, 8_203, 8_204, 1_048_700):
        found = runs(GOOD[:3], gap).decode(block())
        assert found is not None
        assert found["event_id"].to_list() == ["event-000000", "event-000001", "event-000002"]


@pytest.mark.slow
def test_no_body_reaches_beyond_its_end() -> None:
    """Behind a record that ends early, all that might lead on to the next one."""
    for skipped in range(300):
        for filling in (b"", bytes(8), b"\xaa" * 8):
            assert runs([GOOD[0], GOOD[1] + filling + long(skipped), GOOD[2]]).decode(block()) is None

"""A rule's state as an entry: what is read is what was written, and nothing else is taken for one."""

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from streams.alerts.lifecycle import OpenAlert
from streams.alerts.state import Outbox, RuleState, Seen, StateError, pack, unpack, unpack_rule


def state() -> RuleState:
    record = {"alert_id": "al_1", "transition": 1, "value": 0.1 + 0.2, "group": ["service=ä"], "step": None}
    alert = OpenAlert(("ä", "b"), "al_1", "pending", 1, 5, 2, record)
    return RuleState(
        "rule",
        3,
        ("threshold", "model", "1m"),
        judged=60_000_000,
        offset=17,
        whole_from=-(2**62),
        remembers_from=4,
        open={alert.group: alert},
        closed=[record],
        seen={("ä", "b"): Seen(60_000_000, 12)},
        figures={"start": 1, "rule": {"id": "rule"}},
        frames={"groups": pl.DataFrame({"user_id": ["u"], "spent": [2**60]}), "none": pl.DataFrame()},
        outbox=Outbox([record], [{"what": "evaluated"}]),
    )


def test_an_entry_is_read_as_it_was_written() -> None:
    written = state()
    read = unpack_rule(written.pack())
    for name, frame in written.frames.items():
        assert_frame_equal(read.frames[name], frame)
    read.frames = written.frames
    assert read == written


def test_an_entry_of_another_version_says_what_to_do() -> None:
    with pytest.raises(StateError, match="has version 07, this program reads 01: run the program"):
        unpack_rule(b"\x07" + state().pack()[1:])


@pytest.mark.parametrize(
    "entry",
    [b"", b"\x01", b"\x01nonsense", state().pack()[:-20], pack({"rule_id": "r"}, {})],
    ids=["empty", "nothing", "nonsense", "cut off", "another state"],
)
def test_what_is_no_entry_is_refused(entry: bytes) -> None:
    with pytest.raises(StateError):
        unpack_rule(entry)


def test_columns_are_packed_small() -> None:
    users = pl.DataFrame({"user_id": [f"user-{n:06}" for n in range(100_000)], "spent": range(100_000)})
    entry = pack({}, {"users": users})
    assert len(entry) < 1_000_000
    assert_frame_equal(unpack(entry)[1]["users"], users)

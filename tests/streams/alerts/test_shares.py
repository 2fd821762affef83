"""From records of `chat.closed` to panes: what is held, how far it reaches, and what is known to be whole."""

import pytest

from schemas.codec import Codec
from schemas.contract import schema
from schemas.errors import RefusedError, SchemaError
from schemas.time import HOUR, MINUTE
from streams.alerts.closed_share import ClosedShare, Source, read_share
from streams.alerts.pane_series import ALWAYS, PaneSeries
from streams.alerts.shares import Shares
from streams.windows.block import pack_rows
from tests.streams.alerts.closed_panes import NOON, Topic, minute, rows

TOTAL = PaneSeries("total", "1m")
USER = PaneSeries("user", "1m")
SERVICE = PaneSeries("service", "1m")
MODEL = PaneSeries("model", "1m")


def taken(topic: Topic, *series: PaneSeries, memory: int = HOUR, latencies: tuple[str, ...] = ()) -> Shares:
    shares = Shares()
    shares.want(dict.fromkeys(series, (memory, latencies)))
    for record in topic.records:
        shares.take(record)
    return shares


def test_a_record_is_read_with_its_times_in_microseconds() -> None:
    value = {
        "table": "chat.windows", "partition": 2, "partitions": 4, "watermark": minute(2), "offset": 99,
        "pane": "1m", "pane_start": minute(0), "pane_end": minute(1), "grouping": "total",
        "rows": pack_rows(rows("total", {(): {"requests": 3}})), "since": 7, "revision": 1,
    }  # fmt: skip
    share = read_share(Codec(schema("ClosedPane")).encode(value), 5)
    assert (share.at, share.partition, share.partitions, share.watermark) == (5, 2, 4, minute(2))
    assert (share.pane_start, share.pane_end, share.since, share.revision) == (minute(0), minute(1), 7, 1)
    shares = Shares()
    shares.want({TOTAL: (HOUR, ())})
    change = shares.take(share)
    assert change is not None
    assert change.rows.column("requests").to_pylist() == [3]


def test_a_heartbeat_has_no_rows_and_nonsense_is_refused() -> None:
    value = {"table": "chat.usage", "partition": 0, "partitions": 1, "watermark": minute(1), "offset": -1}
    assert read_share(Codec(schema("ClosedPane")).encode(value), 0).rows is None
    with pytest.raises(SchemaError):
        read_share(b"nonsense", 0)


def test_the_frontier_is_the_slowest_partitions_watermark_and_never_goes_back() -> None:
    topic = Topic(partitions=2)
    topic.heartbeat(minute(3), 0)
    shares = taken(topic, TOTAL)
    assert shares.watermarks.frontier("chat.windows") is None, "the other partition has said nothing"
    topic.heartbeat(minute(2), 1)
    assert taken(topic, TOTAL).watermarks.frontier("chat.windows") == minute(2)
    topic.heartbeat(minute(1), 1)
    shares = taken(topic, TOTAL)
    assert shares.watermarks.frontier("chat.windows") == minute(2)
    assert shares.watermarks.lead("chat.windows") == minute(3)
    assert shares.watermarks.frontier("chat.usage") is None
    assert [shares.watermarks.parts("chat.windows", minute(n)) for n in (2, 3, 4)] == [2, 1, 0]


def test_a_share_alone_closes_nothing_as_others_of_its_partition_may_follow() -> None:
    topic = Topic()
    topic.share(minute(1), {(): {"requests": 1}})
    assert taken(topic, TOTAL).watermarks.frontier("chat.windows") is None


def test_windows_add_up_panes_and_partitions() -> None:
    topic = Topic(partitions=2)
    for n in range(1, 31):
        for partition in (0, 1):
            topic.share(minute(n), {"a": {"requests": n, "total_us": [n * 1000]}}, grouping="service",
                        partition=partition)  # fmt: skip
    shares = taken(topic, SERVICE, latencies=("total_us",))
    for start, end in [(0, 1), (0, 30), (3, 27), (9, 11), (10, 20)]:
        window = shares.window(SERVICE, minute(start), minute(end))
        numbers = range(start + 1, end + 1)
        assert window["requests"].to_list() == [2 * sum(numbers)]
        assert window["total_us_count"].to_list() == [2 * len(numbers)]
        assert window["total_us_max"].to_list() == [end * 1000]


def test_a_later_share_of_the_same_partition_replaces_an_earlier_one() -> None:
    topic = Topic()
    shares = taken(topic, TOTAL)
    found = []
    for version, requests in [((5, 0), 1), ((5, 1), 2), ((4, 9), 3), ((5, 1), 4), ((6, 0), 5)]:
        topic.share(minute(1), {(): {"requests": requests}}, offset=version[0], revision=version[1])
        shares.take(topic.records[-1])
        found.append(shares.window(TOTAL, minute(0), minute(1))["requests"].item())
    assert found == [1, 2, 2, 4, 5]


def test_a_correction_of_some_groups_leaves_the_others_as_they_are() -> None:
    """Blocks of one pane are corrected one by one, and may be equally often: only theirs are told."""
    topic = Topic()
    groups = {user: {"requests": 1} for user in ("u1", "u2", "u3")}
    topic.share(minute(1), groups, grouping="user", offset=9, since=4)
    shares = taken(topic, USER)
    for user in ("u1", "u2"):
        topic.share(minute(1), {user: {"requests": 5}}, grouping="user", offset=12, since=2, revision=1)
        change = shares.take(topic.records[-1])
        assert change is not None
        assert change.replaced is not None
        assert change.replaced.select(["user_id", "requests"]).to_pylist() == [
            {"user_id": user, "requests": 1}
        ]
    window = shares.window(USER, minute(0), minute(1))
    assert dict(window.select("user_id", "requests").iter_rows()) == {"u1": 5, "u2": 5, "u3": 1}
    assert shares.sources(USER, minute(0), minute(1)) == [Source(0, 2, 12)]
    assert shares.remembers_from(USER, minute(1), HOUR) == 0, "what was not corrected must be read again"


def test_groups_of_two_keys_are_told_apart_by_both() -> None:
    topic = Topic()
    groups = {("p1", "m1"): {"requests": 1}, ("p1", "m2"): {"requests": 2}, ("p2", "m1"): {"requests": 3}}
    topic.share(minute(1), groups, grouping="model", offset=1)
    topic.share(minute(1), {("p1", "m1"): {"requests": 9}}, grouping="model", offset=2, revision=1)
    window = taken(topic, MODEL).window(MODEL, minute(0), minute(1))
    assert sorted(window["requests"].to_list()) == [2, 3, 9]


def test_what_was_merged_is_merged_anew_when_a_share_changes() -> None:
    topic = Topic()
    for n in range(1, 21):
        topic.share(minute(n), {(): {"requests": 1}})
    shares = taken(topic, TOTAL)
    assert shares.window(TOTAL, minute(0), minute(20))["requests"].item() == 20
    topic.share(minute(10), {(): {"requests": 101}})
    change = shares.take(topic.records[-1])
    assert shares.window(TOTAL, minute(0), minute(20))["requests"].item() == 120
    assert change is not None
    assert change.replaced is not None
    assert change.replaced.column("requests").to_pylist() == [1]


def test_sources_are_the_offsets_that_a_window_was_made_from() -> None:
    topic = Topic(partitions=2)
    topic.share(minute(1), {(): {"requests": 1}}, offset=20, since=11)
    topic.share(minute(2), {(): {"requests": 1}}, offset=30, since=18)
    topic.share(minute(2), {(): {"requests": 1}}, offset=7, since=3, partition=1)
    topic.share(minute(3), {(): {"requests": 1}}, offset=40, since=31)
    assert taken(topic, TOTAL).sources(TOTAL, minute(0), minute(2)) == [Source(0, 11, 30), Source(1, 3, 7)]


def test_only_what_is_wanted_is_held_and_rows_that_are_none_are_refused() -> None:
    topic = Topic()
    topic.share(minute(1), {"a": {"requests": 1}}, grouping="space")
    shares = taken(topic, TOTAL)
    assert shares.first_end(TOTAL) is None
    broken = ClosedShare(1, "chat.windows", 0, 1, minute(1), 1, "1m", minute(0), minute(1), "total", b"?")
    with pytest.raises(RefusedError):
        shares.take(broken)
    odd = ClosedShare(2, "chat.windows", 0, 1, minute(1), 1, "1m", NOON + 1, minute(1) + 1, "total", b"?")
    with pytest.raises(RefusedError, match="no pane of 1m ends at"):
        shares.take(odd)
    assert shares.offset == 2


def test_memory_is_bounded_by_what_is_wanted_and_what_comes_later_is_counted() -> None:
    topic = Topic()
    for n in range(1, 61):
        topic.close(minute(n), {(): {"requests": 1}})
    shares = taken(topic, TOTAL, memory=10 * MINUTE)
    shares.release(TOTAL, minute(60))
    assert shares.ends(TOTAL, minute(0), minute(60)) == [minute(n) for n in range(51, 61)]
    topic.share(minute(40), {(): {"requests": 2}})
    assert shares.take(topic.records[-1]) is None
    assert shares.forgotten == 1


def test_from_the_first_record_of_all_everything_is_known() -> None:
    topic = Topic()
    topic.close(minute(1), {(): {"requests": 1}})
    assert taken(topic, TOTAL).whole_from(TOTAL) == ALWAYS


def test_who_joins_late_knows_whole_panes_only_after_the_first_watermarks() -> None:
    topic = Topic(partitions=2, begins_at=500)
    topic.heartbeat(minute(2), 0)
    topic.heartbeat(minute(5), 1)
    topic.heartbeat(minute(6), 0)
    assert taken(topic, TOTAL).whole_from(TOTAL) == minute(5)


def test_what_is_wanted_later_is_whole_after_what_was_told_by_then() -> None:
    topic = Topic()
    topic.close(minute(3), {(): {"requests": 1}})
    shares = taken(topic, TOTAL)
    shares.want({TOTAL: (HOUR, ()), SERVICE: (HOUR, ())})
    assert shares.whole_from(TOTAL) == ALWAYS
    assert shares.whole_from(SERVICE) == minute(3)


def test_read_again_from_where_it_says_everything_is_held_as_before() -> None:
    topic = Topic(partitions=2)
    for n in range(1, 41):
        for partition in (0, 1):
            topic.share(minute(n), {"u": {"requests": n}}, grouping="user", partition=partition)
            topic.heartbeat(minute(n), partition, "chat.usage")
    before = taken(topic, USER, memory=10 * MINUTE)
    before.release(USER, minute(40))
    start = before.remembers_from(USER, minute(40), 10 * MINUTE)
    assert 0 < start < len(topic.records)

    again = Shares()
    again.want({USER: (10 * MINUTE, ())})
    again.restore({USER: minute(30)}, start)
    for record in topic.since(start):
        again.take(record)
    window = (USER, minute(30), minute(40))
    assert again.window(*window).equals(before.window(*window))
    assert again.whole_from(USER) == minute(30)
    assert again.watermarks.frontier("chat.usage") == before.watermarks.frontier("chat.usage")


def test_what_was_to_be_read_again_may_be_gone() -> None:
    topic = Topic(begins_at=900)
    topic.heartbeat(minute(50), 0)
    shares = Shares()
    shares.want({TOTAL: (HOUR, ())})
    shares.restore({TOTAL: minute(20)}, 800)
    shares.take(topic.records[0])
    assert shares.whole_from(TOTAL) == minute(50)

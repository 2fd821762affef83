"""The live state: what goes in as blocks comes out as merged figures."""

from dataclasses import replace

import pytest

from api.live.coverage import Heartbeat
from api.live.figures import groups
from api.live.live import Record, newest
from api.live.state import Include, Limits, LiveState
from schemas.time import HOUR, MINUTE, SECOND
from streams.windows.block import read_block, write_block
from tests.api.blocks import NOON, Request, block, blocks_of, exact_quantile, some_requests

NOW = NOON + 30 * SECOND


@pytest.fixture
def state() -> LiveState:
    live = LiveState()
    live.caught_up = True
    return live


def requests_in(state: LiveState, length: int = MINUTE, grouping: str = "total", **choice: object) -> int:
    include = Include(choice.pop("include", "live"))
    now = choice.pop("now", NOW)
    window = state.window(length, grouping, now, include=include, **choice)  # type: ignore[arg-type]
    rows = state.query(window, grouping, now, include=include).rows  # type: ignore[arg-type]
    return int(rows["requests"].sum())


class TestBlocks:
    def test_blocks_of_all_partitions_add_up(self, state: LiveState) -> None:
        for partition in range(3):
            state.apply(*block([Request()] * 2, partition=partition), NOW)
        assert requests_in(state) == 6

    def test_a_newer_block_replaces_the_one_before(self, state: LiveState) -> None:
        state.apply(*block([Request()], offset=10), NOW)
        assert requests_in(state) == 1
        state.apply(*block([Request()] * 5, offset=11), NOW)
        assert requests_in(state) == 5

    def test_an_older_block_changes_nothing(self, state: LiveState) -> None:
        state.apply(*block([Request()] * 5, offset=11), NOW)
        state.apply(*block([Request()], offset=10), NOW)
        assert requests_in(state) == 5
        assert state.counts.outdated == 1

    def test_of_the_same_offset_the_higher_revision_wins(self, state: LiveState) -> None:
        state.apply(*block([Request()] * 3, offset=10, revision=1), NOW)
        state.apply(*block([Request()] * 2, offset=10, revision=0), NOW)
        assert requests_in(state) == 3

    def test_a_correction_after_the_close_shows_in_a_merged_result_that_was_kept(
        self, state: LiveState
    ) -> None:
        state.apply(*block([Request()], start=NOON, closed=True), NOW)
        assert requests_in(state) == 1
        state.apply(*block([Request()] * 2, start=NOON, offset=20, revision=1, closed=True), NOW)
        assert requests_in(state) == 2

    def test_a_block_with_a_later_since_adds_to_its_predecessor(self, state: LiveState) -> None:
        state.apply(*block([Request()] * 2, since=0, offset=10), NOW)
        state.apply(*block([Request()] * 3, since=50, offset=60), NOW)
        assert requests_in(state) == 5

    def test_a_tombstone_drops_the_block(self, state: LiveState) -> None:
        key, value = block([Request()] * 2, partition=0)
        state.apply(key, value, NOW)
        state.apply(*block([Request()], partition=1), NOW)
        assert requests_in(state) == 3
        state.apply(key, None, NOW)
        assert requests_in(state) == 1

    def test_after_a_tombstone_the_answer_says_that_something_is_missing(self, state: LiveState) -> None:
        key, value = block([Request()])
        state.apply(key, value, NOW)
        state.apply(key, None, NOW)
        window = state.window(MINUTE, "total", NOW)
        assert "no longer in memory" in " ".join(state.query(window, "total", NOW).coverage.missing)

    def test_what_is_no_block_is_counted(self, state: LiveState) -> None:
        key, value = block([Request()])
        state.apply(b"0|live|1s", value, NOW)
        state.apply(key, value[:20], NOW)
        state.apply(None, value, NOW)
        state.apply(key.replace(b"|1s|", b"|1m|"), value, NOW)
        assert state.counts.refused == 4
        assert requests_in(state) == 0

    def test_a_block_with_unreadable_rows_harms_no_other_and_is_said_to_be_missing(
        self, state: LiveState
    ) -> None:
        state.apply(*block([Request()] * 2, partition=0), NOW)
        good = read_block(block([Request()], partition=1)[1])
        state.apply(good.key.encode(), write_block(replace(good, packed_rows=b"torn")), NOW)
        assert requests_in(state) == 2
        assert (state.counts.refused, state.counts.expired, len(state)) == (1, 0, 1)
        coverage = state.query(state.window(MINUTE, "total", NOW), "total", NOW).coverage
        assert "no longer in memory" in " ".join(coverage.missing)

    def test_day_panes_are_not_held(self, state: LiveState) -> None:
        key, value = block([Request()], "space", "1m")
        state.apply(key.replace(b"|1m|", b"|1d|"), value, NOW)
        assert len(state) == 0

    def test_of_a_batch_only_the_newest_block_of_a_key_is_taken_and_a_tombstone_before_it(self) -> None:
        records = [Record(b"a", b"1", 1), Record(b"a", None, 2), Record(b"b", b"2", 3), Record(b"a", b"3", 4)]
        assert newest(records) == [records[1], records[2], records[3]]


class TestWindows:
    def test_up_to_now_it_begins_at_a_whole_pane_and_ends_in_the_running_one(self, state: LiveState) -> None:
        window = state.window(5 * MINUTE, "total", NOON + 250_000)
        assert (window.pane, window.start, window.end) == ("1s", NOON - 5 * MINUTE, NOON + 250_000)
        assert window.seconds == 300.25

    def test_up_to_a_past_moment_it_is_made_of_whole_panes(self, state: LiveState) -> None:
        window = state.window(5 * MINUTE, "model", NOW, at=NOON - 20 * SECOND)
        assert (window.pane, window.start, window.end) == ("1m", NOON - 6 * MINUTE, NOON - MINUTE)

    @pytest.mark.parametrize(
        ("length", "grouping", "pane"),
        [
            (10 * MINUTE, "total", "1s"),
            (11 * MINUTE, "total", "1m"),
            (MINUTE, "service", "1s"),
            (MINUTE, "model", "1m"),
        ],
    )
    def test_short_ones_by_total_and_service_have_second_panes(
        self, state: LiveState, length: int, grouping: str, pane: str
    ) -> None:
        assert state.window(length, grouping, NOW).pane == pane

    def test_imported_events_have_minute_panes_only(self, state: LiveState) -> None:
        assert state.window(MINUTE, "total", NOW, include=Include.ALL).pane == "1m"

    def test_seconds_too_old_to_be_held_are_looked_up_in_minutes(self, state: LiveState) -> None:
        assert state.window(MINUTE, "total", NOW, at=NOON - HOUR).pane == "1m"

    def test_only_panes_inside_count(self, state: LiveState) -> None:
        for second in range(-70, 30):
            state.apply(*block([Request()], start=NOON + second * SECOND), NOW)
        assert requests_in(state, MINUTE) == 60
        assert requests_in(state, 10 * SECOND) == 10
        assert requests_in(state, 10 * SECOND, at=NOON) == 10

    def test_imported_blocks_count_only_when_asked_for(self, state: LiveState) -> None:
        state.apply(*block([Request()], pane="1m"), NOW)
        state.apply(*block([Request()] * 2, pane="1m", imported=True), NOW)
        assert requests_in(state, HOUR) == 1
        assert requests_in(state, HOUR, include="imported") == 2
        assert requests_in(state, HOUR, include="all") == 3

    def test_a_key_selects_groups_by_their_first_fields(self, state: LiveState) -> None:
        made = [Request(provider="openai", model="a"), Request(provider="openai", model="b")]
        state.apply(*block([*made, Request(provider="azure", model="a")], "model", "1m"), NOW)
        window = state.window(HOUR, "model", NOW)
        assert state.query(window, "model", NOW, key=["openai"]).rows.height == 2
        assert state.query(window, "model", NOW, key=["openai", "b"]).rows["model"].to_list() == ["b"]


class TestFigures:
    @pytest.mark.slow
    def test_merged_over_panes_and_partitions_they_equal_those_of_the_requests(
        self, state: LiveState
    ) -> None:
        made = some_requests(3_000, NOON - 5 * MINUTE, 5 * MINUTE)
        for _, key, value in blocks_of(made, ["total", "service"], "1s", lambda r: r.at % 4):
            state.apply(key, value, NOON)
        window = state.window(5 * MINUTE, "service", NOON)
        shown, left_out = groups(state.query(window, "service", NOON), "service", limit=10)
        assert left_out.groups == 0
        assert [g.requests for g in shown] == sorted((g.requests for g in shown), reverse=True)
        for group in shown:
            of_group = [r for r in made if r.service == group.key["service"]]
            assert group.requests == len(of_group)
            assert group.request_rate == pytest.approx(len(of_group) / 300)
            assert group.errors == sum(r.error_type is not None for r in of_group)
            assert group.cache_hits == sum(r.cache_hit for r in of_group)
            assert group.tokens.prompt == sum(r.prompt_tokens for r in of_group)
            assert group.tokens.total == sum(r.prompt_tokens + r.completion_tokens for r in of_group)
            assert group.unpriced == sum(r.cost_nano_usd is None for r in of_group)
            assert group.cost_usd == pytest.approx(sum(r.cost_nano_usd or 0 for r in of_group) / 1e9)
            assert group.latency_ms is not None
            values = [r.latencies["first_token_us"] for r in of_group if "first_token_us" in r.latencies]
            first_token = group.latency_ms.first_token
            assert first_token.count == len(values)
            assert first_token.avg == pytest.approx(sum(values) / len(values) / 1000)
            assert (first_token.min, first_token.max) == (min(values) / 1000, max(values) / 1000)
            for figure, q in ((first_token.p50, 0.5), (first_token.p95, 0.95), (first_token.p99, 0.99)):
                assert figure == pytest.approx(exact_quantile(values, q) / 1000, rel=0.01)

    def test_a_single_value_is_every_percentile_exactly(self, state: LiveState) -> None:
        state.apply(*block([Request(latencies={"total_us": 123_456})]), NOW)
        shown, _ = groups(state.query(state.window(MINUTE, "total", NOW), "total", NOW), "total", 1)
        assert shown[0].latency_ms is not None
        total = shown[0].latency_ms.total
        assert (total.p50, total.p95, total.p99) == (123.456, 123.456, 123.456)
        assert shown[0].latency_ms.context.p50 is None

    @pytest.mark.parametrize(
        ("costs", "usd"),
        [([None, None], None), ([None, 2_000_000_000], 2.0), ([0, 0], 0.0), ([], 0.0)],
    )
    def test_what_could_not_be_priced_is_not_free(
        self, state: LiveState, costs: list[int | None], usd: float | None
    ) -> None:
        state.apply(*block([Request(cost_nano_usd=cost) for cost in costs]), NOW)
        shown, _ = groups(state.query(state.window(MINUTE, "total", NOW), "total", NOW), "total", 1)
        assert shown[0].cost_usd == usd
        assert shown[0].unpriced == costs.count(None)

    def test_of_many_groups_the_largest_are_shown_and_the_rest_is_counted(self, state: LiveState) -> None:
        made = [Request(user_id=f"u{n}") for n in range(5) for _ in range(n + 1)]
        state.apply(*block(made, "user", "1m"), NOW)
        shown, left_out = groups(state.query(state.window(HOUR, "user", NOW), "user", NOW), "user", 2)
        assert [(g.key["user_id"], g.requests) for g in shown] == [("u4", 5), ("u3", 4)]
        assert (left_out.groups, left_out.requests) == (3, 6)
        assert shown[0].latency_ms is None


class TestLimits:
    def test_what_is_past_its_time_is_let_go_and_said_to_be_gone(self, state: LiveState) -> None:
        state.apply(*block([Request()], pane="1m", start=NOON - 30 * HOUR), NOW)
        state.apply(*block([Request()], pane="1m"), NOW)
        state.sweep(NOW)
        assert len(state) == 1
        assert state.counts.expired == 1
        window = state.window(HOUR, "total", NOW, at=NOON - 29 * HOUR)
        assert any("no longer" in reason for reason in state.query(window, "total", NOW).coverage.missing)

    def test_imported_blocks_are_held_by_arrival_however_old(self, state: LiveState) -> None:
        old = NOON - 1_000 * 24 * HOUR
        state.apply(*block([Request()], pane="1m", start=old, imported=True), NOW)
        state.sweep(NOW)
        assert requests_in(state, HOUR, at=old + MINUTE, include="imported") == 1
        state.sweep(NOW + 27 * HOUR)
        assert len(state) == 0

    def test_beyond_the_byte_limit_what_was_written_longest_ago_goes_first(self) -> None:
        state = LiveState(Limits(max_bytes=100_000))
        for minute in range(60, 0, -1):
            state.apply(*block([Request()], pane="1m", start=NOON - minute * MINUTE), NOW)
        state.sweep(NOW)
        assert 0 < state.size <= 100_000
        assert state.counts.evicted == 60 - len(state)
        assert requests_in(state, 5 * MINUTE, "total", at=NOON - 55 * MINUTE) == 0
        assert requests_in(state, 15 * MINUTE, "total") == 15

    def test_merged_results_stay_within_their_limit(self) -> None:
        state = LiveState(Limits(cache_bytes=50_000))
        for minute in range(300):
            state.apply(*block([Request()], pane="1m", start=NOON - minute * MINUTE), NOW)
        assert requests_in(state, 5 * HOUR) == 300
        assert state.cache_size <= 50_000


class TestCoverage:
    def test_panes_are_closed_through_the_slowest_partition(self, state: LiveState) -> None:
        state.watermarks.observe_partitions(2, frozenset())
        state.apply(*block([Request()], partition=0, watermark=NOON + 25_500_000), NOW)
        state.apply(*block([Request()], partition=1, watermark=NOON + 19_500_000), NOW)
        coverage = state.query(state.window(MINUTE, "total", NOW), "total", NOW).coverage
        assert (coverage.reporting, coverage.partitions, coverage.slowest_partition) == (2, 2, 1)
        assert coverage.watermark == NOON + 19_500_000
        assert coverage.closed_through == NOON + 19 * SECOND
        assert not coverage.complete
        assert coverage.missing == ("the window's newest panes are still open",)
        earlier = state.window(10 * SECOND, "total", NOW, at=NOON + 19 * SECOND)
        assert state.query(earlier, "total", NOW).coverage.complete

    def test_a_partition_that_has_not_reported_is_named(self, state: LiveState) -> None:
        state.watermarks.observe_partitions(3, frozenset({2}))
        state.apply(*block([Request()], partition=0, watermark=NOW), NOW)
        coverage = state.query(state.window(MINUTE, "total", NOW), "total", NOW).coverage
        assert (coverage.reporting, coverage.watermark) == (2, None)
        assert "no report yet from partition 1" in coverage.missing

    def test_an_idle_partition_follows_its_heartbeats(self, state: LiveState) -> None:
        state.apply(*block([Request()], partition=0, watermark=NOON), NOON)
        state.watermarks.observe_heartbeat(Heartbeat("chat.windows", 0, 1, NOW - 10 * SECOND, NOW))
        coverage = state.query(state.window(MINUTE, "total", NOW), "total", NOW).coverage
        assert coverage.watermark == NOW - 10 * SECOND
        assert coverage.newest == NOW

    def test_a_watermark_never_falls(self, state: LiveState) -> None:
        state.apply(*block([Request()], offset=10, watermark=NOW), NOW)
        state.apply(*block([Request()], offset=11, watermark=NOON), NOW)
        assert state.watermarks.of_rollup == {0: NOW}

    def test_the_usage_worker_has_a_watermark_of_its_own(self, state: LiveState) -> None:
        state.watermarks.observe_partitions(1, frozenset())
        state.apply(*block([Request()], partition=0, watermark=NOW), NOW)
        state.apply(*block([Request()], "user", "1m", partition=0, watermark=NOON), NOW)
        by_user = state.query(state.window(HOUR, "user", NOW), "user", NOW).coverage
        assert by_user.watermark == NOON

    def test_without_any_event_nothing_is_missing(self, state: LiveState) -> None:
        state.watermarks.observe_partitions(2, frozenset({0, 1}))
        window = state.window(MINUTE, "total", NOW, at=NOON)
        assert state.query(window, "total", NOW).coverage.complete

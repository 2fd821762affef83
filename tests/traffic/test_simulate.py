"""The simulated product: repeatable, plausible, and late, wrong and unreadable as much as it is told to."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import Codec
from schemas.contract import schema
from schemas.errors import RefusedError
from schemas.topics import REQUESTS
from schemas.validity import rules
from streams.counting.pricing import PriceList
from traffic.corruption import KINDS
from traffic.messages import Encoder, Messages
from traffic.product import AUDIO, EMBEDDINGS, MODELS, SERVICES, WORKFLOWS
from traffic.scenario import Scenario
from traffic.simulate import BLOCK, blocks, messages
from traffic.timeline import Timeline

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
HOUR_US = 3_600 * 1_000_000


def scenario(**given: Any) -> Scenario:
    return Scenario(**({"start": START, "seed": 5, "count": 20_000, "rate": 50.0} | given))


def requests(**given: Any) -> pl.DataFrame:
    return pl.concat(block.requests for block in blocks(scenario(**given)))


@pytest.fixture(scope="module")
def drawn() -> pl.DataFrame:
    return requests()


def test_the_same_seed_gives_the_same_stream_and_another_one_another() -> None:
    first, again, other = ([*messages(scenario(seed=seed, count=9_000), Encoder())] for seed in (5, 5, 6))
    assert [part.values for block in first for part in block] == [p.values for block in again for p in block]
    ids = [set(requests(seed=seed, count=9_000)["event_id"]) for seed in (5, 6)]
    assert len(ids[0]) == len(ids[1]) == 9_000
    assert not ids[0] & ids[1]
    assert len(other) == len(first)


def test_an_endless_stream_begins_like_any_other_and_goes_on() -> None:
    endless = list(islice(blocks(scenario(count=None, rate=1_000.0)), 3))
    assert [block.first for block in endless] == [0, BLOCK, 2 * BLOCK]
    last = endless[-1].requests["occurred_at"][-1]
    assert last - START == pytest.approx(timedelta(seconds=3 * BLOCK / 1_000), abs=timedelta(seconds=0.01))


@given(
    st.floats(0.1, 10_000),
    st.integers(1, 10**7),
    st.floats(0, 1),
    st.datetimes(datetime(2000, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_a_stream_fills_its_length_in_order_whatever_the_wave(
    rate: float, count: int, wave: float, start: datetime
) -> None:
    timeline = Timeline(start, rate, count, wave)
    at = timeline.at_us(np.linspace(0, count, 500))
    assert at[0] == timeline.start_us
    assert at[-1] == pytest.approx(timeline.start_us + count / rate * 1e6, rel=1e-12, abs=1)
    assert (np.diff(at) >= 0).all()


def test_traffic_swells_in_the_afternoon_and_sinks_at_night() -> None:
    day = requests(start=datetime(2026, 3, 2, tzinfo=UTC), count=40_000, rate=40_000 / 86_400)
    by_hour = Counter(moment.hour for moment in day["occurred_at"])
    assert by_hour[15] == pytest.approx(1.5 * 40_000 / 24, rel=0.05)
    assert by_hour[3] == pytest.approx(0.5 * 40_000 / 24, rel=0.05)


def test_the_events_can_be_true(drawn: pl.DataFrame) -> None:
    for rule in rules("RequestEvent"):
        assert not drawn.select(rule.broken.fill_null(value=False)).to_series().any(), rule.what
    whole = drawn.select(
        parts=(pl.col("context_us") + pl.col("model_us") <= pl.col("total_us")).all(),
        first=(pl.col("first_token_us") < pl.col("model_us")).all(),
        within=(pl.col("first_token_us") < pl.col("total_us")).all(),
        phase=(pl.col("phase") == "finished").all(),
        live=(~pl.col("imported")).all(),
        due=(pl.col("_due_us").diff().drop_nulls() >= 0).all(),
    )
    assert whole.row(0) == (True,) * 6


def test_longer_answers_take_longer(drawn: pl.DataFrame) -> None:
    one = drawn.filter(pl.col("model") == "gpt-4o-mini", pl.col("completion_tokens") > 0)
    correlation = one.select(pl.corr("completion_tokens", "total_us", method="spearman")).item()
    assert correlation > 0.8


def test_the_whole_product_is_at_work(drawn: pl.DataFrame) -> None:
    assert set(drawn["service"]) == {service.name for service in SERVICES}
    assert set(drawn["workflow"]) == {workflow.name for workflow in WORKFLOWS}
    assert set(drawn.select("provider", "model").iter_rows()) == {
        (m.provider, m.name) for m in (*MODELS, AUDIO, EMBEDDINGS)
    }
    assert drawn.filter(pl.col("reasoning_tokens") > 0)["model"].unique().sort().to_list() == [
        "gemini-2.5-flash",
        "o3",
    ]
    assert 0.2 < drawn.filter(pl.col("cached_tokens") > 0).height / drawn.height < 0.6
    assert 0.04 < drawn["cache_hit"].mean() < 0.08  # type: ignore[operator]
    assert 0.005 < drawn["error_type"].count() / drawn.height < 0.1
    assert set(drawn["error_type"]) == {None, "timeout", "rate_limited", "provider_error", "content_filter"}
    assert drawn["user_id"].null_count() > drawn["space_id"].null_count() > 0


def test_a_few_spaces_have_most_of_the_traffic(drawn: pl.DataFrame) -> None:
    by_space = drawn.drop_nulls("space_id")["space_id"].value_counts().sort("count", descending=True)
    assert by_space.height > 30
    assert by_space["count"][:5].sum() > 0.4 * by_space["count"].sum()
    belongs = drawn.drop_nulls(["user_id", "space_id"]).group_by("user_id").agg(pl.col("space_id").n_unique())
    assert belongs["space_id"].unique().to_list() == [1]


def test_every_model_that_answers_has_a_price_but_the_own_one(drawn: pl.DataFrame) -> None:
    answers = drawn.filter(pl.col("operation") == "chat")
    priced = answers.with_columns(PriceList().cost(answers)).filter(pl.col("error_type").is_null())
    unpriced = priced.filter(pl.col("cost_nano_usd").is_null())
    assert set(unpriced["provider"]) == {"self-hosted"}
    assert priced.filter(pl.col("provider") == "self-hosted").height == unpriced.height


def test_errors_come_in_bursts() -> None:
    many = requests(count=40_000, rate=20.0).with_columns(_stretch=pl.col("_due_us") // 90_000_000)
    share = many.group_by("provider", "_stretch").agg(
        pl.col("error_type").is_not_null().mean().alias("failed"), pl.len().alias("requests")
    )
    busy = share.filter(pl.col("requests") > 100)
    assert busy.filter(pl.col("failed") > 0.2).height >= 1
    assert busy["failed"].median() < 0.03  # type: ignore[operator]


def test_late_requests_lie_within_what_windows_still_take_and_too_late_ones_beyond() -> None:
    drawn = requests(late=0.01, too_late=0.001, count=100_000).with_columns(
        _behind=pl.col("_due_us") - pl.col("occurred_at").dt.timestamp("us")
    )
    by_kind = {kind[0]: rows["_behind"] for kind, rows in drawn.group_by("_kind")}
    assert len(by_kind["late"]) == pytest.approx(1_000, rel=0.15)
    assert len(by_kind["too late"]) == pytest.approx(100, rel=0.4)
    assert set(by_kind["request"]) == {0}
    assert 15_000_000 <= by_kind["late"].min() < by_kind["late"].max() <= 25.9 * HOUR_US  # type: ignore[operator]
    assert by_kind["too late"].min() > 26.1 * HOUR_US  # type: ignore[operator]
    assert set(drawn[:1_000]["_kind"]) == {"request"}


def test_started_requests_share_the_id_and_know_nothing_else() -> None:
    (block, *_) = blocks(scenario(started=0.2, count=5_000))
    assert block.started.height == pytest.approx(1_000, rel=0.2)
    both = block.started.join(block.requests, on="request_id", suffix="_end")
    assert both.height == block.started.height
    assert set(both["phase"]) == {"started"}
    took = (both["occurred_at_end"] - both["occurred_at"]).dt.total_microseconds()
    assert (took == both["total_us_end"]).all()
    unknown = ("total_us", "prompt_tokens", "completion_tokens", "error_type", "cost_nano_usd")
    unknown += ("retries", "finish_reason", "last_token_us", "output_chunks", "cache_write_tokens")
    assert [both[column].null_count() for column in unknown] == [both.height] * len(unknown)


def test_spans_nest_and_belong_to_their_requests() -> None:
    (block, *_) = blocks(scenario(traced=0.1, count=5_000))
    spans = block.spans
    traced = block.requests.filter("_traced")
    assert set(spans["trace_id"]) == set(traced["trace_id"])
    ends = spans.filter(pl.col("phase") == "finished").with_columns(
        _end=pl.col("occurred_at").dt.timestamp("us"),
    )
    starts = spans.filter(pl.col("phase") == "started").select(
        "span_id", _start=pl.col("occurred_at").dt.timestamp("us")
    )
    whole = ends.join(starts, on="span_id")
    assert whole.height == ends.height == starts.height
    assert (whole["_end"] - whole["_start"] == whole["duration_us"]).all()
    roots = whole.filter(pl.col("parent_id").is_null())
    assert roots.height == traced.height
    inner = whole.drop_nulls("parent_id").join(
        whole, left_on="parent_id", right_on="span_id", suffix="_parent"
    )
    assert inner.height == whole.height - roots.height
    assert (inner["trace_id"] == inner["trace_id_parent"]).all()
    assert (inner["_start"] >= inner["_start_parent"]).all()
    assert (inner["_end"] <= inner["_end_parent"]).all()
    assert set(whole["kind"]) == {"workflow", "agent", "tool", "plugin", "model"}


def test_a_model_s_span_has_the_request_s_tokens_and_needs_what_the_tool_found() -> None:
    (block, *_) = blocks(scenario(traced=0.2, count=8_000))
    held = [rule for rule in rules("SpanEvent") if set(rule.needs) <= set(block.spans.columns)]
    assert len(held) > 60
    for rule in held:
        assert not block.spans.select(rule.broken.fill_null(value=False)).to_series().any(), rule.what
    tokens = [name for name in block.spans.columns if name.endswith("_tokens")]
    assert len(tokens) == 8
    ends = block.spans.filter(pl.col("phase") == "finished")
    calls = ends.filter(pl.col("kind") == "model")
    both = calls.join(block.requests, on="request_id", suffix="_of_request")
    assert both.height == calls.height > 500
    copied = [*tokens, "cost_nano_usd", "provider", "model", "operation", "region"]
    for name in copied:
        assert both[name].equals(both[f"{name}_of_request"].rename(name), null_equal=True), name
    assert {"chat", "embeddings"} == set(calls["operation"])
    others = block.spans.filter((pl.col("kind") != "model") | (pl.col("phase") == "started"))
    assert others.select(pl.col(tokens).count()).row(0) == (0,) * 8
    needed = calls.explode("depends_on").join(
        ends, left_on="depends_on", right_on="span_id", suffix="_needed"
    )
    assert set(needed["kind_needed"]) == {"tool"}
    assert needed.height == calls.height
    assert (needed["trace_id"] == needed["trace_id_needed"]).all()
    assert (needed["occurred_at_needed"] <= needed["occurred_at"]).all()


def test_a_turn_is_linked_to_the_one_before_it_in_its_conversation() -> None:
    (block, *_) = blocks(scenario(traced=1.0, count=2_000))
    roots = block.spans.filter(pl.col("kind") == "workflow", pl.col("phase") == "finished")
    known = roots.with_columns(_name=pl.concat_str("trace_id", pl.lit("/"), "span_id"))
    linked = known.filter(pl.col("links").list.len() > 0).explode("links")
    both = linked.join(known, left_on="links", right_on="_name", suffix="_before")
    assert both.height == linked.height > 100
    assert (both["conversation_id"] == both["conversation_id_before"]).all()
    assert (both["trace_id"] != both["trace_id_before"]).all()
    others = block.spans.filter(pl.col("kind") != "workflow")
    assert others["links"].list.len().max() == 0


def test_every_instance_is_sampled_every_ten_seconds() -> None:
    every = pl.concat(block.samples for block in blocks(scenario(count=20_000, rate=50.0)))
    counts = every.group_by("instance", "name").len()
    assert counts.height == 4 * sum(service.instances for service in SERVICES)
    assert set(counts["len"]) == {40}
    breakers = every.filter(pl.col("name") == "circuit_breaker")
    assert set(breakers.select("value", "state").iter_rows()) <= {(0.0, "closed"), (2.0, "open")}


@pytest.mark.slow
def test_each_corrupt_message_is_refused_for_its_own_reason_and_its_neighbours_are_not() -> None:
    codec = Codec(schema("RequestEvent"))
    reasons: dict[str, set[str]] = {kind: set() for kind in KINDS}
    good = 0
    for part in sent(scenario(corrupt=50), REQUESTS.name):
        for kind, value in zip(part.kinds, part.values, strict=True):
            if kind.startswith("corrupt: "):
                with pytest.raises(RefusedError) as refused:
                    codec.decode(value)  # type: ignore[arg-type]
                reasons[kind.removeprefix("corrupt: ")].add(refused.value.reason)
            else:
                assert codec.decode(value or b"")["event_id"]
                good += 1
    assert good == 20_000 + sum(block.started.height for block in blocks(scenario()))
    assert reasons == {
        "truncated": {"malformed"},
        "garbage": {"unknown_format"},
        "unknown schema": {"unknown_schema"},
        "left-over bytes": {"left_over_bytes"},
        "null": {"empty"},
    }


@pytest.mark.parametrize("count", [10_000, None])
@pytest.mark.slow
def test_as_many_messages_are_corrupt_as_were_asked_for(count: int | None) -> None:
    of = islice(messages(scenario(corrupt=7, count=count), Encoder()), 2)
    kinds = Counter(kind for block in of for part in block for kind in part.kinds)
    assert sum(number for kind, number in kinds.items() if kind.startswith("corrupt")) == 7


@pytest.mark.slow
def test_messages_are_in_the_order_in_which_they_are_due() -> None:
    for topic in ("chat.requests", "chat.spans", "chat.samples"):
        due = np.concatenate([part.due_us for part in sent(scenario(corrupt=5), topic)])
        assert len(due)
        assert (np.diff(due) >= 0).all()


def sent(of: Scenario, topic: str) -> list[Messages]:
    return [part for block in messages(of, Encoder()) for part in block if part.topic == topic]

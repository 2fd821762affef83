"""A chat request, as a service measures it."""

import asyncio
import time
from collections.abc import Iterator
from decimal import Decimal

import chatgauge
import pytest
from chatgauge.request import covered
from chatgauge.testing import Captured, capture

Pair = tuple[chatgauge.Gauge, Captured]


@pytest.fixture
def measured() -> Iterator[Pair]:
    gauge, captured = capture(attributes={"region", "tier"})
    with gauge:
        yield gauge, captured


def only(captured: Captured) -> dict[str, object]:
    (record,) = captured.finished_requests()
    return record


def test_start_and_finish_are_published_with_one_request_id(measured: Pair) -> None:
    gauge, captured = measured
    with gauge.request(
        provider="openai",
        model="gpt-4o",
        user_id="u1",
        space_id="s1",
        workflow="answer",
        workflow_version="3",
    ):
        pass
    started, finished = captured.requests()
    assert (started["phase"], finished["phase"]) == ("started", "finished")
    assert started["request_id"] == finished["request_id"]
    assert started["event_id"] != finished["event_id"]
    assert started["total_us"] is None
    for record in (started, finished):
        assert record["service"] == "test"
        assert (record["provider"], record["model"]) == ("openai", "gpt-4o")
        assert (record["user_id"], record["space_id"]) == ("u1", "s1")
        assert (record["workflow"], record["workflow_version"]) == ("answer", "3")
    assert finished["error_type"] is None
    assert finished["streamed"] is finished["cache_hit"] is finished["imported"] is False


def test_the_latencies_follow_the_marks(measured: Pair) -> None:
    gauge, captured = measured
    before = time.time()
    with gauge.request() as request:
        time.sleep(0.02)
        request.context_ready()
        time.sleep(0.03)
        request.first_token()
        time.sleep(0.01)
        request.first_token()
    record = only(captured)
    assert (record["last_token_us"], record["output_chunks"]) == (None, None)
    assert 20_000 <= record["context_us"] < record["first_token_us"] < record["total_us"]
    assert record["first_token_us"] >= 50_000
    assert record["total_us"] >= 60_000
    assert abs(record["model_us"] - (record["total_us"] - record["context_us"])) <= 1
    assert record["streamed"] is True
    assert before <= record["occurred_at"].timestamp() <= time.time()


def test_chunks_give_the_first_token_the_last_one_and_their_number(measured: Pair) -> None:
    gauge, captured = measured
    with gauge.request() as request:
        for _ in range(3):
            time.sleep(0.005)
            request.chunk()
        time.sleep(0.005)
    record = only(captured)
    assert 5_000 <= record["first_token_us"] <= record["last_token_us"] - 10_000
    assert record["last_token_us"] <= record["total_us"] - 5_000
    assert (record["output_chunks"], record["streamed"]) == (3, True)


def test_a_first_token_that_was_said_is_not_moved_by_a_chunk(measured: Pair) -> None:
    gauge, captured = measured
    with gauge.request() as request:
        request.first_token()
        time.sleep(0.005)
        request.chunk()
    record = only(captured)
    assert record["last_token_us"] - record["first_token_us"] >= 5_000
    assert record["output_chunks"] == 1


def test_what_is_known_of_the_call_goes_out_with_start_and_finish(measured: Pair) -> None:
    gauge, captured = measured
    about = {"region": "eu-central-1", "operation": "chat", "conversation_id": "c-1"}
    with gauge.request(**about, experiment="greeting") as request:
        request.describe(variant="short", region=None)
    started, finished = captured.requests()
    for name, value in {**about, "experiment": "greeting"}.items():
        assert started[name] == finished[name] == value
    assert (started["variant"], finished["variant"]) == (None, "short")


def test_the_gauges_region_holds_for_whoever_has_no_other() -> None:
    gauge, captured = capture(region="eu")
    with gauge:
        with gauge.request(region="us"), gauge.span("tool", "inside"):
            pass
        with gauge.request():
            pass
        with gauge.span("step", "alone"):
            pass
        gauge.sample("queue_depth", 1)
    assert [record["region"] for record in captured.finished_requests()] == ["us", "eu"]
    assert [record["region"] for record in captured.finished_spans()] == ["us", "eu"]
    assert len(captured.samples()) == 1


def test_the_finish_reason_is_the_last_that_was_told(measured: Pair) -> None:
    gauge, captured = measured
    with gauge.request() as request:
        for reason in (None, "tool_calls", None, "stop", None):
            request.finish_reason(reason)
    assert only(captured)["finish_reason"] == "stop"


def test_retries_add_up_and_none_is_not_zero(measured: Pair) -> None:
    gauge, captured = measured
    with gauge.request():
        pass
    with gauge.request() as request:
        request.retried(0)
    with gauge.request() as request:
        request.retried()
        request.retried(2)
    assert [record["retries"] for record in captured.finished_requests()] == [None, 0, 3]


def test_a_conversation_that_names_a_person_does_not_leave(measured: Pair) -> None:
    gauge, captured = measured
    with gauge.request(conversation_id="ann@example.com/1"):
        pass
    assert only(captured)["conversation_id"] is None
    assert gauge.stats().invalid == 2


def test_what_was_not_marked_is_unknown_and_not_zero(measured: Pair) -> None:
    gauge, captured = measured
    with gauge.request():
        pass
    record = only(captured)
    unknown = ("context_us", "model_us", "first_token_us", "prompt_tokens", "cost_nano_usd")
    assert [record[name] for name in unknown] == [None] * len(unknown)


@pytest.mark.alone
def test_model_time_is_what_the_model_spans_cover(measured: Pair) -> None:
    gauge, captured = measured
    with gauge.request() as request:
        request.context_ready()
        with gauge.span("model", "draft"):
            time.sleep(0.02)
        time.sleep(0.05)
    assert 20_000 <= only(captured)["model_us"] < 50_000


@pytest.mark.parametrize(
    ("intervals", "length"),
    [([], 0), ([(0, 5)], 5), ([(0, 5), (3, 8)], 8), ([(10, 12), (0, 5)], 7), ([(1, 9), (2, 3)], 8)],
)
def test_model_calls_at_the_same_time_count_once(intervals: list[tuple[int, int]], length: int) -> None:
    assert covered(intervals) == length


def test_usage_and_cost_of_several_model_calls_add_up(measured: Pair) -> None:
    gauge, captured = measured
    with gauge.request() as request:
        request.usage(prompt_tokens=100, completion_tokens=20, cached_tokens=60)
        request.usage(prompt_tokens=50, completion_tokens=5, reasoning_tokens=3)
        written = {"cache_write_tokens": 30, "cache_write_1h_tokens": 10}
        request.usage(prompt_tokens=40, **written, prompt_audio_tokens=4, cached_tokens=None)
        request.usage(prompt_tokens=60, **written, completion_tokens=2, completion_audio_tokens=2)
        request.cost(usd=0.0000015)
        request.cost(usd=Decimal("0.000002"))
        request.cache_hit()
    record = only(captured)
    assert (record["prompt_tokens"], record["cached_tokens"]) == (250, 60)
    assert (record["completion_tokens"], record["reasoning_tokens"]) == (27, 3)
    assert (record["cache_write_tokens"], record["cache_write_1h_tokens"]) == (60, 20)
    assert (record["prompt_audio_tokens"], record["completion_audio_tokens"]) == (4, 2)
    assert record["cost_nano_usd"] == 3500
    assert record["cache_hit"] is True


def test_an_exception_fails_the_request_and_goes_on(measured: Pair) -> None:
    gauge, captured = measured
    with pytest.raises(TimeoutError, match="provider"), gauge.request():
        raise TimeoutError("the provider's own words")
    assert only(captured)["error_type"] == "timeout"


async def test_a_cancelled_request_is_cancelled(measured: Pair) -> None:
    gauge, captured = measured
    entered = asyncio.Event()

    async def answer() -> None:
        async with gauge.request():
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(answer())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert only(captured)["error_type"] == "cancelled"


def test_what_the_service_says_counts_more_than_the_exception(measured: Pair) -> None:
    gauge, captured = measured
    request = gauge.request().start()
    request.fail("Rate limited")
    request.finish(ValueError("x"))
    assert only(captured)["error_type"] == "rate_limited"


def test_it_can_be_started_and_finished_by_hand(measured: Pair) -> None:
    gauge, captured = measured
    request = gauge.request(model="m").start()
    assert request.recording
    assert chatgauge.current_request() is not request
    request.describe(provider="anthropic", user_id="u2")
    request.finish("overloaded")
    assert not request.recording
    record = only(captured)
    assert (record["provider"], record["model"], record["user_id"]) == ("anthropic", "m", "u2")
    assert record["error_type"] == "overloaded"


@pytest.mark.alone
def test_the_latency_can_end_before_the_request_does(measured: Pair) -> None:
    gauge, captured = measured
    with gauge.request() as request:
        request.answered()
        time.sleep(0.03)
        request.usage(completion_tokens=7)
    record = only(captured)
    assert record["total_us"] < 30_000
    assert record["completion_tokens"] == 7


def test_calls_after_the_finish_are_counted_and_change_nothing(measured: Pair) -> None:
    gauge, captured = measured
    with gauge.request() as request:
        pass
    request.usage(prompt_tokens=5)
    request.first_token()
    request.fail("late")
    request.chunk()
    request.finish_reason("stop")
    request.retried()
    request.finish()
    assert len(captured.finished_requests()) == 1
    assert only(captured)["prompt_tokens"] is None
    assert gauge.stats().invalid == 7


async def test_each_task_has_its_own_current_request(measured: Pair) -> None:
    gauge, captured = measured
    both_in = asyncio.Barrier(2)

    async def answer(user: str) -> None:
        with gauge.request(user_id=user):
            await both_in.wait()
            chatgauge.current_request().describe(workflow=f"for-{user}")
            await both_in.wait()

    await asyncio.gather(answer("a"), answer("b"))
    assert chatgauge.current_request().recording is False
    workflows = {record["user_id"]: record["workflow"] for record in captured.finished_requests()}
    assert workflows == {"a": "for-a", "b": "for-b"}


def test_outside_of_a_request_the_current_one_takes_every_call() -> None:
    nobody = chatgauge.current_request()
    nobody.first_token()
    nobody.chunk()
    nobody.usage(prompt_tokens=1)
    nobody.cost(usd=1)
    nobody.finish_reason("stop")
    nobody.retried()
    nobody.fail("x")
    nobody.describe(user_id="u")
    with nobody.span("model", "t", model="m") as span:
        span.attribute("a", "b")
        span.describe(model="n")
        span.depends_on("x", span)
        span.link("t/s")
        span.usage(prompt_tokens=1)
        span.cost(usd=1)
    assert not nobody.recording
    assert not nobody.failed


def test_wrong_arguments_are_left_out_and_counted(measured: Pair) -> None:
    gauge, captured = measured
    with gauge.request(model=object(), user_id=17, modle="typo", space_id="s" * 500) as request:  # type: ignore[arg-type]
        request.usage(prompt_tokens=-1, completion_tokens=2.5, cached_tokens=True, reasoning_tokens=2**63)  # type: ignore[arg-type]
        request.usage(tokens=3)  # type: ignore[call-arg]
        request.describe(region=3.5, conversation_id=17)  # type: ignore[arg-type]
        request.retried(-1)
        request.finish_reason(b"stop")  # type: ignore[arg-type]
        request.cost(usd=float("nan"))
        request.cost(usd="free")  # type: ignore[arg-type]
        request.fail(None)  # type: ignore[arg-type]
    gauge.sample("queue_depth", "many")  # type: ignore[arg-type]
    gauge.sample(None, 1)  # type: ignore[arg-type]
    record = only(captured)
    assert (record["model"], record["user_id"], record["space_id"]) == ("unknown", "17", "s" * 256)
    assert record["prompt_tokens"] is record["completion_tokens"] is record["cost_nano_usd"] is None
    assert record["error_type"] == "other"
    assert (record["region"], record["conversation_id"]) == (None, "17")
    assert record["retries"] is record["finish_reason"] is None
    assert captured.samples() == []
    assert gauge.stats().invalid == 14


def test_a_part_that_exceeds_its_whole_is_left_out(measured: Pair) -> None:
    gauge, captured = measured
    with gauge.request() as request:
        request.usage(prompt_tokens=10, cached_tokens=90)
    record = only(captured)
    assert (record["prompt_tokens"], record["cached_tokens"]) == (10, None)
    assert gauge.stats().invalid == 1


def test_a_part_of_a_part_may_not_exceed_the_whole_either(measured: Pair) -> None:
    gauge, captured = measured
    with gauge.request() as request:
        request.usage(prompt_tokens=10, cache_write_tokens=90, cache_write_1h_tokens=80)
    with gauge.request() as request:
        request.usage(cache_write_tokens=5, cache_write_1h_tokens=6)
        request.usage(completion_tokens=5, completion_audio_tokens=6)
    first, second = captured.finished_requests()
    assert first["cache_write_tokens"] is first["cache_write_1h_tokens"] is None
    assert (second["cache_write_tokens"], second["cache_write_1h_tokens"]) == (5, None)
    assert (second["completion_tokens"], second["completion_audio_tokens"]) == (5, None)
    assert gauge.stats().invalid == 4


def test_text_that_utf8_cannot_hold_is_mended(measured: Pair) -> None:
    gauge, captured = measured
    with gauge.request(model="m\ud800", user_id="u\udfff"):
        pass
    assert (only(captured)["model"], only(captured)["user_id"]) == ("m?", "u?")


def test_attributes_go_out_when_allowed_and_in_bounds(measured: Pair) -> None:
    gauge, captured = measured
    with gauge.request(attributes={"region": "eu", "prompt": "never"}) as request:
        request.attribute("tier", "gold")
        request.attribute("tier", "x" * 257)
    assert only(captured)["attributes"] == ["region=eu", "tier=gold"]
    assert gauge.stats().dropped_attributes == 2


def test_at_most_sixteen_attributes() -> None:
    names = {f"a{i}" for i in range(20)}
    gauge, captured = capture(attributes=names)
    with gauge, gauge.request(attributes=dict.fromkeys(names, "v")):
        pass
    assert len(captured.finished_requests()[0]["attributes"]) == 16
    assert gauge.stats().dropped_attributes == 4


def test_samples_carry_figure_state_and_instance(measured: Pair) -> None:
    gauge, captured = measured
    gauge.sample("open_websockets", 12)
    gauge.sample("circuit_breaker", 2, state="open", attributes={"region": "eu"})
    sockets, breaker = captured.samples()
    assert (sockets["name"], sockets["value"], sockets["instance"]) == ("open_websockets", 12.0, "test")
    assert (breaker["value"], breaker["state"], breaker["attributes"]) == (2.0, "open", ["region=eu"])

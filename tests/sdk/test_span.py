"""Spans: the steps inside a request."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import chatgauge
import pytest
from chatgauge.testing import Captured, capture

Pair = tuple[chatgauge.Gauge, Captured]


@pytest.fixture
def measured() -> Iterator[Pair]:
    gauge, captured = capture(attributes={"index"})
    with gauge:
        yield gauge, captured


def by_name(captured: Captured) -> dict[str, dict[str, object]]:
    return {span["name"]: span for span in captured.finished_spans()}


def test_start_and_end_are_published(measured: Pair) -> None:
    gauge, captured = measured
    with gauge.request(user_id="u", space_id="s", workflow="w") as request, gauge.span("tool", "search"):
        pass
    started, finished = captured.spans()
    assert (started["phase"], finished["phase"]) == ("started", "finished")
    assert started["span_id"] == finished["span_id"]
    assert started["duration_us"] is None
    assert finished["duration_us"] >= 0
    for span in (started, finished):
        assert (span["kind"], span["name"]) == ("tool", "search")
        assert (span["trace_id"], span["request_id"]) == (request.trace_id, request.request_id)
        assert (span["user_id"], span["space_id"], span["workflow"]) == ("u", "s", "w")
        assert span["parent_id"] is None


async def test_spans_nest_across_awaits_and_tasks(measured: Pair) -> None:
    gauge, captured = measured

    async def step(name: str) -> None:
        async with gauge.span("step", name):
            await asyncio.sleep(0)
            with gauge.span("tool", f"{name}-tool"):
                await asyncio.sleep(0)

    async with gauge.request(), gauge.span("workflow", "answer"):
        await asyncio.gather(step("one"), asyncio.create_task(step("two")))
        await asyncio.to_thread(gauge.span("tool", "threaded")(lambda: None))
    spans = by_name(captured)
    assert spans["answer"]["parent_id"] is None
    for name in ("one", "two", "threaded"):
        assert spans[name]["parent_id"] == spans["answer"]["span_id"]
    for name in ("one", "two"):
        assert spans[f"{name}-tool"]["parent_id"] == spans[name]["span_id"]
    assert len({span["trace_id"] for span in spans.values()}) == 1


def test_without_a_request_the_outermost_span_begins_a_trace(measured: Pair) -> None:
    gauge, captured = measured
    outer, inner, within = (gauge.span("step", name) for name in ("outer", "inner", "within"))
    with outer, inner, gauge.request(), within:
        pass
    with gauge.span("workflow", "other"):
        pass
    spans = by_name(captured)
    assert spans["outer"]["request_id"] is None
    assert spans["inner"]["parent_id"] == spans["outer"]["span_id"]
    assert spans["within"]["parent_id"] == spans["inner"]["span_id"]
    assert captured.finished_requests()[0]["trace_id"] == spans["outer"]["trace_id"]
    assert spans["other"]["trace_id"] != spans["outer"]["trace_id"]


def test_a_request_of_another_trace_has_no_parent_in_this_one(measured: Pair) -> None:
    gauge, captured = measured
    with gauge.span("workflow", "outer"), gauge.request(trace_id="f" * 32), gauge.span("tool", "within"):
        pass
    spans = by_name(captured)
    assert (spans["within"]["trace_id"], spans["within"]["parent_id"]) == ("f" * 32, None)


def test_failures_are_named_and_raised_again(measured: Pair) -> None:
    gauge, captured = measured
    with pytest.raises(ConnectionResetError), gauge.span("model", "ask"):
        raise ConnectionResetError
    with gauge.span("tool", "search") as span:
        span.fail("no results")
        span.attribute("index", "docs")
        span.attribute("query", "secret")
    spans = by_name(captured)
    assert spans["ask"]["error_type"] == "connection_error"
    assert (spans["search"]["error_type"], spans["search"]["attributes"]) == ("no_results", ["index=docs"])


def test_an_unknown_kind_is_other(measured: Pair) -> None:
    gauge, captured = measured
    with gauge.span("tol", "search"):
        pass
    assert by_name(captured)["search"]["kind"] == "other"
    assert gauge.stats().invalid == 1


def test_a_decorated_function_is_measured_at_each_call(measured: Pair) -> None:
    gauge, captured = measured

    @gauge.span("tool")
    def search(query: str, *, limit: int = 1) -> str:
        """Looks things up."""
        return query * limit

    assert search("a", limit=3) == "aaa"
    assert search("b") == "b"
    assert search.__doc__ == "Looks things up."
    spans = captured.finished_spans()
    assert [span["name"] for span in spans] == ["search", "search"]
    assert spans[0]["span_id"] != spans[1]["span_id"]


async def test_a_decorated_coroutine_function_is_measured_until_it_returns(measured: Pair) -> None:
    gauge, captured = measured

    @gauge.span("step", "outer")
    async def outer() -> int:
        await asyncio.sleep(0.01)
        with gauge.span("step", "inner"):
            return 5

    assert await outer() == 5
    spans = by_name(captured)
    assert spans["inner"]["parent_id"] == spans["outer"]["span_id"]
    assert spans["outer"]["duration_us"] >= 10_000


async def test_decorated_generators_are_measured_to_their_end(measured: Pair) -> None:
    gauge, captured = measured

    @gauge.span("model", "sync")
    def tokens() -> Iterator[int]:
        yield from (1, 2, 3)

    @gauge.span("model", "async")
    async def async_tokens() -> AsyncIterator[int]:
        for token in (1, 2, 3):
            await asyncio.sleep(0)
            yield token

    @gauge.span("model", "broken")
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise TimeoutError

    assert list(tokens()) == [1, 2, 3]
    assert [token async for token in async_tokens()] == [1, 2, 3]
    with pytest.raises(TimeoutError):
        [token async for token in broken()]
    spans = by_name(captured)
    assert spans["sync"]["error_type"] is spans["async"]["error_type"] is None
    assert spans["broken"]["error_type"] == "timeout"


def test_a_model_span_tells_of_its_call_and_the_request_has_it_too(measured: Pair) -> None:
    gauge, captured = measured
    with gauge.request(model="gpt-4o", conversation_id="c-1", region="eu") as request:
        with gauge.span("model", "draft", provider="anthropic", model="claude", operation="chat") as draft:
            draft.usage(prompt_tokens=100, cache_write_tokens=40, completion_tokens=7)
            draft.cost(usd=0.5)
        with request.span("model", "review") as review:
            review.describe(model="o3", provider=None)
            review.usage(prompt_tokens=10, completion_tokens=3, reasoning_tokens=2)
        with gauge.span("tool", "search"):
            pass
    spans = by_name(captured)
    about = [spans["draft"][name] for name in ("provider", "model", "operation", "conversation_id", "region")]
    assert about == ["anthropic", "claude", "chat", "c-1", "eu"]
    assert [spans["review"][name] for name in ("provider", "model")] == [None, "o3"]
    tokens = ("prompt_tokens", "cache_write_tokens", "completion_tokens", "reasoning_tokens", "cost_nano_usd")
    assert [spans["draft"][name] for name in tokens] == [100, 40, 7, None, 500_000_000]
    assert [spans["review"][name] for name in tokens] == [10, None, 3, 2, None]
    assert [spans["search"][name] for name in tokens] == [None] * 5
    (finished,) = captured.finished_requests()
    assert [finished[name] for name in tokens] == [110, 40, 10, 2, 500_000_000]
    started = next(span for span in captured.spans() if span["phase"] == "started")
    assert (started["model"], started["prompt_tokens"]) == ("claude", None)
    assert gauge.stats().invalid == 0


def test_usage_outside_of_a_model_call_is_counted_and_not_sent(measured: Pair) -> None:
    gauge, captured = measured
    with gauge.request(), gauge.span("agent", "planner") as agent:
        agent.usage(prompt_tokens=5)
        agent.cost(usd=1)
    with gauge.span("model", "alone") as alone:
        alone.usage(prompt_tokens=5, cached_tokens=9)
    alone.usage(prompt_tokens=1)
    spans = by_name(captured)
    assert spans["planner"]["prompt_tokens"] is spans["planner"]["cost_nano_usd"] is None
    assert (spans["alone"]["prompt_tokens"], spans["alone"]["cached_tokens"]) == (5, None)
    assert captured.finished_requests()[0]["prompt_tokens"] is None
    assert gauge.stats().invalid == 4


def test_spans_say_what_they_depend_on_and_what_they_are_linked_to(measured: Pair) -> None:
    gauge, captured = measured
    with gauge.span("step", "elsewhere") as elsewhere:
        pass
    with gauge.request(), gauge.span("workflow", "answer"):
        with gauge.span("tool", "search") as search:
            pass
        with gauge.span("tool", "rerank", depends_on=[search], links=[elsewhere, "f/1"]) as rerank:
            rerank.depends_on("by-id", search)
    spans = by_name(captured)
    assert spans["rerank"]["depends_on"] == [search.span_id, "by-id"]
    assert spans["rerank"]["links"] == [f"{elsewhere.trace_id}/{elsewhere.span_id}", "f/1"]
    assert spans["search"]["depends_on"] == spans["search"]["links"] == []
    started = next(s for s in captured.spans() if (s["name"], s["phase"]) == ("rerank", "started"))
    assert started["depends_on"] == [search.span_id]
    assert gauge.stats().invalid == 0


def test_references_that_cannot_be_are_left_out_and_counted(measured: Pair) -> None:
    gauge, captured = measured
    with gauge.span("step", "elsewhere") as elsewhere:
        pass
    fresh = gauge.span("step", "fresh")
    with gauge.span("tool", "search", tool="typo") as search:  # type: ignore[call-arg]
        search.depends_on(elsewhere, fresh, 1.5)  # type: ignore[arg-type]
        search.link(*(f"t/{number}" for number in range(65)))
        search.describe(modle="typo")  # type: ignore[arg-type]
    search.link("t/s")
    found = by_name(captured)["search"]
    assert (found["depends_on"], len(found["links"])) == ([], 64)
    assert gauge.stats().invalid == 7


def test_what_is_said_of_a_decorated_span_holds_for_each_call(measured: Pair) -> None:
    gauge, captured = measured

    @gauge.span("model", "draft", model="gpt-4o", depends_on="s-1")
    def draft() -> None:
        return

    draft()
    draft()
    assert [(span["model"], span["depends_on"]) for span in captured.finished_spans()] == [
        ("gpt-4o", ["s-1"])
    ] * 2

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

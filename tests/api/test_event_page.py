"""The event viewer, pure: which events, whether all are there, and the page."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from api.errors import BadParameterError
from api.events import completeness
from api.events.page import render
from api.events.selection import Place, of_transition
from api.models.alerts import Alert
from api.models.events import Covered, Events, EventSource, ShownRequest, ShownSample, ShownSpan
from api.times import to_time
from schemas import contract
from schemas.time import MINUTE, SECOND
from schemas.topics import REQUESTS, SAMPLES
from streams.notifications.transition import Transition
from tests.api.around import NOON, alert

START, END = NOON - 6 * MINUTE, NOON - MINUTE
"""The window of the alert of `tests.api.around`."""


def transition(**differing: Any) -> Transition:
    return Transition.of(alert(**differing))


class TestSelection:
    @pytest.mark.parametrize(
        ("grouping", "group"),
        [
            ("total", {}),
            ("service", {"service": "chat"}),
            ("model", {"provider": "openai", "model": "gpt=4o"}),
            ("space", {"space_id": "s"}),
            ("user", {"user_id": "u"}),
            ("workflow", {"workflow": "w", "workflow_version": "1"}),
            ("error", {"error_type": "timeout"}),
        ],
    )
    def test_a_window_is_of_the_live_requests_of_its_group(
        self, grouping: str, group: Mapping[str, str]
    ) -> None:
        told = transition(grouping=grouping, group=[f"{key}={value}" for key, value in group.items()])
        wanted = of_transition(told)
        assert (wanted.topic, wanted.start, wanted.end) == (REQUESTS, START, END)
        assert (wanted.equal, wanted.include) == (group, "live")

    def test_a_window_of_samples_ends_with_the_sample_that_was_judged(self) -> None:
        told = transition(
            grouping="sample", group=["service=chat", "instance=a"], metric="sample:queue_depth"
        )
        wanted = of_transition(told)
        assert (wanted.topic, wanted.start, wanted.end) == (SAMPLES, START + 1, END + 1)
        assert wanted.equal == {"service": "chat", "instance": "a", "name": "queue_depth"}

    def test_a_grouping_that_is_not_known_is_refused(self) -> None:
        with pytest.raises(BadParameterError, match="from and to"):
            of_transition(transition(grouping="planet", group=["planet=mars"]))


class TestCompleteness:
    def test_all_offsets_that_the_alert_rests_on_must_be_stored(self) -> None:
        told = transition(sources=["chat.requests/2/5-10", "chat.requests/3/0-9"])
        assert completeness.of_sources(told, {2: 10, 3: 400}) == []
        assert completeness.of_sources(told, {2: 9}) == [
            "chat.requests/2 is stored up to offset 9, and the events asked for go up to offset 10: "
            "ClickHouse is behind",
            "chat.requests/3 is not stored at all yet, and the events asked for go up to offset 9: "
            "ClickHouse is behind",
        ]

    def test_of_partitions_that_had_not_come_nothing_is_known(self) -> None:
        (said,) = completeness.of_sources(transition(parts=3, sources=[]), {})
        assert "3 of 4 source partitions" in said

    def test_fewer_than_were_counted_are_not_all(self) -> None:
        assert completeness.of_count(transition(), 1204) == []
        assert completeness.of_count(transition(), 1300) == []
        assert "1,204, and 1,203 are stored" in completeness.of_count(transition(), 1203)[0]

    def test_a_span_is_whole_when_its_minutes_are_closed_and_what_they_count_is_stored(self) -> None:
        def missing(end: int, counted: list[tuple[int, int, int]], newest: int) -> list[str]:
            return completeness.of_span(end, counted, newest, {0: 10}, NOON)

        assert missing(END, [(0, 10, 0)], NOON) == []
        assert "offset 11" in missing(END, [(0, 11, 0)], NOON)[0]
        assert "still open" in missing(END, [(0, 10, 1)], NOON)[0]
        assert "not over" in missing(NOON + 1, [(0, 10, 0)], NOON)[0]
        assert "on their way" in missing(NOON - SECOND, [(0, 10, 0)], NOON)[0]
        assert "go up to 2026-05-04T11:58:00Z" in missing(END, [(0, 10, 0)], END - MINUTE)[0]
        assert "hold nothing yet" in missing(END, [], 0)[0]

    def test_a_place_that_is_not_there_is_behind_or_gone(self) -> None:
        place = Place("chat.spans", 1, 7)
        assert "ClickHouse is behind" in completeness.of_place(place, {1: 6})[0]
        assert "dead_letters" in completeness.of_place(place, {1: 7})[0]


def shown(**differing: Any) -> Events:
    """A page of one request, of which nothing is known that need not be."""
    fields: dict[str, Any] = dict.fromkeys(ShownRequest.model_fields) | {
        "type": "request",
        "occurred_at": to_time(NOON),
        "event_id": "e",
        "source": EventSource(topic="chat.requests", partition=0, offset=1),
        "imported": False,
        "phase": "finished",
        "service": "chat",
        "provider": "openai",
        "model": "gpt-4o",
        "cache_hit": False,
        "streamed": False,
        "attributes": [],
    }
    of_alert = Covered(
        by="alert", topic="chat.requests", start=to_time(START), end=to_time(END), equal={}, include="live"
    )
    return Events(
        covers=of_alert,
        alert=Alert.of(alert(summary="<b>bold</b> & 14 %")),
        complete=False,
        missing=["not <i>all</i>"],
        stored=1,
        events=[ShownRequest(**fields | differing)],
        more=True,
        next="abc",
    )


@pytest.mark.parametrize(
    ("record", "model"), [("RequestEvent", ShownRequest), ("SpanEvent", ShownSpan), ("Sample", ShownSample)]
)
def test_every_field_of_an_event_is_shown(record: str, model: type[BaseModel]) -> None:
    fields = {
        re.sub("_us$", "_ms", name).replace("nano_usd", "usd") for name in contract.schema(record).fields
    }
    assert model.model_fields.keys() == fields | {"type", "source"}


class TestPage:
    def test_what_others_wrote_is_escaped(self) -> None:
        html = render(
            shown(service="<script>alert(1)</script>", error_type='"><img src=x>'),
            "/api/events?a=1&b=2",
            '/events?x="',
        )
        assert "<script" not in html
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
        assert "&#34;&gt;&lt;img" in html
        assert "&lt;b&gt;bold&lt;/b&gt; &amp; 14 %" in html
        assert "not &lt;i&gt;all&lt;/i&gt;" in html
        assert 'href="/api/events?a=1&amp;b=2"' in html
        assert 'href="/events?x=&#34;"' in html

    def test_it_says_what_was_judged(self) -> None:
        html = render(shown(), "/", None)
        for text in ("<dd>14 %</dd>", "<dd>10 %</dd>", "2026-05-04 11:54:00.000 to 2026-05-04 11:59:00.000"):
            assert text in html
        assert "service: support-chat" in html

    def test_an_unknown_cost_is_unknown_and_a_small_one_is_not_nothing(self) -> None:
        assert html_cells(shown())[5:9] == ["unknown", "unknown", "\N{EN DASH}", "unknown"]
        known = shown(cost_usd=1.2e-8, total_ms=1234.56, prompt_tokens=1_000, error_type="timeout")
        assert html_cells(known)[5:9] == ["1,000 + unknown", "1,234.6 ms", "timeout", "0.000000012 USD"]
        assert html_cells(shown(cost_usd=0.0))[8] == "0.0 USD"

    def test_all_that_was_reported_unfolds_and_nothing_else(self) -> None:
        html = render(shown(region="<eu>", retries=0, attributes=["tier=gold", "a=b"]), "/", None)
        for name, value in (
            ("region", "&lt;eu&gt;"),
            ("retries", "0"),
            ("attributes", "tier=gold, a=b"),
            ("streamed", "false"),
            ("source", "chat.requests/0 at offset 1"),
        ):
            assert f"<dt>{name}</dt><dd>{value}</dd>" in html
        assert "<dt>operation</dt>" not in html


def html_cells(page: Events) -> list[str]:
    body = render(page, "/", None).partition("<tbody>")[2]
    return [part.partition(">")[2].partition("<")[0] for part in body.split("<td")[1:]]

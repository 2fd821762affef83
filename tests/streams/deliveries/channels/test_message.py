"""A notification as a person reads it."""

import pytest

from streams.deliveries.channels.message import figure, message, shortened
from streams.deliveries.notification import Notification
from tests.streams.deliveries.channels.samples import NASTY, alert, alerts, of_alerts, of_failing, of_test


def test_one_alert_is_told_whole() -> None:
    said = message(of_alerts([alert()]))

    assert said.title == "[FIRING] error: Error rate (space_id=s1)"
    assert said.text == "25.3 % of the requests of space s1 failed"
    assert dict(said.alerts[0].facts()) == {
        "severity": "error",
        "value": "25.3 %",
        "threshold": "10 %",
        "since": "2023-11-14 22:10:00 UTC",
        "labels": "team=search",
    }
    assert said.alerts[0].link is not None
    assert said.alerts[0].link.startswith("https://chatgauge.example/events?alert=al_")


def test_several_are_counted_and_each_is_there_and_the_worst_gives_the_severity() -> None:
    told = alerts(3)
    told[1]["severity"] = "critical"
    said = message(of_alerts(told, part=2, parts=4))

    assert said.title == "[FIRING] critical: 12 alerts of Error rate, part 2 of 4"
    assert [each.group["space_id"] for each in said.alerts] == ["space-0", "space-1", "space-2"]


def test_a_resolved_alert_says_until_when_it_lasted() -> None:
    said = message(of_alerts([alert(state="resolved")], "alert.resolved"))

    assert said.title == "[RESOLVED] error: Error rate (space_id=s1)"
    assert said.resolved
    assert dict(said.alerts[0].facts())["until"] == "2023-11-14 22:12:00 UTC"


def test_a_figure_of_a_part_of_the_traffic_says_so() -> None:
    said = message(of_alerts([alert(parts=3)]))

    assert dict(said.alerts[0].facts())["counted"] == "3 of 4 partitions"


def test_no_line_break_or_control_character_gets_through() -> None:
    said = message(
        of_alerts([alert(rule_name=NASTY, summary="a\x00b\u2028c\x1b[31m", group=[f"space_id={NASTY}"])])
    )

    for text in (said.title, said.text, said.alerts[0].title, *map(str, said.alerts[0].facts())):
        assert text.isprintable()


def test_what_is_no_alert_is_told_too() -> None:
    failing, disabled, test = message(of_failing()), message(of_failing(disabled=True)), message(of_test())

    assert failing.title == "The endpoint The other keeps failing"
    assert "2023-11-19 22:10:00 UTC" in failing.text
    assert (failing.severity, disabled.severity, test.severity) == ("error", "critical", "info")
    assert dict(failing.facts)["error"] == "it answered 500"
    assert disabled.title.endswith("is disabled")
    assert test.title == "A test for the endpoint The endpoint"


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        "[]",
        '{"data": null}',
        '{"data": {"alerts": []}}',
        '{"data": {"alerts": [{}, 7, {"group": 7, "links": [], "value": "x", "coverage": {"parts": "a"}}]}}',
        '{"type": "alert.firing", "data": {"alerts": [{"alert_id": "a", "new": {"of": "a later version"}}]}}',
        '{"data": {"a": [1, {"b": "c"}], "d": {"e": null}}}',
    ],
)
def test_a_body_of_another_version_still_becomes_a_message(body: str) -> None:
    said = message(Notification("nt_1", "ep", "alert.firing", 0, body))

    assert said.title
    assert all(dict(each.facts()) for each in said.alerts)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.1, "ratio", "10 %"),
        (0.25341, "ratio", "25.34 %"),
        (5230.0, "ms", "5,230 ms"),
        (0.00125, "USD", "0.00125 USD"),
        (123456.789, "tokens", "123,457 tokens"),
        (12.5, "1/s", "12.5 1/s"),
        (3.0, "", "3"),
    ],
)
def test_figures_are_told_with_their_unit(value: float, unit: str, text: str) -> None:
    assert figure(value, unit) == text


def test_what_is_cut_says_so() -> None:
    assert shortened("abcdef", 6) == "abcdef"
    assert shortened("abcdefg", 6) == "abcde…"

"""What an endpoint can be, and what is said of one that can't."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from streams.endpoints.endpoint import parse_endpoint
from streams.endpoints.errors import EndpointError

HOOK: dict[str, Any] = {"id": "pager", "channel": "webhook", "url": "https://example.org/hook"}
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_an_endpoint_is_told_of_alerts_and_failing_endpoints_unless_it_says_otherwise() -> None:
    endpoint = parse_endpoint(HOOK)
    assert endpoint.wants("alert.firing", {})
    assert endpoint.wants("endpoint.failing", {})
    assert not endpoint.wants("request.failed", {})


def test_it_comes_back_from_its_definition_as_it_was() -> None:
    endpoint = parse_endpoint(
        HOOK
        | {
            "secrets": [{"value": "sealed", "created_at": "2026-03-01T00:00:00Z"}],
            "timeout": "500 ms",
            "rate": 2.5,
            "headers": {"X-Team": "search"},
        }
    )
    assert endpoint.timeout == 0.5
    assert parse_endpoint(endpoint.document()) == endpoint


def test_while_a_secret_is_replaced_both_sign_the_newest_first() -> None:
    old = {"value": "old", "created_at": NOW, "expires_at": NOW + timedelta(hours=24)}
    new = {"value": "new", "created_at": NOW + timedelta(minutes=1)}
    endpoint = parse_endpoint(HOOK | {"secrets": [old, new]})
    assert [secret.value for secret in endpoint.live_secrets(NOW + timedelta(hours=1))] == ["new", "old"]
    assert [secret.value for secret in endpoint.live_secrets(NOW + timedelta(hours=24))] == ["new"]


def test_disabling_says_why() -> None:
    endpoint = parse_endpoint(HOOK).disabled("410 Gone", NOW)
    assert (endpoint.enabled, endpoint.disabled_because, endpoint.disabled_at) == (False, "410 Gone", NOW)


@pytest.mark.parametrize(
    "given",
    [
        {"id": "m", "channel": "mail", "mail": {"to": ["oncall@example.org"]}},
        {"id": "s", "channel": "slack", "url": "https://hooks.example.org/T/B/x"},
        {"id": "t", "channel": "teams", "url": "https://example.org/teams?sig=x"},
        {"id": "p", "channel": "pagerduty", "credential": {"value": "sealed", "created_at": NOW}},
        {"id": "a", "channel": "alertmanager", "url": "http://10.0.0.1:9093"},
    ],
)
def test_every_channel_has_a_smallest_endpoint(given: dict[str, Any]) -> None:
    assert parse_endpoint(given).channel == given["channel"]


@pytest.mark.parametrize(
    ("change", "where", "message"),
    [
        ({"channel": "fax"}, "channel", "webhook"),
        ({"url": "ftp://example.org"}, "url", "https://"),
        ({"url": "https:///path"}, "url", "no host"),
        ({"url": "https://a:b@example.org"}, "url", "no user"),
        ({"url": "https://exa mple.org"}, "url", "without spaces"),
        ({"url": "https://example.org:99999"}, "url", "no url"),
        ({"url": None}, "endpoint", "needs a url"),
        ({"mail": {"to": ["a@b.org"]}}, "endpoint", "no mail"),
        ({"timeout": "15 lightyears"}, "timeout", "15 s"),
        ({"timeout": 600}, "timeout", "60"),
        ({"concurrency": 0}, "concurrency", "1"),
        ({"rate": 0}, "rate", "0.001"),
        ({"id": "Über"}, "id", "pattern"),
        ({"colour": "red"}, "colour", "no such field"),
        ({"headers": {"webhook-id": "x"}}, "headers", "service sets it"),
        ({"headers": {"Authorization": "x"}}, "headers", "credential"),
        ({"headers": {"X-A": "a\r\nX-B: b"}}, "headers", "printable"),
        ({"subscriptions": [{"types": ["alert.firing", "alarm"]}]}, "subscriptions.0.types", "alert.firing"),
        ({"channel": "mail", "url": None}, "endpoint", "mail.to"),
        ({"channel": "mail", "url": None, "mail": {"to": ["nobody"]}}, "mail.to", "oncall@"),
        ({"channel": "pagerduty"}, "endpoint", "routing key"),
    ],
)
def test_a_wrong_endpoint_is_refused_saying_where(change: dict[str, Any], where: str, message: str) -> None:
    with pytest.raises(EndpointError) as refused:
        parse_endpoint(HOOK | change)
    assert [fault.where for fault in refused.value.faults] == [where]
    assert message in refused.value.faults[0].message


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(EndpointError) as refused:
        parse_endpoint({"channel": "webhook", "url": "x", "rate": -1})
    assert {fault.where for fault in refused.value.faults} == {"id", "url", "rate"}

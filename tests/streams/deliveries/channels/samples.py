"""Notifications as the notifier makes them, and endpoints to send them to."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.time import DAY
from streams.deliveries.endpoint_watch import Notice
from streams.deliveries.health import Health
from streams.deliveries.notice import notices
from streams.deliveries.notification import Notification
from streams.endpoints.endpoint import Endpoint, parse_endpoint
from streams.endpoints.secrets import Vault, new_key, open_vault
from streams.notifications.body import alert_item, alerts_data, body, test_data
from streams.notifications.transition import Transition

NOW = 1_700_000_000.5
STARTED = 1_699_999_800_000_000
URL = "https://chatgauge.example"
# What somebody might put into names, to reach more people than they should or to look like a link.
NASTY = '<script>alert(1)</script> <!channel> @all [x](https://evil.example) *b* & "q" \r\nBcc: a@b.example'


def alert(**fields: Any) -> dict[str, Any]:
    """An alert, as it is on chat.alerts."""
    return {
        "alert_id": "al_0123456789abcdef0123",
        "transition": 2,
        "state": "firing",
        "rule_id": "error-rate",
        "rule_revision": 3,
        "rule_name": "Error rate",
        "kind": "threshold",
        "severity": "error",
        "labels": ["team=search"],
        "grouping": "space",
        "group": ["space_id=s1"],
        "started_at": STARTED,
        "changed_at": STARTED + 120_000_000,
        "judged_at": STARTED + 121_000_000,
        "window_start": STARTED - 60_000_000,
        "window_end": STARTED,
        "metric": "errors",
        "aggregation": "ratio",
        "unit": "ratio",
        "value": 0.253,
        "threshold": 0.1,
        "requests": 120,
        "parts": 4,
        "parts_expected": 4,
        "summary": "25.3 % of the requests of space s1 failed",
        **fields,
    }


def alerts(count: int, **fields: Any) -> list[dict[str, Any]]:
    """Alerts of as many groups."""
    return [
        alert(alert_id=f"al_{number:020x}", group=[f"space_id=space-{number}"], **fields)
        for number in range(count)
    ]


def of_alerts(
    told: Sequence[dict[str, Any]], type_: str = "alert.firing", *, part: int = 1, parts: int = 1
) -> Notification:
    """A notification of alerts."""
    items = [alert_item(Transition.of(each), URL) for each in told]
    data = alerts_data({"rule": "error-rate"}, items, part, parts, len(told) * parts)
    return Notification(
        "nt_0123456789abcdef01234567",
        "ep",
        type_,
        STARTED,
        body(type_, STARTED, data),
        tuple(f"{each['alert_id']}/{each['transition']}" for each in told),
    )


def of_test() -> Notification:
    """A notification that tests an endpoint."""
    data = test_data("ep", "The endpoint", "admin", URL)
    return Notification("nt_test", "ep", "endpoint.test", STARTED, body("endpoint.test", STARTED, data))


def of_failing(*, disabled: bool = False) -> Notification:
    """A notification that another endpoint keeps failing."""
    health = Health(STARTED, STARTED, 7, error="it answered 500")
    notice = Notice("other", health, 0.7, "it failed for five days" if disabled else None)
    failing = endpoint("slack", "https://hooks.example.org/", id="other", name="The other")
    told = endpoint("slack", "https://hooks.example.org/")
    (notification,) = notices(notice, failing, [failing, told], 5 * DAY, STARTED)
    return notification


VAULT: Vault = open_vault(new_key(), Path("/nowhere"))


def secret(value: str, *, expires_at: float | None = None, created_at: float = NOW - 1000) -> dict[str, Any]:
    """A secret of the endpoint `ep`, encrypted."""
    until = None if expires_at is None else datetime.fromtimestamp(expires_at, UTC)
    return {
        "value": VAULT.encrypt(value, "ep"),
        "created_at": datetime.fromtimestamp(created_at, UTC),
        "expires_at": until,
    }


def endpoint(channel: str, url: str | None = None, **fields: Any) -> Endpoint:
    """An endpoint of this channel."""
    return parse_endpoint({"id": "ep", "channel": channel, "url": url, "timeout": 20} | fields)

"""What docs/notifications.md shows is what is sent."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from schemas.contract import schema
from streams.notifications.body import alert_item, alerts_data, body, event_data, window_data
from streams.notifications.body import test_data as asked_data
from streams.notifications.silence import parse_silence
from streams.notifications.transition import Transition
from tests.streams.notifications.examples import START, alert_record

PAGE = Path(__file__).parents[3] / "docs" / "notifications.md"
EXAMPLES = [json.loads(text) for text in re.findall(r"```json\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)]
BY_TYPE = {each["type"]: each for each in EXAMPLES if "type" in each}
URL = "https://gauge.example.org"


def fields(value: Any) -> Any:
    """The names of all fields, at every depth; of lists, of their first item."""
    if isinstance(value, dict):
        return {name: fields(each) for name, each in value.items()}
    return [fields(value[0])] if isinstance(value, list) and value else None


def sent(type_: str, data: dict[str, Any]) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(body(type_, START, data))
    return parsed


def without_texts(shown: dict[str, Any], *names: str) -> Any:
    """The fields, but for those of objects whose fields depend on the alert."""
    names_of = fields(shown)
    for alert in names_of["data"].get("alerts", ()):
        alert.update(dict.fromkeys(names))
    return names_of


def test_the_page_shows_an_alert_as_it_is_sent() -> None:
    heard = Transition.of(alert_record(group={"service": "support-chat"}))
    made = sent("alert.firing", alerts_data({"rule": "slow-answers"}, [alert_item(heard, URL)], 1, 1, 1))

    depending = ("group", "labels", "details")

    assert without_texts(BY_TYPE["alert.firing"], *depending) == without_texts(made, *depending)


def test_the_page_shows_a_closed_window_as_it_is_sent() -> None:
    share = {
        "table": "chat.windows",
        "pane": "1m",
        "pane_start": START,
        "pane_end": START,
        "grouping": "model",
        "partition": 2,
        "partitions": 4,
        "revision": 0,
    }
    rows = BY_TYPE["window.closed"]["data"]["rows"]

    assert fields(BY_TYPE["window.closed"]) == fields(
        sent("window.closed", window_data(share, rows, 1, 1, URL))
    )


def test_the_page_shows_a_failed_request_with_all_its_fields() -> None:
    event = dict.fromkeys(schema("RequestEvent").fields) | {"attributes": {"tier": "gold"}}
    made = sent("request.failed", event_data(event, "chat.requests", 0, 17, URL))

    assert fields(BY_TYPE["request.failed"]) == fields(made)


def test_the_silence_on_the_page_is_one() -> None:
    [shown] = [each for each in EXAMPLES if "matchers" in each]

    assert len(parse_silence({"id": "si_1", **shown}).model_dump()["matchers"]) == 3


def test_a_test_says_who_asked_for_it() -> None:
    data = sent("endpoint.test", asked_data("ops", "Operations", "ada", URL))["data"]

    assert data == {
        "version": 1,
        "endpoint_id": "ops",
        "name": "Operations",
        "requested_by": "ada",
        "links": {"endpoint": f"{URL}/api/endpoints/ops"},
    }


@pytest.mark.parametrize("type_", ["alert.firing", "window.closed", "request.failed"])
def test_times_are_utc_with_microseconds(type_: str) -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", BY_TYPE[type_]["timestamp"])
    assert sent(type_, {})["timestamp"] == "2023-11-14T22:13:20.000000Z"

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.time import micros_of
from streams.notifications import pattern
from streams.notifications.errors import SilenceError
from streams.notifications.silence import Acknowledgement, Silence, acknowledgement_id, parse_silence

STARTS = datetime(2026, 1, 31, 22, 0, tzinfo=UTC)


def definition(**fields: Any) -> dict[str, Any]:
    return {
        "id": "si_1",
        "matchers": ["severity=warning"],
        "starts_at": STARTS.isoformat(),
        "ends_at": (STARTS + timedelta(hours=2)).isoformat(),
        "author": "ada",
        "reason": "the provider migrates",
        **fields,
    }


def silence(**fields: Any) -> Silence:
    parsed = parse_silence(definition(**fields))
    assert isinstance(parsed, Silence)
    return parsed


@pytest.mark.parametrize(
    ("matchers", "properties", "matched"),
    [
        (["severity=warning"], {"severity": "warning"}, True),
        (["severity=warning"], {"severity": "error"}, False),
        (["severity=warning"], {}, False),
        (["severity=warning", "team!=search"], {"severity": "warning", "team": "chat"}, True),
        (["severity=warning", "team!=search"], {"severity": "warning", "team": "search"}, False),
        (["severity=warning", "team!=search"], {"severity": "warning"}, True),
        (["model=~gpt-4*"], {"model": "gpt-4.1-mini"}, True),
        (["model=~gpt-4*"], {"model": "my-gpt-4"}, False),
        (["model=~gpt-4?|o3"], {"model": "o3"}, True),
        (["model=~gpt-4?|o3"], {"model": "gpt-4o"}, True),
        (["model=~gpt-4?|o3"], {"model": "gpt-4"}, False),
        (["model=~*-mini"], {"model": "gpt-4.1-mini"}, True),
        (["model=~*4*mini*"], {"model": "gpt-4.1-mini"}, True),
        (["model = gpt-4o"], {"model": "gpt-4o"}, True),
        (["rule=a=b"], {"rule": "a=b"}, True),
    ],
)
def test_a_silence_is_about_what_all_its_matchers_match(
    matchers: list[str], properties: dict[str, str], matched: bool
) -> None:
    assert silence(matchers=matchers).matches(properties) is matched


def test_matchers_are_objects_too() -> None:
    matchers = [{"name": "model", "operator": "=~", "value": "gpt-*"}]

    assert silence(matchers=matchers) == silence(matchers=["model=~gpt-*"])


def test_a_silence_holds_from_its_start_until_before_its_end() -> None:
    starts, ends = micros_of(STARTS), micros_of(STARTS + timedelta(hours=2))

    held = [silence().active(at) for at in (starts - 1, starts, ends - 1, ends)]

    assert held == [False, True, True, False]


@pytest.mark.parametrize(
    ("fields", "where", "what"),
    [
        ({"matchers": ["model=~gpt-.*"]}, "matchers.0", "wildcards, not regular expressions"),
        ({"matchers": ["model=~(a+)+"]}, "matchers.0", "wildcards, not regular expressions"),
        ({"matchers": ["model=~" + "a|" * 100]}, "matchers.0", "at most 100 alternatives"),
        ({"matchers": ["model"]}, "matchers.0", "'model' is no matcher"),
        ({"matchers": ["team!=search"]}, "matchers", "almost everything"),
        ({"matchers": ["team=~*"]}, "matchers", "almost everything"),
        ({"matchers": []}, "matchers", "at least 1 item"),
        ({"ends_at": STARTS.isoformat()}, "silence", "ends after it starts"),
        ({"ends_at": "2028-01-01T00:00:00Z"}, "silence", "366 days at most"),
        ({"ends_at": "2026-02-01T00:00:00"}, "ends_at", "timezone"),
        ({"author": ""}, "author", "at least 1 character"),
        ({"until": "tomorrow"}, "until", "not permitted"),
    ],
)
def test_a_silence_that_can_not_be_obeyed_is_refused_saying_where(
    fields: dict[str, Any], where: str, what: str
) -> None:
    with pytest.raises(SilenceError) as refused:
        parse_silence(definition(**fields))

    assert [fault.where for fault in refused.value.faults] == [where]
    assert what in refused.value.faults[0].message


def test_no_pattern_takes_long() -> None:
    worst = "*a" * 499 + "*"
    began = time.process_time()

    assert not pattern.matches(worst, "a" * 498 + "b" * 1_000)

    assert time.process_time() - began < 1


def test_an_acknowledgement_is_of_one_alert() -> None:
    parsed = parse_silence(
        {
            "kind": "acknowledgement",
            "id": acknowledgement_id("al_1"),
            "alert_id": "al_1",
            "author": "ada",
            "acknowledged_at": STARTS.isoformat(),
        }
    )

    assert isinstance(parsed, Acknowledgement)
    assert (parsed.id, parsed.alert_id) == ("ack_al_1", "al_1")

"""What an agent's wiring says of itself where it is told nothing."""

from datetime import timedelta

import pytest

from schemas.topics import ALERTS, NOTIFIER_STATE
from streams.runtime.agent import Wiring
from streams.runtime.ledger import ENVELOPED

WIRING = Wiring("counting", ALERTS, NOTIFIER_STATE, 4, timedelta(milliseconds=20))


def test_a_step_has_five_thousand_records_at_most_and_is_taken_at_once_from_64_kib_on() -> None:
    assert (WIRING.max_fetch, WIRING.min_bytes) == (5_000, 65_536)


def test_an_agent_hears_of_the_clock_ten_times_a_second() -> None:
    assert WIRING.tick_every == timedelta(seconds=0.1)


def test_its_entries_lie_in_envelopes_and_the_runtime_acknowledges_for_it() -> None:
    assert WIRING.format is ENVELOPED
    assert WIRING.own_pace is False


def test_a_wiring_is_not_changed_any_more() -> None:
    with pytest.raises(AttributeError):
        WIRING.partitions = 8  # type: ignore[misc]

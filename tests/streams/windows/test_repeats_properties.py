"""Repeats in any log: however it is cut, and whoever reads it again, the verdicts are the same."""

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.time import MINUTE, SECOND
from streams.windows.repeats import Repeats
from tests.streams.windows.requests import NOON
from tests.streams.windows.test_repeats import MOST, Event, by_hand, verdicts


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    """Events with many repeats, out of order, some by clocks that are ahead, some very late."""
    events: list[Event] = []
    now = NOON
    for _ in range(draw(st.integers(1, 60))):
        now += draw(st.sampled_from([0, SECOND, 40 * SECOND, 3 * MINUTE]))
        if events and draw(st.booleans()):
            again = draw(st.sampled_from(events))
            events.append((again[0], again[1], now))
        else:
            ahead = draw(st.sampled_from([0, -SECOND, -MINUTE, -7 * MINUTE, 4 * MINUTE]))
            events.append((draw(st.sampled_from("abcdef")), now + ahead, now))
    return events


@given(logs(), st.data())
@settings(max_examples=200, deadline=None)
def test_however_the_log_is_cut_the_verdicts_are_those_of_the_definition(
    events: list[Event], data: st.DataObject
) -> None:
    repeats, found, done = Repeats(MOST), [], 0
    while done < len(events):
        end = data.draw(st.integers(done + 1, len(events)))
        found += verdicts(repeats, events[done:end], done)
        done = end
    assert found == by_hand(events)


@given(logs(), st.data())
@settings(max_examples=200, deadline=None)
def test_who_reads_again_from_where_ids_are_remembered_comes_to_the_same_verdicts(
    events: list[Event], data: st.DataObject
) -> None:
    taken_over = data.draw(st.integers(1, len(events)))
    before, after = Repeats(MOST), Repeats(MOST)
    verdicts(before, events[:taken_over])
    since = before.since

    if since < taken_over:
        verdicts(after, events[since:taken_over], since)
    found = verdicts(after, events[taken_over:], taken_over) if taken_over < len(events) else []

    assert found == by_hand(events)[taken_over:]

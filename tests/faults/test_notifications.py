"""What counts as lost and as doubled of notifications."""

from tests.faults.notifications import reckon
from tests.streams.deliveries.drill.receiver import Request

DELIVERED_AT = 1_000.0


def request(at: float, *, taken: bool = True) -> Request:
    return Request(at, "endpoint-0", "nt_1", taken, True, b"{}")


def test_what_nobody_took_is_lost() -> None:
    outcome = reckon(["nt_1", "nt_2"], [request(999), request(999, taken=False)], {"nt_1": DELIVERED_AT}, [])

    assert outcome.lost == ["nt_2"]
    assert not outcome.doubled
    assert outcome.differences == ["notifications: 1 never came: ['nt_2']"]


def test_what_comes_again_before_the_log_knows_it_is_a_repeat() -> None:
    outcome = reckon(["nt_1"], [request(990), request(999)], {"nt_1": DELIVERED_AT}, [])

    assert (outcome.lost, outcome.doubled, outcome.repeats) == ([], [], 1)


def test_what_comes_again_once_the_log_knows_it_is_doubled() -> None:
    outcome = reckon(["nt_1"], [request(999), request(1_003)], {"nt_1": DELIVERED_AT}, [1_000.5])

    assert outcome.doubled == ["nt_1"]


def test_what_was_under_way_in_a_paused_worker_goes_out_when_it_is_continued() -> None:
    outcome = reckon(["nt_1"], [request(999), request(1_003)], {"nt_1": DELIVERED_AT}, [1_002.5])

    assert (outcome.doubled, outcome.repeats) == ([], 1)

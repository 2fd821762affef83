"""Of what is noted beside a committed offset, only a halt is a halt."""

from hypothesis import given
from hypothesis import strategies as st

from clients.kafka.notes import halted, why_halted
from streams.runtime.entries import Claim, Since


@given(st.text())
def test_a_halt_is_told_with_its_reason(why: str) -> None:
    assert why_halted(halted(why)) == f"halted: {why}"


@given(
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.none() | st.builds(Since, st.integers(0, 9), st.integers(0, 9)),
)
def test_a_claim_is_no_halt(epoch: int, since: int, after: Since | None) -> None:
    assert why_halted(Claim(epoch, since, after).note()) == ""
    assert why_halted("") == ""

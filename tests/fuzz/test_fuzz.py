"""No input crashes a part, shifts a neighbour or grows memory: the same five hundred inputs at every run.

`make fuzz SECONDS=600` tries new ones for longer.
"""

from typing import Any

import pytest

from tests.fuzz.runner import targets
from tests.fuzz.target import case_of
from tests.fuzz.watch import fuzz


@pytest.mark.timeout(300)
def test_no_input_crashes_a_part_shifts_a_neighbour_or_grows_memory() -> None:
    finding, said = fuzz(20261121, cases=500, seconds=240)
    assert finding is None, finding
    assert int(said.split()[0]) >= 500


@pytest.mark.parametrize("target", targets(), ids=lambda target: str(target.name))
def test_a_case_is_named_by_its_seed_and_number_and_can_be_written_down(target: Any) -> None:
    cases = [case_of(target, 1, number) for number in range(12)]
    assert [case_of(target, 1, number) for number in range(12)] == cases
    assert all(eval(repr(case)) == case for case in cases)
    assert len({repr(case) for case in cases}) > 6

"""Deliveries to receivers that fail, by a worker that is killed: none lost, hardly any doubled.

`make delivery-drill` runs ten thousand, with ten kills.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).parents[3]
_WITHIN_S = 160


@pytest.mark.timeout(_WITHIN_S + 20)
def test_every_delivery_survives_failing_receivers_and_kills(fresh_kafka: str) -> None:
    run = subprocess.run(
        [
            *(sys.executable, "-m", "tests.streams.deliveries.drill"),
            *("--seed", "1", "--count", "500", "--kills", "1", "--bootstrap", fresh_kafka),
        ],
        cwd=_CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_WITHIN_S,
        check=False,
    )

    assert run.returncode == 0, run.stdout[-8_000:]
    last = run.stdout.splitlines()[-1]
    assert re.fullmatch(r"delivered 500, lost 0, doubled \d+", last), run.stdout[-8_000:]

"""Every kind of fault, once, on the real parts: nothing is lost, nothing is counted twice.

As a process of its own: what it starts and mounts ends with it. `make faults` runs longer schedules.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.catalogue import KINDS

_CHECKOUT = Path(__file__).parents[2]
_WITHIN_S = 700
_PATIENCE = 3
"""How long recovering takes is `make faults`' business, on a quiet machine: here, others may be at work."""


@pytest.mark.timeout(_WITHIN_S + 40)
def test_every_kind_of_fault_leaves_the_figures_of_the_recount(tmp_path: Path) -> None:
    run = subprocess.run(
        [
            *(sys.executable, "-m", "tests.faults", "--seed", "1"),
            *("--patience", str(_PATIENCE), "--report", str(tmp_path)),
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
    assert re.fullmatch(rf"faults {len(KINDS)}, longest recovery [\d.]+ s, lost 0, doubled 0", last), (
        run.stdout[-8_000:]
    )

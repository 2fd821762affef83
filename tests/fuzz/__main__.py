"""Fuzzes the decoders for as long as is wanted: `python -m tests.fuzz --seconds 600 --seed 7`; or for so many
cases: `--cases 150000 --targets batches`, which spoils a million record batches.

What does harm is saved under var/fuzz, and the run goes on behind it.
"""

import argparse
import math
import sys
import time
from pathlib import Path

from tests.fuzz.watch import fuzz

_FOUND = Path(__file__).parents[2] / "var" / "fuzz"
_ENOUGH = 10
_ROUND = 60.0
"""Seconds after which the process is a new one."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, help="default: 60, unless --cases says when to end")
    parser.add_argument("--seed", type=int, default=time.time_ns() // 1_000_000_000)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case")
    parser.add_argument("--cases", type=int, help="1 repeats a finding")
    parser.add_argument(
        "--targets", nargs="*", default=[], help="avro, blocks, statements, ...; default: all"
    )
    given = parser.parse_args()
    seconds = given.seconds or (60 if given.cases is None else math.inf)
    last = given.first + (2**62 if given.cases is None else given.cases)
    ends = time.monotonic() + seconds
    first, found = given.first, 0
    while (left := ends - time.monotonic()) > 0 and found < _ENOUGH and first < last:
        cases = last - first
        finding, said = fuzz(
            given.seed, cases=cases, seconds=min(left, _ROUND), first=first, chosen=given.targets
        )
        if finding is None:
            print(f"seed {given.seed}, from {first}: {said}", flush=True)
            first += int(said.split()[0])
        else:
            found += 1
            first = finding.number + 1
            print(f"{finding.save(_FOUND)}: {finding.what.splitlines()[-1]}", flush=True)
    print(f"fuzzed to case {first} of seed {given.seed}, found {found}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""Runs cases, one after the other, and watches what each does to memory. Its own process: `tests.fuzz.watch`.

Before each case its target and number are written to a file, so that whoever watches knows which one
ended the process.
"""

import argparse
import gc
import logging
import mmap
import resource
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.fuzz.avro import AvroBatches
from tests.fuzz.batches import RecordBatches
from tests.fuzz.blocks import WindowBlocks
from tests.fuzz.target import Target, case_of
from tests.fuzz.texts import Bodies, Questions, Statements, Traces

MOST_PER_CASE = 192 * 2**20
"""Bytes by which a single case may raise the process's peak."""
MOST_KEPT = 64 * 2**20
"""Bytes by which the process may have grown at the end."""
_WARM_UP = 100
_SHARES = {"avro": 4, "batches": 4, "blocks": 2}
"""How many cases of a target come in turn; 1 of the others."""


def targets() -> list[Target]:
    """All there are."""
    return [AvroBatches(), RecordBatches(), WindowBlocks(), Statements(), Bodies(), Traces(), Questions()]


class Note:
    """The case that is under way, in a file that outlives the process."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(64))
        with path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), 64)

    def write(self, target: str, number: int) -> None:
        self._page[:64] = f"{target} {number}".encode().ljust(64, b"\0")


def run(chosen: Sequence[Target], seed: int, first: int, cases: int, seconds: float, note: Note) -> str:
    """Cases from number `first` on, until so many or so long; what was done, in words.

    Raises whatever a check raises, and MemoryError when memory grew.
    """
    ends = time.monotonic() + seconds
    done = 0
    number = first
    settled = 0
    while done < cases and time.monotonic() < ends:
        for target in chosen:
            for _ in range(_SHARES.get(target.name, 1)):
                note.write(target.name, number)
                case = case_of(target, seed, number)
                peak = _peak()
                target.check(case)
                grown = _peak() - peak
                if done > _WARM_UP and grown > MOST_PER_CASE:
                    raise MemoryError(f"the case took {grown >> 20} MB")
                done += 1
                number += 1
        if not settled and done > 4 * _WARM_UP:
            settled = _now()
    kept = _now() - settled if settled else 0
    if kept > MOST_KEPT:
        raise MemoryError(f"{kept >> 20} MB were kept")
    return f"{done} cases, {kept / 2**20:+.0f} MB kept, {_peak() >> 20} MB at the most"


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _now() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--cases", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--note", type=Path, required=True)
    parser.add_argument("--targets", nargs="*", default=[])
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    chosen = [target for target in targets() if not given.targets or target.name in given.targets]
    try:
        print(run(chosen, given.seed, given.first, given.cases, given.seconds, Note(given.note)))
    except BaseException:
        traceback.print_exc(file=sys.stdout)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

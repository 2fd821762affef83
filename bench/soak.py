"""`python -m bench.soak`: memory under a steady load; see `bench/studies/soak.py`."""

import argparse
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import figures, machine, peers, report
from bench.progress import say
from bench.stack import NotInTimeError
from bench.studies import soak
from bench.studies.live import WrongError
from infra.errors import LocalServerError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=int, help="events a second; by default half of the top rate")
    parser.add_argument("--results", type=Path, default=figures.RESULTS, help="where the figures go")
    told = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that nothing stays behind
    with tempfile.TemporaryDirectory(prefix="chatgauge-soak-") as scratch:
        try:
            found = soak.run(Path(scratch), told.minutes, told.rate)
        except (LocalServerError, NotInTimeError, WrongError) as problem:
            raise SystemExit(f"soak: {problem}") from problem
    held = figures.with_study(figures.read(told.results), "soak", found, machine.facts(None))
    figures.write(told.results, held)
    report.write(held, told.results.with_suffix(".md"))
    command = [str(peers.python()), "-m", "bench.pictures", str(told.results)]
    subprocess.run(command, cwd=peers.ROOT, check=True)
    say(f"figures and pictures are in {told.results.parent}")
    print(soak.verdict(found), flush=True)
    return 0 if soak.flat(found) else 1


if __name__ == "__main__":
    sys.exit(main())

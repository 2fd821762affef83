"""What a contender is told, and what it reports: one line of JSON, printed and left in its scratch directory.

Imported in the product's environment and in the peers': standard library only.
"""

import argparse
import json
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import work


@dataclass(frozen=True)
class Course:
    """What is to be run through."""

    bootstrap: str
    topic: str
    partitions: int
    events: int
    """How many events of the topic lie in a window."""
    scratch: Path
    """An empty directory of the contender's own."""
    run: str
    """Unlike every other run's: for consumer groups and the like."""

    @property
    def windows_file(self) -> Path:
        return self.scratch / "windows.jsonl"

    @property
    def result_file(self) -> Path:
        return self.scratch / "result.json"


@dataclass(frozen=True)
class Result:
    """What a run came to. `rss_mb` is the peak, in MiB."""

    events: int
    seconds: float
    cpu_seconds: float
    """What the process itself used of them, on all cores: steadier than the clock on a busy machine."""
    startup_seconds: float
    rss_mb: float
    windows: int = 0
    digest: str = ""


def course() -> Course:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--run", required=True)
    return Course(**vars(parser.parse_args()))


class Clock:
    """Runs from the first record that is handed to the contender to the last window."""

    def __init__(self) -> None:
        self._born = time.perf_counter()
        self._started = self._cpu_started = 0.0
        self._stopped = 0.0
        self.cpu_seconds = 0.0
        self.peak_rss_mb = 0.0

    def start(self) -> None:
        self._started = time.perf_counter()
        self._cpu_started = time.process_time()

    @property
    def running(self) -> bool:
        return self._started > 0

    def stop(self) -> None:
        self._stopped = time.perf_counter()
        self.cpu_seconds = time.process_time() - self._cpu_started
        self.peak_rss_mb = peak_rss_mb()  # what comes after is no part of the work

    @property
    def seconds(self) -> float:
        return self._stopped - self._started

    @property
    def startup_seconds(self) -> float:
        return self._started - self._born


def peak_rss_mb() -> float:
    """Of this process, in MiB. `ru_maxrss` would carry over the parent's peak through fork and exec."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def hand_in(course: Course, clock: Clock, windows: work.Windows) -> None:
    """Write the windows for the judge, and report."""
    work.write(windows, course.windows_file)
    report(
        course,
        Result(
            events=work.requests_in(windows),
            seconds=clock.seconds,
            cpu_seconds=clock.cpu_seconds,
            startup_seconds=clock.startup_seconds,
            rss_mb=clock.peak_rss_mb,
            windows=len(windows),
            digest=work.digest(course.windows_file),
        ),
    )


def report(course: Course, result: Result) -> None:
    """A file besides the line: frameworks write to standard output too."""
    line = json.dumps(asdict(result))
    course.result_file.write_text(line)
    print(line, flush=True)

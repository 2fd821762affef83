"""Runs the fuzzer in a process of its own, and says which input broke a promise, or the process."""

import os
import pprint
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.fuzz.runner import targets
from tests.fuzz.target import case_of

MOST_BYTES = 2 * 2**30
"""Of memory, at any time."""
STALLED = 30.0
"""Seconds after which a case is taken to hang."""
_ENVIRONMENT = {"RUST_BACKTRACE": "0"}
"""What Polars prints when it panics takes longer than a case."""
_HERE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Finding:
    """A case that did harm."""

    target: str
    seed: int
    number: int
    what: str

    def save(self, folder: Path) -> Path:
        """The input and what it did, as text; `case` can be evaluated."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.target}-{self.seed}-{self.number}.txt"
        target = next(target for target in targets() if target.name == self.target)
        case = case_of(target, self.seed, self.number)
        path.write_text(f"{self.what}\n\ncase = {pprint.pformat(case)}\n")
        return path


def fuzz(
    seed: int, *, cases: int, seconds: float, first: int = 0, chosen: Sequence[str] = ()
) -> tuple[Finding | None, str]:
    """The first finding, if any, and what the run says of itself."""
    with tempfile.TemporaryDirectory(prefix="chatgauge-fuzz-") as home:
        note = Path(home) / "note"
        note.write_bytes(bytes(64))
        command = [sys.executable, "-m", "tests.fuzz.runner", f"--seed={seed}", f"--first={first}"]
        command += [f"--cases={cases}", f"--seconds={seconds}", f"--note={note}", "--targets", *chosen]
        with (Path(home) / "errors").open("w+b") as errors:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, cwd=_HERE, env=os.environ | _ENVIRONMENT
            )
            why = _watch(process, note)
            said = process.communicate()[0].decode(errors="replace").strip()
            errors.seek(0, 2)
            errors.seek(max(0, errors.tell() - 2_000))
            complaints = errors.read().decode(errors="replace")
        if not why and process.returncode < 0:
            why = f"the process died of {signal.Signals(-process.returncode).name}\n{complaints}"
        elif not why and process.returncode:
            why = said or complaints
        if not why:
            return None, said
        target, _, number = note.read_bytes().rstrip(b"\0").decode().partition(" ")
        if not target:
            raise RuntimeError(f"the fuzzer came to no case: {why}")
        return Finding(target, seed, int(number or 0), why), said


def _watch(process: "subprocess.Popen[bytes]", note: Path) -> str:
    """Waits for the end; why it had to be brought about, or nothing."""
    watched = psutil.Process(process.pid)
    seen, since = b"", time.monotonic()
    while process.poll() is None:
        try:
            size = watched.memory_info().rss
        except psutil.NoSuchProcess:
            break
        now, at = time.monotonic(), note.read_bytes()
        if at != seen:
            seen, since = at, now
        why = f"it took {size >> 20} MB" if size > MOST_BYTES else ""
        if now - since > STALLED:
            why = f"it hung for {STALLED:.0f} s"
        if why:
            process.kill()
            return why
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    return ""

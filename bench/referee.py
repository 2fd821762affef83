"""Runs one contender as a process of its own and holds its windows against the recomputation."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench import work
from bench.contenders.race import Result
from bench.entrants import Entrant
from bench.peers import ROOT

PATIENCE_S = 1800


class DisqualifiedError(RuntimeError):
    """A contender failed, or its windows are wrong; the message is for a person."""


@dataclass(frozen=True)
class Lane:
    """A topic with its load, and the windows that are in it."""

    bootstrap: str
    topic: str
    partitions: int
    truth: work.Windows
    """By space."""
    users: work.Windows = field(default_factory=dict)
    """By user, where somebody hands that in."""

    @property
    def events(self) -> int:
        return work.requests_in(self.truth)


def run(
    entrant: Entrant,
    lane: Lane,
    scratch: Path,
    interpreter: Path | None = None,
    under: Sequence[str] = (),
) -> Result:
    """One run of `entrant`, under a command that runs it where one is given. Raises DisqualifiedError."""
    name = uuid.uuid4().hex[:8]
    home = scratch / f"{entrant.name}-{name}"
    home.mkdir(parents=True)
    command = [
        *under,
        *(
            str(_interpreter(entrant, interpreter)),
            "-m",
            f"bench.contenders.{entrant.module or entrant.name}",
        ),
        *("--bootstrap", lane.bootstrap, "--topic", lane.topic),
        *("--partitions", str(lane.partitions), "--events", str(lane.events)),
        *("--scratch", str(home), "--run", name),
    ]
    with (home / "log").open("w") as log:
        try:
            status = subprocess.run(
                command,
                cwd=entrant.checkout or ROOT,
                env=_environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=PATIENCE_S,
            ).returncode
        except subprocess.TimeoutExpired:
            status = None
    reported = home / "result.json"
    if status != 0 or not reported.exists():
        ended = "did not finish in time" if status is None else f"ended with status {status}"
        said = (home / "log").read_text(errors="replace")[-2000:]
        raise DisqualifiedError(f"{entrant.name} {ended}; it said:\n{said}")
    result = Result(**json.loads(reported.read_text()))
    if entrant.windows:
        truth = lane.users if entrant.by_user else lane.truth
        wrong = work.differences(truth, work.read(home / "windows.jsonl"))
        if wrong:
            raise DisqualifiedError("\n  ".join([f"{entrant.name} gives other windows:", *wrong]))
    return result


def _interpreter(entrant: Entrant, peers: Path | None) -> Path:
    if entrant.checkout is not None:
        return entrant.checkout / ".venv" / "bin" / "python"
    return peers or Path(sys.executable)


def _environment() -> dict[str, str]:
    """As an installed program has it: modules are compiled once, not at each start."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

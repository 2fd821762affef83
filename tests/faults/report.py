"""The report of a run: for a person (Markdown) and for a program (JSON)."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.catalogue import CATALOGUE
from tests.faults.checkpoint import Checkpoint
from tests.faults.conducting import Outcome
from tests.faults.process import End

_MB = 2**20


@dataclass(frozen=True)
class Run:
    """What a schedule came to."""

    seed: int
    seconds: float
    """From start to end, with the starting of the stack."""
    outcomes: Sequence[Outcome]
    checkpoints: Sequence[Checkpoint]
    ended: Sequence[End] = field(default=())
    """Processes that ended and had not been killed."""

    @property
    def lost(self) -> int:
        return max((one.lost for one in self.checkpoints), default=0)

    @property
    def doubled(self) -> int:
        return max((one.doubled for one in self.checkpoints), default=0)

    @property
    def longest_recovery(self) -> float:
        return max((one.recovery for one in self.outcomes), default=0.0)

    @property
    def summary(self) -> str:
        """The last line of a run."""
        return (
            f"faults {len(self.outcomes)}, longest recovery {self.longest_recovery:.1f} s, "
            f"lost {self.lost}, doubled {self.doubled}"
        )

    @property
    def failures(self) -> list[str]:
        """Why the run is not a success: nothing, if it is one."""
        said = []
        for one in self.outcomes:
            what = f"fault {one.fault.number} ({one.fault.kind}, {', '.join(one.fault.lanes)})"
            if one.failed:
                said.append(f"{what}: {one.failed}")
            elif one.too_slow:
                said.append(f"{what}: recovered in {one.recovery:.1f} s; {one.allowed:.0f} s are allowed")
        for point in self.checkpoints:
            said += [f"after {point.after} faults: {difference}" for difference in point.differences]
        if not self.checkpoints:
            said.append("nothing was compared")
        return said


def write(run: Run, directory: Path) -> None:
    """As `faults.md` and `faults.json`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "faults.md").write_text(_markdown(run), encoding="utf-8")
    (directory / "faults.json").write_text(json.dumps(_plain(run), indent=1) + "\n", encoding="utf-8")


def _plain(run: Run) -> dict[str, Any]:
    return {
        "seed": run.seed,
        "seconds": round(run.seconds, 1),
        "summary": run.summary,
        "failures": run.failures,
        "faults": [dataclasses.asdict(one) for one in run.outcomes],
        "checkpoints": [dataclasses.asdict(one) for one in run.checkpoints],
        "ended_unasked": [dataclasses.asdict(one) for one in run.ended],
    }


def _markdown(run: Run) -> str:
    lines = [
        f"# Faults, seed {run.seed}",
        "",
        run.summary,
        "",
        f"Took {run.seconds / 60:.1f} minutes.",
        "",
        "## Failures",
        "",
        *([f"- {one}" for one in run.failures] or ["None."]),
        "",
        "## By kind",
        "",
        "| fault | times | longest recovery, s | allowed, s | most lag | what it is |",
        "|---|---|---|---|---|---|",
        *_by_kind(run.outcomes),
        "",
        "## Comparisons",
        "",
        "| after faults | at, s | records | repeats | refused | notified | lost | doubled | differences |",
        "|---|---|---|---|---|---|---|---|---|",
        *(
            f"| {one.after} | {one.at:.0f} | {one.events:,} | {one.repeats:,} | {one.refused:,} "
            f"| {one.notifications:,} | {one.lost} | {one.doubled} "
            f"| {len(one.differences)} |"
            for one in run.checkpoints
        ),
        "",
        "## One by one",
        "",
        "Memory in MB: before, most, after.",
        "",
        "| # | fault | on | at, s | took, s | recovery, s | most lag | memory | notes |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_row(one) for one in sorted(run.outcomes, key=lambda one: one.fault.number)),
    ]
    if run.ended:
        lines += ["", "## Ended unasked", ""]
        for end in run.ended:
            lines += [f"{end.name}, status {end.status}", "", "```", end.said, "```", ""]
    return "\n".join(lines) + "\n"


def _by_kind(outcomes: Sequence[Outcome]) -> list[str]:
    rows = []
    for name, entry in CATALOGUE.items():
        of_kind = [one for one in outcomes if one.fault.kind == name]
        if of_kind:
            recovery, lag = max(one.recovery for one in of_kind), max(one.lag for one in of_kind)
            rows.append(
                f"| {name} | {len(of_kind)} | {recovery:.1f} | {entry.within_s:.0f} | {lag:,} "
                f"| {entry.about} |"
            )
    return rows


def _row(one: Outcome) -> str:
    fault = one.fault
    memory = ", ".join(
        f"{name} {one.memory_before.get(name, 0) // _MB}/{most // _MB}/{one.memory_after.get(name, 0) // _MB}"
        for name, most in sorted(one.memory_most.items())
    )
    notes = "; ".join([*one.notes, *([one.failed] if one.failed else [])])
    return (
        f"| {fault.number} | {fault.kind} | {', '.join(fault.lanes)} | {one.began:.1f} "
        f"| {one.ended - one.began:.1f} | {one.recovery:.1f} | {one.lag:,} | {memory} | {notes} |"
    )

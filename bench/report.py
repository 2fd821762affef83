"""What a run came to: the table for people, `results/latest.json` for everybody else."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.contenders.race import Result
from bench.entrants import Entrant


@dataclass(frozen=True)
class Row:
    """One contender's runs; its windows, where it hands some in, have been found right in each."""

    entrant: Entrant
    runs: Sequence[Result]

    @property
    def rates(self) -> list[float]:
        return sorted(run.events / run.seconds for run in self.runs)

    @property
    def rate(self) -> float:
        """The median of the runs."""
        return statistics.median(self.rates)

    def figures(self) -> dict[str, Any]:
        return {
            self.entrant.unit: round(self.rate),
            "min": round(self.rates[0]),
            "max": round(self.rates[-1]),
            "rss_mb": round(max(run.rss_mb for run in self.runs), 1),
            "events": self.runs[0].events,
            "seconds": [round(run.seconds, 3) for run in self.runs],
            "cpu_us_per_event": round(
                statistics.median(run.cpu_seconds / run.events for run in self.runs) * 1e6, 2
            ),
            "startup_seconds": round(statistics.median(run.startup_seconds for run in self.runs), 2),
            "windows_equal": self.entrant.windows,
        }


def write(rows: Sequence[Row], machine: Mapping[str, Any], load: Mapping[str, Any], file: Path) -> None:
    """One object a contender, and the machine and the load beside them."""
    file.parent.mkdir(parents=True, exist_ok=True)
    figures = {row.entrant.name: row.figures() for row in rows} | {
        "load": dict(load),
        "machine": dict(machine),
    }
    file.write_text(json.dumps(figures, indent=2) + "\n")


def show(rows: Sequence[Row], machine: Mapping[str, Any], load: Mapping[str, Any]) -> None:
    """The table, on standard output."""
    ours = next((row for row in rows if row.entrant.name == "rollup"), None)
    table = Table(
        title=f"{load['events']:,} events of {load['value_bytes']:.0f} bytes, "
        f"{load['partitions']} partitions, {machine['cores']} cores shared with the broker",
        caption="per second: median (least to most) of the runs; memory: peak of the process",
    )
    table.add_column("")
    for heading in (
        "events",
        "per second",
        "",
        "rollup is",
        "CPU an event",
        "memory",
        "start-up",
        "same windows",
    ):
        table.add_column(heading, justify="right")
    for row in rows:
        figures = row.figures()
        equal_work = ours is not None and row.entrant.equal_work and row is not ours
        table.add_row(
            row.entrant.about,
            f"{figures['events']:,}",
            f"{row.rate:,.0f}",
            f"({figures['min']:,} to {figures['max']:,})",
            f"{ours.rate / row.rate:.1f} ×" if ours is not None and equal_work else "",
            f"{figures['cpu_us_per_event']:.1f} µs",
            f"{figures['rss_mb']:.0f} MB",
            f"{figures['startup_seconds']:.1f} s",
            "yes" if row.entrant.windows else "",
        )
    Console(width=150).print(table)

"""What a run came to: a table for people, JSON for everybody else."""

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

_LEGEND = (
    "Per second: median of the runs; CPU and memory (peak): of the process itself; "
    "windows: held against a recomputation from the topic"
)


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


HEADINGS = ("", "events", "per second", "least to most", "rollup is", "CPU an event", "memory", "windows")


def lines(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """The table's lines, as `HEADINGS` has them."""
    ours = next((row for row in rows if row.entrant.name == "rollup"), None)
    told = []
    for row in rows:
        figures = row.figures()
        compared = ours is not None and row.entrant.equal_work and row is not ours
        told.append(
            (
                row.entrant.about,
                f"{figures['events']:,}",
                f"{row.rate:,.0f}",
                f"{figures['min']:,} to {figures['max']:,}",
                f"{ours.rate / row.rate:.1f} ×" if ours is not None and compared else "",
                f"{figures['cpu_us_per_event']:.1f} µs",
                f"{figures['rss_mb']:.0f} MB",
                "equal" if row.entrant.windows else "",
            )
        )
    return told


def title(machine: Mapping[str, Any], load: Mapping[str, Any]) -> str:
    """What was run, and where."""
    return (
        f"{load['events']:,} events of {load['value_bytes']:.0f} bytes in {load['partitions']} partitions, "
        f"{machine['cores']} cores ({machine['cpu']}) shared with the broker, {machine['date'][:10]}"
    )


def show(rows: Sequence[Row], machine: Mapping[str, Any], load: Mapping[str, Any]) -> None:
    """The table, on standard output."""
    table = Table(title=title(machine, load), caption=_LEGEND)
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading else "left")
    for line in lines(rows):
        table.add_row(*line)
    Console(width=150).print(table)


def write(rows: Sequence[Row], machine: Mapping[str, Any], load: Mapping[str, Any], file: Path) -> None:
    """One object a contender, the load and the machine, as JSON; and the table beside it, as Markdown."""
    file.parent.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Any] = {row.entrant.name: row.figures() for row in rows}
    figures |= {"load": dict(load), "machine": dict(machine)}
    file.write_text(json.dumps(figures, indent=2) + "\n")
    ruler = ("---", *("---:" for _ in HEADINGS[1:]))
    table = "\n".join(f"| {' | '.join(line)} |" for line in (HEADINGS, ruler, *lines(rows)))
    file.with_suffix(".md").write_text(f"{title(machine, load)}.\n\n{table}\n\n{_LEGEND}.\n")

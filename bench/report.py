"""What a run came to: a table for people, JSON for everybody else."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.contenders.race import Result
from bench.entrants import ENTRANTS, Entrant
from bench.sections import section, table

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


_HEADINGS = {
    "workers": "One worker and two",
    "cardinality": "Users and spaces",
    "restart": "Restart with a day of state",
    "latency": "From an event to its figures",
    "changelog": "Changelog",
    "cpu": "What a live system uses",
    "alerting": "From a closed pane to webhooks",
    "profile": "Where the time goes",
    "soak": "Memory under steady load",
}
HEADINGS = ("", "events", "per second", "least to most", "rollup is", "CPU an event", "memory", "windows")


def lines(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The race's lines, as `HEADINGS` has them, from its figures."""
    ours = found.get("rollup")
    told: list[tuple[str, ...]] = []
    versions = [version for entrant in ENTRANTS for version in (entrant, entrant.before(Path()))]
    for entrant in versions:
        if entrant.name not in found:
            continue
        own = found[entrant.name]
        rate = own[entrant.unit]
        compared = ours is not None and entrant.equal_work and own is not ours
        told.append(
            (
                entrant.about,
                f"{own['events']:,}",
                f"{rate:,.0f}",
                f"{own['min']:,} to {own['max']:,}",
                f"{ours['events_per_s'] / rate:.1f} ×" if ours is not None and compared else "",
                f"{own['cpu_us_per_event']:.1f} µs",
                f"{own['rss_mb']:.0f} MB",
                "equal" if entrant.windows else "",
            )
        )
    return told


def title(found: Mapping[str, Any]) -> str:
    """What was raced over, and where."""
    load, machine = found["load"], found["machine"]
    return (
        f"{load['events']:,} events of {load['value_bytes']:.0f} bytes in {load['partitions']} partitions, "
        f"{machine['cores']} cores ({machine['cpu']}) shared with the broker, {machine['date'][:10]}"
    )


def show(found: Mapping[str, Any]) -> None:
    """The race's table, on standard output."""
    shown = Table(title=title(found), caption=_LEGEND)
    for heading in HEADINGS:
        shown.add_column(heading, justify="right" if heading else "left")
    for line in lines(found):
        shown.add_row(*line)
    Console(width=150).print(shown)


def write(found: Mapping[str, Any], file: Path) -> None:
    """Everything that was measured, as Markdown, with its pictures beside it."""
    parts = []
    if "machine" in found:
        parts.append(
            f"{title(found)}.\n\n{table(HEADINGS, lines(found))}\n\n{_LEGEND}.\n\n![The race](race.svg)"
        )
    for name, heading in _HEADINGS.items():
        if name in found:
            picture = f"\n\n![{heading}]({name}.svg)" if name != "cpu" else ""
            parts.append(f"## {heading}\n\n{section(name, found)}{picture}")
    file.write_text("\n\n".join(parts) + "\n")


def figures(rows: Sequence[Row], machine: Mapping[str, Any], load: Mapping[str, Any]) -> dict[str, Any]:
    """One object a contender, the load and the machine."""
    return {row.entrant.name: row.figures() for row in rows} | {"load": dict(load), "machine": dict(machine)}

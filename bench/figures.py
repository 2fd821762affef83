"""`results/latest.json`: every figure, by the part of the benchmark that it comes from."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Figures = dict[str, Any]

RESULTS = Path(__file__).parent / "results" / "latest.json"
STUDIES = ("workers", "cardinality", "restart", "latency", "changelog", "cpu", "alerting", "profile", "soak")
"""Those beside the race, whose figures lie at the top: one object a contender, `load` and `machine`."""


def read(file: Path) -> Figures:
    """What the file holds; nothing, where there is none."""
    return json.loads(file.read_text()) if file.exists() else {}


def write(file: Path, figures: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(figures, indent=2) + "\n")


def with_race(held: Figures, race: Mapping[str, Any]) -> Figures:
    """The race anew: its contenders ran together, so that none of an earlier one stays."""
    return {**race, **{name: held[name] for name in STUDIES if name in held}}


def with_study(held: Figures, name: str, found: Mapping[str, Any], machine: Mapping[str, Any]) -> Figures:
    """A study's figures anew; each tells when it was taken, of which version."""
    if name not in STUDIES:
        raise ValueError(f"{name} is none of {', '.join(STUDIES)}")
    taken = {key: machine[key] for key in ("date", "commit", "cores", "cpu")}
    return {**held, name: {**found, "taken": taken}}

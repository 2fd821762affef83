"""The work that every contender does, and the form in which they hand in what they found.

Equal work is: decode the Avro value, put the event into its space's one-minute window by event time, and
keep there the number of requests, of errors, the sums of `total_us`, `prompt_tokens` and
`completion_tokens`, and one log sketch of `total_us` with 1 % relative error. Events without a space are
in no window.

This module is imported by the product's environment and by the peers', so it needs the standard library
alone.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MINUTE_US = 60_000_000
HEADER_BYTES = 10
"""Avro single-object encoding: two marker bytes and the schema's eight-byte fingerprint."""

LOG_GAMMA = math.log(1.01 / 0.99)

SCHEMA_FILE = Path(__file__).parent.parent / "schemas" / "request_event.avsc"

REQUESTS, ERRORS, TOTAL_US, PROMPT_TOKENS, COMPLETION_TOKENS, SKETCH = range(6)
FIGURES = ("requests", "errors", "total_us", "prompt_tokens", "completion_tokens")

Window = list[Any]
"""[requests, errors, total_us, prompt_tokens, completion_tokens, {sketch key: count}]"""

Windows = dict[tuple[str, int], Window]
"""By space and start of the minute in microseconds."""


def schema_for_counting() -> dict[str, Any]:
    """`RequestEvent` with times as plain integers: no reader then builds a datetime per event."""
    definition: dict[str, Any] = json.loads(SCHEMA_FILE.read_text())
    for field in definition["fields"]:
        if isinstance(field["type"], dict) and "logicalType" in field["type"]:
            field["type"] = field["type"]["type"]
    return definition


def new_window() -> Window:
    return [0, 0, 0, 0, 0, {}]


def count(window: Window, event: Mapping[str, Any]) -> Window:
    """Add one event to its window, in place."""
    window[REQUESTS] += 1
    if event["error_type"] is not None:
        window[ERRORS] += 1
    window[PROMPT_TOKENS] += event["prompt_tokens"] or 0
    window[COMPLETION_TOKENS] += event["completion_tokens"] or 0
    total_us = event["total_us"]
    if total_us is not None:
        window[TOTAL_US] += total_us
        key = math.floor(math.log(max(1, total_us)) / LOG_GAMMA)
        sketch = window[SKETCH]
        sketch[key] = sketch.get(key, 0) + 1
    return window


def add(windows: Windows, space: str, start_us: int, window: Window) -> None:
    """Add a window, or a source partition's share of one, to those of the same space and minute."""
    held = windows.get((space, start_us))
    if held is None:
        held = windows[space, start_us] = new_window()
    for i in range(SKETCH):
        held[i] += window[i]
    sketch = held[SKETCH]
    for key, n in window[SKETCH].items():
        sketch[int(key)] = sketch.get(int(key), 0) + n


def requests_in(windows: Windows) -> int:
    return sum(window[REQUESTS] for window in windows.values())


def write(windows: Windows, file: Path) -> None:
    """One line of JSON per window, sorted: two files are equal when their windows are."""
    with file.open("w") as out:
        for (space, start_us), window in sorted(windows.items()):
            sketch = sorted(window[SKETCH].items())
            out.write(json.dumps([space, start_us, *window[:SKETCH], sketch]) + "\n")


def read(file: Path) -> Windows:
    windows: Windows = {}
    with file.open() as lines:
        for line in lines:
            space, start_us, *sums, sketch = json.loads(line)
            windows[space, start_us] = [*sums, dict(sketch)]
    return windows


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def differences(expected: Windows, found: Windows, most: int = 5) -> list[str]:
    """The first few differences, for a person to read; empty when there are none."""
    wrong = [key for key in sorted(expected.keys() | found.keys()) if expected.get(key) != found.get(key)]
    told = [_difference(key, expected.get(key), found.get(key)) for key in wrong[:most]]
    return [*told, f"and {len(wrong) - most} more"] if len(wrong) > most else told


def _difference(key: tuple[str, int], expected: Window | None, found: Window | None) -> str:
    name = f"{key[0]}, minute {key[1] // MINUTE_US}"
    if expected is None or found is None:
        return f"{name}: {'missing' if found is None else 'unexpected'}"
    figures = [
        f"{figure} {found[i]} instead of {expected[i]}"
        for i, figure in enumerate(FIGURES)
        if found[i] != expected[i]
    ]
    buckets = [
        f"sketch bucket {k} {found[SKETCH].get(k, 0)} instead of {expected[SKETCH].get(k, 0)}"
        for k in sorted(expected[SKETCH].keys() | found[SKETCH].keys())
        if expected[SKETCH].get(k) != found[SKETCH].get(k)
    ]
    return f"{name}: {', '.join(figures + buckets[:3])}"

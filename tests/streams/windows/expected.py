"""What windows must hold, worked out request by request in plain Python: shares nothing with the product."""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

KEYS = {
    "total": (),
    "service": ("service",),
    "model": ("provider", "model"),
    "space": ("space_id",),
    "workflow": ("workflow", "workflow_version"),
    "region": ("region",),
    "error": ("error_type",),
    "user": ("user_id",),
}
SUMMED = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens", "cost_nano_usd")
MEASURED = ("total_us", "context_us", "model_us", "first_token_us")

Group = tuple[str, int, tuple[str, ...]]


def bucket(value: int) -> int:
    """floor(log_γ value), γ = 101/99, from below in whole numbers."""
    value = max(value, 1)
    key = max(math.floor(math.log(value) / math.log(101 / 99)) - 1, 0)
    while value * 99 ** (key + 1) >= 101 ** (key + 1):
        key += 1
    return key


def windows(requests: Iterable[dict[str, Any]], grouping: str, length: int) -> dict[Group, dict[str, Any]]:
    """By (grouping, pane start, key): the figures; sketches as counters by bucket."""
    found: dict[Group, dict[str, Any]] = {}
    for row in requests:
        key = tuple(row[name] for name in KEYS[grouping])
        if None in key:
            continue
        start = row["occurred_at"] - row["occurred_at"] % length
        figures = found.setdefault((grouping, start, key), {})
        figures["requests"] = figures.get("requests", 0) + 1
        for name in ("errors", "cache_hits", "unpriced"):
            figures[name] = figures.get(name, 0) + int(row[name])
        for name in SUMMED:
            figures[name] = figures.get(name, 0) + (row[name] or 0)
        if grouping == "user":
            continue
        for name in MEASURED:
            values = figures.setdefault(name, [])
            if row[name] is not None:
                values.append(row[name])
    for figures in found.values():
        for name in MEASURED:
            values = figures.pop(name, None)
            if values is None:
                continue
            figures[f"{name}_count"], figures[f"{name}_sum"] = len(values), sum(values)
            figures[f"{name}_min"], figures[f"{name}_max"] = (
                min(values, default=None),
                max(values, default=None),
            )
            figures[f"{name}_sketch"] = Counter(bucket(value) for value in values)
    return found


def rows_of(table: Any, grouping: str, start: int) -> dict[Group, dict[str, Any]]:
    """A block's rows (or merged ones) in the same form."""
    found: dict[Group, dict[str, Any]] = {}
    for row in table.to_pylist() if hasattr(table, "to_pylist") else table.to_dicts():
        key = tuple(row.pop(name) for name in KEYS[grouping])
        for name in MEASURED:
            if f"{name}_keys" in row:
                keys, counts = row.pop(f"{name}_keys"), row.pop(f"{name}_counts")
                assert keys == sorted(set(keys))
                row[f"{name}_sketch"] = Counter(dict(zip(keys, counts, strict=True)))
        assert (grouping, start, key) not in found
        found[grouping, start, key] = row
    return found

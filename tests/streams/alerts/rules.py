"""Rules for the tests: one of each kind, as a person would write it."""

from typing import Any

Written = dict[str, Any]

THRESHOLD: Written = {
    "id": "error-rate",
    "kind": "threshold",
    "name": "Errors",
    "severity": "error",
    "metric": "errors",
    "grouping": "service",
    "window": "5m",
    "threshold": "10 %",
}
BASELINE: Written = {
    "id": "unusual",
    "kind": "baseline",
    "name": "Unusual latency",
    "severity": "warning",
    "metric": "latency",
    "window": "5m",
    "threshold": 3,
    "minimum_difference": "100 ms",
}
CHANGE: Written = {
    "id": "cache",
    "kind": "change",
    "name": "Fewer cache hits",
    "severity": "warning",
    "metric": "cache_hits",
    "window": "1h",
    "against": "1d",
    "operator": "<",
    "threshold": "-50 %",
}
CAPACITY: Written = {
    "id": "capacity",
    "kind": "capacity",
    "name": "Over capacity",
    "severity": "critical",
    "metric": "requests",
    "window": "1m",
    "capacity": "100/s",
    "threshold": "150 %",
}
BUDGET: Written = {
    "id": "budget",
    "kind": "budget",
    "name": "Tokens of a user",
    "severity": "warning",
    "metric": "tokens",
    "grouping": "user",
    "period": "day",
    "limit": "2M tokens",
}
ABSENCE: Written = {
    "id": "absent",
    "kind": "absence",
    "name": "Nothing comes",
    "severity": "critical",
    "window": "15m",
    "minimum_requests": 100,
}
WATCHDOG: Written = {"id": "watchdog", "kind": "watchdog", "name": "Watchdog"}

EVERY_KIND = (THRESHOLD, BASELINE, CHANGE, CAPACITY, BUDGET, ABSENCE, WATCHDOG)

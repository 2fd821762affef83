"""Each part of the benchmark in words and tables, made from `results/latest.json` and nothing else.

`results/latest.md` is all of them; `docs/performance.md` has some, between markers (`bench.page`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Figures = Mapping[str, Any]

PARTITIONS = 4
"""Of the topics that everything here was measured on."""
CLUSTERS = (4, 12, 48, 192)


def table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    ruler = ("---", *("---:" for _ in headings[1:]))
    return "\n".join(f"| {' | '.join(line)} |" for line in (headings, ruler, *lines))


def taken(figures: Figures) -> str:
    """When and where it was measured."""
    when = figures["taken"]
    return f"Measured on {when['date'][:10]} (`{when['commit']}`), {when['cores']} cores ({when['cpu']})."


def rollup(figures: Figures) -> str:
    """The race in short: the full table is in `results/latest.md`."""
    names = {
        "rollup": "rollup, equal work",
        "bytewax": "Bytewax, equal work",
        "quix": "Quix Streams, equal work",
        "faust_naive": "Faust as its tutorial writes it, equal work",
        "rollup_full": "rollup, its real work",
        "sink": "events sink",
    }
    lines = []
    for name, about in names.items():
        if name in figures:
            own = figures[name]
            rate = own.get("events_per_s", own.get("rows_per_s"))
            lines.append((about, f"{rate:,}", f"{own['cpu_us_per_event']:.1f}", f"{own['rss_mb']:.0f}"))
    return table(("one process, catching up", "events/s", "CPU, µs an event", "peak memory, MB"), lines)


def workers(figures: Figures) -> str:
    found = figures["workers"]
    lines = []
    for kind in ("rollup", "sink"):
        for name, run in found[kind].items():
            if not isinstance(run, Mapping):
                continue
            held = "" if name in ("1", "2") else f", each held to {found['share_of_a_core']} of a core"
            servers = sum(cpu for part, cpu in run["us_per_event"].items() if part != "workers")
            lines.append(
                (
                    f"{kind} × {name.split()[0]}{held}",
                    f"{run['events_per_s']:,}",
                    f"{run['worker_us_per_event']:.1f}",
                    f"{servers:.1f}",
                    " + ".join(f"{share:.0%}" for share in run["share_of_work"]),
                )
            )
    told = table(("", "events/s", "workers, µs an event", "servers, µs an event", "who worked"), lines)
    ratios = [
        f"{kind}: two do {found[kind]['two_to_one']:.2f} × one on these cores"
        + (
            f", {found[kind]['two_to_one_held']:.2f} × when each is held"
            if "two_to_one_held" in found[kind]
            else ""
        )
        + f"; by their CPU per event {found[kind]['two_to_one_with_cores']:.2f} × with a core for each"
        for kind in ("rollup", "sink")
    ]
    return f"{told}\n\n" + ".\n".join(ratios) + f".\n{taken(found)}"


def cardinality(figures: Figures) -> str:
    found = figures["cardinality"]
    users = [
        (
            f"{int(n):,}",
            f"{by['usage']['events_per_s']:,}",
            f"{by['usage']['cpu_us_per_event']:.1f}",
            f"{by['usage']['rss_mb']:.0f}",
        )
        for n, by in found["users"].items()
    ]
    names = ("rollup_full", "rollup", "bytewax")
    about = ("rollup, its real work", "rollup, equal work", "Bytewax, equal work")
    present = [i for i, name in enumerate(names) if any(name in by for by in found["spaces"].values())]
    spaces = [
        (f"{int(n):,}", *(f"{by[names[i]]['events_per_s']:,}" if names[i] in by else "" for i in present))
        for n, by in found["spaces"].items()
    ]
    return (
        table(("users", "usage worker, events/s", "CPU, µs an event", "peak memory, MB"), users)
        + "\n\n"
        + table(("spaces", *(f"{about[i]}, events/s" for i in present)), spaces)
        + f"\n\n{_ratio(found)} {taken(found)}"
    )


def _ratio(found: Figures) -> str:
    rates = [by["usage"]["events_per_s"] for by in found["users"].values()]
    return (
        f"With the most users the usage worker does {rates[-1] / rates[0]:.2f} × what it does with the least."
    )


def restart(figures: Figures) -> str:
    found = figures["restart"]
    lines = [
        (
            kind,
            f"{found[kind]['blocks']:,}",
            f"{found[kind]['state_mb']:,.0f}",
            f"{found[kind]['seconds']:.1f}",
            f"{found[kind]['cpu_seconds']:.1f}",
            f"{found[kind]['after_kill_seconds']:.1f}",
            f"{found[kind]['rss_mb']:,.0f}",
        )
        for kind in ("rollup", "usage")
    ]
    headings = ("", "blocks", "state, MB", "restart, s", "of it CPU, s", "after SIGKILL, s", "memory, MB")
    return (
        table(headings, lines)
        + f"\n\n{found['minutes']:,} minutes of {found['rate']:,} events a second, {found['users']:,} users "
        f"and {found['spaces']} spaces active in each. {taken(found)}"
    )


def latency(figures: Figures) -> str:
    found = figures["latency"]
    names = {
        "chat.windows": "`chat.windows`, its second",
        "chat.windows minutes": "`chat.windows`, its minute",
        "chat.usage minutes": "`chat.usage`, its minute",
        "clickhouse events": "ClickHouse, its row",
        "clickhouse open minutes": "ClickHouse, its open minute",
    }
    lines = []
    for rate, by in _rates(found):
        for name, about in names.items():
            q = by[name]
            lines.append((f"{int(rate):,}/s", about, *(f"{q[p]:,.0f}" for p in ("p50", "p95", "p99"))))
        if closed := by["clickhouse closed minute"]:
            lines.append(
                (
                    f"{int(rate):,}/s",
                    "ClickHouse, a closed minute: at most, after its end",
                    "",
                    "",
                    f"{closed['max']:,.0f}",
                )
            )
    body = table(("events", "from a service to", "p50, ms", "p95, ms", "p99, ms"), lines)
    return f"{body}\n\n{taken(found)}"


def changelog(figures: Figures) -> str:
    found = figures["changelog"]
    rates = _rates(found)
    kinds: dict[str, None] = {}
    for _, by in rates:
        kinds |= dict.fromkeys(by["by"])
    most = sorted(kinds, key=lambda kind: -max(by["by"].get(kind, 0.0) for _, by in rates))
    lines = [
        ("**all**", *(f"**{by['bytes_per_event']:,.1f}**" for _, by in rates)),
        *((kind, *(f"{by['by'].get(kind, 0.0):,.1f}" for _, by in rates)) for kind in most),
    ]
    lines.append(("MB a minute", *(f"{by['mb_per_minute']:,.1f}" for _, by in rates)))
    lines.append(("blocks a second", *(f"{by['blocks_per_s']:,.0f}" for _, by in rates)))
    return (
        table(("bytes an event", *(f"{int(rate):,}/s" for rate, _ in rates)), lines) + f"\n\n{taken(found)}"
    )


def cpu(figures: Figures) -> str:
    found = figures["cpu"]
    rates = _rates(found)
    parts = list(rates[0][1])
    lines = [
        (part, *(f"{by[part]['cores']:.2f} ({by[part]['us_per_event']:,.1f} µs)" for _, by in rates))
        for part in parts
    ]
    total = [sum(by[part]["cores"] for part in parts) for _, by in rates]
    lines.append(
        (
            "all",
            *(
                f"{cores:.2f} ({cores / int(rate) * 1e6:,.1f} µs)"
                for (rate, _), cores in zip(rates, total, strict=True)
            ),
        )
    )
    return (
        table(("cores (CPU an event)", *(f"{int(rate):,}/s" for rate, _ in rates)), lines)
        + f"\n\n{taken(found)}"
    )


def profile(figures: Figures) -> str:
    found = figures["profile"]
    about = {"rollup_full": "rollup", "usage": "usage", "sink": "events sink"}
    kinds: dict[str, None] = {}
    for name in about:
        kinds |= dict.fromkeys(found[name]["shares"])
    most = sorted(kinds, key=lambda kind: -max(found[name]["shares"].get(kind, 0.0) for name in about))
    lines = [
        (
            kind,
            *(
                f"{found[name]['shares'][kind]:.0%}" if kind in found[name]["shares"] else ""
                for name in about
            ),
        )
        for kind in most
    ]
    return table(("share of its time", *about.values()), lines) + f"\n\n{taken(found)}"


def soak(figures: Figures) -> str:
    found = figures["soak"]
    lines = [
        (part, f"{m['from_mb']:,.0f}", f"{m['to_mb']:,.0f}", f"{m['change']:+.1%}", f"{m['peak_mb']:,.0f}")
        for part, m in found["memory"].items()
    ]
    body = table(("", "after warming up, MB", "at the end, MB", "change", "peak, MB"), lines)
    return f"{body}\n\n{found['minutes']:g} minutes at {found['rate']:,} events a second. {taken(found)}"


def alerting(figures: Figures) -> str:
    found = figures["alerting"]
    stages = found["stages"]
    lines = [
        ("the alert on `chat.alerts`", f"{stages['judged']:,.0f}", "", ""),
        ("the last notification on `chat.notifications`", f"{stages['planned']:,.0f}", "", ""),
        ("a webhook's receipt", *(f"{found[name]:,.0f}" for name in ("p50", "p95", "p99"))),
    ]
    body = table(("from the closing of the pane to", "p50, ms", "p95, ms", "p99, ms"), lines)
    return (
        f"{body}\n\n{found['rounds']} alerts, each told to {found['endpoints']} endpoints, of which one "
        f"refuses connections and one answers after 20 s; {found['receipts']:,} receipts of the others. "
        f"{taken(found)}"
    )


def cluster(figures: Figures) -> str:
    """What N partitions hold, with a worker of each kind for each: the arithmetic, and a table."""
    load = figures["load"]
    own = {
        "rollup": figures["rollup_full"]["cpu_us_per_event"],
        "usage": figures["cardinality"]["users"]["10000"]["usage"]["cpu_us_per_event"],
        "sink": figures["sink"]["cpu_us_per_event"],
    }
    sunk = figures["workers"]["sink"]["1"]["us_per_event"]
    servers = sum(cpu for part, cpu in sunk.items() if part != "workers")
    slowest = max(own, key=lambda part: own[part])
    most = 1e6 / own[slowest]
    half = round(most / 2, -3)
    state_mb = sum(figures["restart"][kind]["state_mb"] for kind in ("rollup", "usage")) / PARTITIONS
    log_mb = figures["changelog"]["20000"]["mb_per_minute"] / 60 / PARTITIONS
    lines = []
    for partitions in CLUSTERS:
        rate = half * partitions
        lines.append(
            (
                f"{partitions}",
                f"{rate:,.0f}",
                f"{rate * 86_400 / 1e9:,.1f}",
                f"{rate * sum(own.values()) / 1e6:,.0f}",
                f"{rate * servers / 1e6:,.0f}",
                f"{log_mb * partitions:,.1f}",
                f"{rate * load['value_bytes'] * 7 * 86_400 / 1e12:,.1f}",
                f"{state_mb * partitions / 1024:,.1f}",
            )
        )
    each = ", ".join(f"{part} {cpu:.1f} µs or {1e6 / cpu:,.0f} events/s" for part, cpu in own.items())
    headings = (
        *("partitions", "events/s", "billions a day", "cores, workers and sinks", "cores, servers"),
        *("changelog, MB/s", "`chat.requests` for a week, TB", "state of a day, GB"),
    )
    return (
        f"A process works on one core. Per event and process: {each}. A partition is read by one process of "
        f"each kind, so the slowest, {slowest}, bounds it: {most:,.0f} events/s. At half of that, "
        f"{half:,.0f} events/s, what piled up in a pause is worked off in the time that the pause took. "
        f"Kafka and ClickHouse take {servers:.1f} µs an event, copies not counted.\n\n"
        + table(headings, lines)
    )


def _rates(found: Figures) -> list[tuple[str, Any]]:
    return [(rate, by) for rate, by in found.items() if rate != "taken"]


SECTIONS: Mapping[str, Callable[[Figures], str]] = {
    "rollup": rollup,
    "workers": workers,
    "cardinality": cardinality,
    "restart": restart,
    "latency": latency,
    "changelog": changelog,
    "cpu": cpu,
    "alerting": alerting,
    "profile": profile,
    "soak": soak,
    "cluster": cluster,
}
_NEEDED = {"cluster": ("rollup_full", "sink", "load", "workers", "cardinality", "restart", "changelog")}


def section(name: str, figures: Figures) -> str:
    """The part as Markdown; a sentence, where it was not measured yet."""
    make = SECTIONS[name]
    measured = all(needed in figures for needed in _NEEDED.get(name, (name,)))
    return make(figures) if measured else "Not measured yet."

"""`python -m bench.pictures results/latest.json`: a picture of each part, as SVG, beside the figures.

Runs in the peers' environment, which has matplotlib; the standard library and that alone.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

Figures = Mapping[str, Any]

BLUE, ORANGE, GREEN, RED, PURPLE, BROWN, GREY = (
    *("#2f6db5", "#d9822b", "#3c9a5f", "#b5443c", "#7d5ba6", "#8c6d46", "#8a8f98"),
)
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, BROWN, GREY)
PARTS = {"rollup": BLUE, "usage": ORANGE, "sink": GREEN, "clickhouse": RED, "kafka": GREY}

mpl.rcParams.update(
    {
        "svg.hashsalt": "chatgauge",  # the same figures make the same file
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 11,
        "axes.titlelocation": "left",
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": "#e3e5e8",
        "legend.frameon": False,
        "figure.facecolor": "white",
        "figure.constrained_layout.use": True,
    }
)


def thousands(axis: Any) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def bars(
    axes: Axes, labels: Sequence[str], values: Sequence[float], colours: Sequence[str], form: str
) -> None:
    """One bar a label, with its value on top."""
    drawn = axes.bar(range(len(labels)), values, color=colours, width=0.65)
    axes.bar_label(drawn, [format(value, form) for value in values], padding=2, fontsize=9)
    axes.set_xticks(range(len(labels)), labels)
    axes.margins(y=0.15)


def race(found: Figures) -> Figure:
    names = {
        "rollup": "rollup,\nequal work",
        "bytewax": "Bytewax",
        "quix": "Quix\nStreams",
        "faust_naive": "Faust,\ntutorial",
        "rollup_full": "rollup,\nreal work",
        "sink": "events\nsink",
    }
    there = [name for name in names if name in found]
    figure, axes = plt.subplots(figsize=(8, 4))
    rates = [found[name].get("events_per_s", found[name].get("rows_per_s")) for name in there]
    ours = {"rollup": BLUE, "rollup_full": BLUE, "sink": GREEN}
    bars(axes, [names[name] for name in there], rates, [ours.get(name, GREY) for name in there], ",.0f")
    thousands(axes.yaxis)
    axes.set_ylabel("events a second")
    axes.set_title("One process, catching up (left four: equal work)")
    return figure


def workers(found: Figures) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2))
    labels, rates, cpu, colours = [], [], [], []
    for kind in ("rollup", "sink"):
        for name, run in found[kind].items():
            if isinstance(run, Mapping):
                held = "" if name in ("1", "2") else f"\n{found['share_of_a_core']} core\neach"
                labels.append(f"{kind}\n× {name.split()[0]}{held}")
                rates.append(run["events_per_s"])
                cpu.append(run["us_per_event"])
                colours.append(PARTS[kind] if not held else "#9db8da" if kind == "rollup" else "#a3d0b4")
    bars(left, labels, rates, colours, ",.0f")
    for text in left.texts:
        text.set_fontsize(7)
    thousands(left.yaxis)
    left.set_ylabel("events a second")
    left.set_title("Throughput, one worker and two")
    bottom = [0.0] * len(labels)
    for part, colour in (("workers", BLUE), ("kafka", GREY), ("clickhouse", RED)):
        values = [own.get(part, 0.0) for own in cpu]
        right.bar(range(len(labels)), values, bottom=bottom, color=colour, width=0.65, label=part)
        bottom = [low + value for low, value in zip(bottom, values, strict=True)]
    right.set_xticks(range(len(labels)), labels)
    right.set_ylabel("µs of CPU an event")
    right.set_title("CPU per event, by part")
    right.legend(ncols=3, loc="upper left")
    right.margins(y=0.2)
    for axes in (left, right):
        axes.tick_params(axis="x", labelsize=8)
    return figure


def cardinality(found: Figures) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    users = [int(n) for n in found["users"]]
    left.plot(users, [by["usage"]["events_per_s"] for by in found["users"].values()], "o-", color=ORANGE)
    left.set_xlabel("active users")
    left.set_ylabel("events a second")
    left.set_title("Usage worker, by users")
    spaces = [int(n) for n in found["spaces"]]
    names = {
        "rollup_full": ("rollup, real work", BLUE),
        "rollup": ("rollup, equal work", GREEN),
        "bytewax": ("Bytewax, equal work", GREY),
    }
    for name, (label, colour) in names.items():
        if all(name in by for by in found["spaces"].values()):
            rates = [by[name]["events_per_s"] for by in found["spaces"].values()]
            right.plot(spaces, rates, "o-", color=colour, label=label)
    right.set_xlabel("active spaces")
    right.set_title("Rollup, by spaces")
    right.legend(loc="lower left")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        thousands(axes.xaxis)
        thousands(axes.yaxis)
        axes.tick_params(labelleft=True)
    return figure


def restart(found: Figures) -> Figure:
    figure, axes = plt.subplots(figsize=(7, 3.6))
    labels, values, colours = [], [], []
    for kind in ("rollup", "usage"):
        labels += [f"{kind},\ntold to stop", f"{kind},\nafter SIGKILL"]
        values += [found[kind]["seconds"], found[kind]["after_kill_seconds"]]
        colours += [PARTS[kind]] * 2
    bars(axes, labels, values, colours, ".1f")
    axes.axhline(20, color=RED, linewidth=1, linestyle="--")
    axes.text(len(labels) - 0.5, 20, "20 s", color=RED, va="bottom", ha="right", fontsize=9)
    axes.set_ylabel("seconds")
    axes.set_title("From start to first acknowledged step, a day of minutes behind it")
    return figure


def latency(found: Figures) -> Figure:
    names = {
        "chat.windows": "chat.windows,\nits second",
        "chat.windows minutes": "chat.windows,\nits minute",
        "chat.usage minutes": "chat.usage,\nits minute",
        "clickhouse events": "ClickHouse,\nits row",
        "clickhouse open minutes": "ClickHouse,\nopen minute",
    }
    rates = [rate for rate in found if rate != "taken"]
    figure, axes = plt.subplots(figsize=(10, 4.4))
    width = 0.8 / len(rates)
    for i, rate in enumerate(rates):
        places = [place + (i - (len(rates) - 1) / 2) * width for place in range(len(names))]
        for place, name in zip(places, names, strict=True):
            q = found[rate][name]
            first = name == next(iter(names))
            label = f"{int(rate):,} events/s" if first else None
            axes.bar(place, q["p95"], width * 0.9, color=COLOURS[i], label=label)
            axes.plot([place] * 2, [q["p50"], q["p99"]], color="#222", linewidth=1, marker="_", markersize=7)
            axes.annotate(
                f"{q['p95']:,.0f}",
                (place, q["p99"]),
                (0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
    axes.axhline(150, color=RED, linewidth=1, linestyle="--")
    axes.text(-0.48, 155, "150 ms", color=RED, va="bottom", fontsize=8)
    axes.set_yscale("log")
    axes.set_xticks(range(len(names)), names.values())
    thousands(axes.yaxis)
    axes.set_ylabel("milliseconds")
    axes.set_title("From an event to where it is counted: p95 (bar, figure), p50 and p99 (ticks)")
    axes.legend()
    return figure


def changelog(found: Figures) -> Figure:
    rates = [rate for rate in found if rate != "taken"]
    kinds: dict[str, None] = {}
    for rate in rates:
        kinds |= dict.fromkeys(found[rate]["by"])
    order = sorted(kinds, key=lambda kind: -max(found[rate]["by"].get(kind, 0.0) for rate in rates))
    shown, others = order[:6], order[6:]
    figure, panels = plt.subplots(1, len(rates), figsize=(10, 4.4), squeeze=False)
    for axes, rate in zip(panels[0], rates, strict=True):
        by = found[rate]["by"]
        low = 0.0
        for kind, colour in zip((*shown, "others"), COLOURS, strict=False):
            value = sum(by.get(one, 0.0) for one in (others if kind == "others" else [kind]))
            axes.bar([0], [value], bottom=[low], color=colour, width=0.5, label=kind)
            low += value
        axes.annotate(f"{low:,.0f}", (0, low), (0, 3), textcoords="offset points", ha="center")
        axes.set_xlim(-0.6, 0.6)
        axes.set_xticks([0], [f"{int(rate):,} events/s"])
        thousands(axes.yaxis)
    panels[0][0].set_ylabel("bytes an event")
    panels[0][0].set_title("Changelog (each rate with a scale of its own)")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def profile(found: Figures) -> Figure:
    about = {"rollup_full": "rollup", "usage": "usage", "sink": "events sink"}
    kinds: dict[str, None] = {}
    for name in about:
        kinds |= dict.fromkeys(found[name]["shares"])
    figure, axes = plt.subplots(figsize=(10, 3.8))
    left = [0.0] * len(about)
    palette = mpl.colormaps["tab20"].colors
    for kind, colour in zip(kinds, palette, strict=False):
        values = [100 * found[name]["shares"].get(kind, 0.0) for name in about]
        drawn = axes.barh(list(about.values()), values, left=left, color=colour, label=kind)
        axes.bar_label(
            drawn, [f"{value:.0f}" if value >= 4 else "" for value in values], label_type="center", fontsize=8
        )
        left = [low + value for low, value in zip(left, values, strict=True)]
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set_xlabel("% of its time")
    axes.set_title("Where the time goes, catching up")
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def soak(found: Figures) -> Figure:
    figure, axes = plt.subplots(figsize=(9, 4.2))
    samples = found["samples"]
    for part, colour in PARTS.items():
        if part in samples:
            axes.plot(samples["minute"], samples[part], color=colour, label=part)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("minutes")
    axes.set_ylabel("resident memory, MB")
    thousands(axes.yaxis)
    axes.set_title(f"Memory at {found['rate']:,} events a second")
    axes.legend(ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    return figure


PICTURES: Mapping[str, Callable[[Figures], Figure]] = {
    "workers": workers,
    "cardinality": cardinality,
    "restart": restart,
    "latency": latency,
    "changelog": changelog,
    "profile": profile,
    "soak": soak,
}


def draw(found: Figures, into: Path) -> list[Path]:
    """Every part that was measured; returns the files."""
    drawn = []
    todo = {"race": (race, found)} if "load" in found else {}
    todo |= {name: (picture, found[name]) for name, picture in PICTURES.items() if name in found}
    for name, (picture, own) in todo.items():
        figure = picture(own)
        file = into / f"{name}.svg"
        figure.savefig(file, metadata={"Date": None})
        plt.close(figure)
        drawn.append(file)
    return drawn


def main() -> None:
    file = Path(sys.argv[1])
    draw(json.loads(file.read_text()), file.parent)


if __name__ == "__main__":
    main()

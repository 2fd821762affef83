"""`chatgauge doctor`: what is well here, what is not, and what to do about it."""

import asyncio
import logging

import typer
from rich.console import Console
from rich.text import Text

from cli import checks
from cli.checks import Verdict


def doctor() -> None:
    """Check everything that Chatgauge depends on; the exit code is 1 when something is wrong."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    faults = asyncio.run(_examine(Console()))
    if faults:
        raise typer.Exit(1)


async def _examine(console: Console) -> int:
    faults = 0
    for check in (*checks.ALL, *checks.parts(), checks.api, checks.lag):
        verdict = await check()
        faults += not verdict.ok and not verdict.skipped
        console.print(_line(verdict), soft_wrap=True)
    console.print(Text("all is well" if not faults else f"{faults} of these need attention", style="bold"))
    return faults


def _line(verdict: Verdict) -> Text:
    word, style = (
        ("ok", "green") if verdict.ok else ("skipped", "dim") if verdict.skipped else ("FAULT", "red")
    )
    line = Text.assemble((f"{word:<8}", style), f"{verdict.name:<16}", verdict.found)
    if not verdict.ok and verdict.remedy:
        line.append(f" — {verdict.remedy}", style="bold")
    return line

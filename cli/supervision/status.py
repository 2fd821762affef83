"""How the running parts do, as the API tells it."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

_EVENTS = "chatgauge_stream_events_total"
_DEAD_LETTERS = "chatgauge_dead_letters_published_total"


@dataclass(frozen=True)
class Status:
    """`lag` counts records not yet worked off; `events_per_s` is None until there are two looks."""

    ready: bool
    awaiting: tuple[str, ...]
    lag: int
    events: int
    events_per_s: float | None
    dead_letters: int

    @property
    def line(self) -> str:
        rate = "—" if self.events_per_s is None else f"{self.events_per_s:,.0f}"
        text = f"{rate} events/s · {self.lag:,} behind · {self.dead_letters:,} dead letters"
        return text if self.ready else f"{text} · not ready: {'; '.join(self.awaiting[:2])}"


class StatusReader:
    """Asks the API again and again; None while it does not answer."""

    def __init__(self, address: str) -> None:
        self._client = httpx.AsyncClient(base_url=address, timeout=5.0, trust_env=False)
        self._last: tuple[float, float] | None = None

    async def read(self) -> Status | None:
        try:
            health = (await self._client.get("/health/ready")).json()
            exposition = (await self._client.get("/metrics")).text
            metrics = list(text_string_to_metric_families(exposition))
        except (httpx.HTTPError, ValueError):
            return None
        events = _sum(metrics, _EVENTS, {"part": "rollup"})
        return Status(
            ready=health.get("status") == "ready",
            awaiting=tuple(health.get("awaiting", ())),
            lag=sum(check.get("lag") or 0 for check in health.get("checks", ())),
            events=int(events),
            events_per_s=self._rate(events),
            dead_letters=int(_sum(metrics, _DEAD_LETTERS, {})),
        )

    def _rate(self, events: float) -> float | None:
        now, before = time.monotonic(), self._last
        self._last = (now, events)
        if before is None or events < before[1]:  # the worker was started again
            return None
        return (events - before[1]) / (now - before[0])

    async def close(self) -> None:
        await self._client.aclose()


def _sum(families: Iterable[Metric], sample: str, labels: dict[str, str]) -> float:
    return sum(
        (
            one.value
            for family in families
            for one in family.samples
            if one.name == sample and labels.items() <= one.labels.items()
        ),
        0.0,
    )

"""Who runs, and in which environment."""

from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Entrant:
    """One contender."""

    name: str
    """Also its key in the results."""
    about: str
    peer: bool = False
    """Runs in the peers' environment."""
    short: bool = False
    """Runs over the short load."""
    unit: str = "events_per_s"
    windows: bool = True
    """Hands in windows, to be held against the recomputation."""
    by_user: bool = False
    """Its windows go by user, not by space."""
    equal_work: bool = True
    module: str = ""
    """In `bench.contenders`, where it isn't the name."""
    checkout: Path | None = None
    """Where another version of the product is installed, whose contender it is."""

    def before(self, checkout: Path) -> "Entrant":
        """The same of another version."""
        return replace(
            self,
            name=f"{self.name}_before",
            about=f"{self.about}, before",
            module=self.module or self.name,
            checkout=checkout,
        )


ENTRANTS = (
    Entrant("rollup", "Chatgauge's rollup, equal work"),
    Entrant("bytewax", "Bytewax", peer=True),
    Entrant("quix", "Quix Streams", peer=True),
    Entrant("faust_naive", "Faust as its tutorial writes it", short=True),
    Entrant("rollup_full", "Chatgauge's rollup, its real work", equal_work=False),
    Entrant("sink", "Chatgauge's events sink", unit="rows_per_s", windows=False, equal_work=False),
)
USAGE = Entrant("usage", "Chatgauge's usage worker", by_user=True, equal_work=False)
"""Runs where many users are; nobody else does what it does."""

BY_NAME = {entrant.name: entrant for entrant in (*ENTRANTS, USAGE)}

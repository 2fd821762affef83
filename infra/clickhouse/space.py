"""Room on the disk: what the embedded engine doesn't survive is running out of it while it merges.

A merge that meets a full disk leaves a part with empty files, which the engine takes for whole; the parts
that it was made from are gone soon after. So merging ends, and inserting is refused, while there is still
room for what has begun.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from infra.clickhouse.errors import NOT_ENOUGH_SPACE, ClickHouseError

log = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 0.25
_ENDING_S: Final = 0.02
_AGAIN_ABOVE: Final = 1.25
"""How many times the reserve must be free before all goes on."""


class Space:
    """Watches the disk that `data` lies on; `reserve` bytes of it are kept free.

    `ask` executes a statement and gives its result.
    """

    def __init__(self, data: Path, reserve: int, ask: Callable[[str], Awaitable[str]]) -> None:
        self._data = data
        self._reserve = reserve
        self._ask = ask
        self._short = False

    def require(self) -> None:
        """Raises ClickHouseError NOT_ENOUGH_SPACE while there is too little room to insert."""
        free = self._free()
        if self._short or free < self._reserve:
            raise ClickHouseError.of(
                NOT_ENOUGH_SPACE,
                f"Cannot insert: {free // 2**20} MiB are free on the disk of {self._data}, and "
                f"{self._reserve // 2**20} MiB are kept for what has begun: free some space",
            )

    async def watch(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def look(self) -> None:
        """Stop merging when there is too little room, and begin again when there is enough."""
        free = self._free()
        if not self._short and free < self._reserve:
            self._short = True
            await self._ask("SYSTEM STOP MERGES")
            while await self._ask("SELECT count() FROM system.merges") != "0":  # noqa: ASYNC110
                await asyncio.sleep(_ENDING_S)
            log.error(
                "only %d MiB are free: nothing is merged or inserted until there is more", free // 2**20
            )
        elif self._short and free > self._reserve * _AGAIN_ABOVE:
            await self._ask("SYSTEM START MERGES")
            self._short = False
            log.warning("%d MiB are free: merging and inserting go on", free // 2**20)

    def _free(self) -> int:
        disk = os.statvfs(self._data)
        return disk.f_bavail * disk.f_frsize

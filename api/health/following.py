"""What the API reads, as units of its liveness."""

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

from infra.liveness import Part

_EVERY_S: Final = 0.5


class Reading(Protocol):
    """What reads Kafka on and on."""

    @property
    def failure(self) -> str | None:
        """Why it is not reading; None while it is."""


async def declare_waits(part: Part, readings: Mapping[str, Reading]) -> None:
    """Declares of each what it waits for, until cancelled."""
    while True:
        for name, reading in readings.items():
            unit = part.unit(name)
            unit.wait_for(reading.failure)
            if reading.failure is None:
                unit.started()
        await asyncio.sleep(_EVERY_S)

"""The worker as a process: started, killed, stopped."""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from infra.process import Child

_CHECKOUT = Path(__file__).parents[4]
_COMMAND = (sys.executable, "-m", "cli.main", "worker", "deliveries", "--metrics-port", "0")


class Worker:
    """`chatgauge worker deliveries`, with a schedule of short waits."""

    def __init__(
        self, bootstrap: str, partitions: int, data: Path, waits_s: Sequence[float], **settings: str
    ) -> None:
        self._child = Child(
            "deliveries",
            _COMMAND,
            data / "deliveries.log",
            {
                "CHATGAUGE_KAFKA_BOOTSTRAP": bootstrap,
                "CHATGAUGE_KAFKA_PARTITIONS": str(partitions),
                "CHATGAUGE_DATA": str(data),
                "CHATGAUGE_DELIVERY_ALLOW": json.dumps(["127.0.0.1"]),
                "CHATGAUGE_DELIVERY_SCHEDULE": json.dumps([f"PT{wait:g}S" for wait in waits_s]),
                "PYTHONPATH": str(_CHECKOUT),
                **settings,
            },
        )
        self.kills: list[float] = []
        """When it was killed, in seconds since 1970."""

    def start(self) -> None:
        """Start it; call it from the main thread."""
        self._child.start()

    async def kill(self) -> None:
        """SIGKILL."""
        self._child.kill()
        self.kills.append(time.time())
        await asyncio.to_thread(self._child.stop)

    def stop(self) -> int | None:
        """Ask it to stop; returns its exit status."""
        self._child.stop(30)
        return self._child.returncode

    @property
    def ended(self) -> str | None:
        """What it said last, if it has ended by itself."""
        return None if self._child.running else self._child.tail(40)

    def tail(self) -> str:
        """What it said last."""
        return self._child.tail(40)

"""What the local servers have in common: a child process with a directory, started, awaited and stopped."""

import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from infra.errors import DiskFullError, StartFailedError
from infra.process import Child


class LocalServer(ABC):
    """A server as a child process, with its data under `data` (kept between runs).

    `start()` blocks until it answers; `launch()` and `wait_ready()` are its halves, for a caller that
    has other things to do meanwhile.
    """

    name: ClassVar[str]
    least_free: ClassVar[int]
    """Bytes of disk without which it isn't started."""

    def __init__(self, data: Path) -> None:
        self.data = data.absolute()
        self._child: Child | None = None

    @abstractmethod
    def prepare(self) -> Child:
        """Check what it needs, and return the process, also kept in `_child`: what is left is to start it."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it serves clients."""

    @property
    def process(self) -> Child:
        if self._child is None:
            raise StartFailedError(f"{self.name} has not been launched")
        return self._child

    def start(self, timeout: float = 60.0) -> None:
        """Start it and wait until it serves; leaves nothing running when that fails."""
        self.launch()
        try:
            self.wait_ready(timeout)
        except BaseException:
            self.stop()
            raise

    def launch(self) -> None:
        """Start the process, without waiting for it to serve."""
        self.prepare().start()

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Block until it serves clients."""
        self.process.wait_until(self.answers, timeout)

    def stop(self, grace: float = 20.0) -> None:
        """Stop it; what it has acknowledged is on disk."""
        if self._child is not None:
            self._child.stop(grace)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _require_space(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        free, wanted = shutil.disk_usage(self.data).free, self.least_free
        if free < wanted:
            raise DiskFullError(
                f"{self.data} has {free // 2**20} MB left and {self.name} wants {wanted // 2**20} MB: "
                "free some space, or choose another disk with --data"
            )

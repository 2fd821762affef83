"""The embedded ClickHouse as a child process."""

import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import SecretStr

from infra.errors import DiskFullError, StartFailedError
from infra.ports import require_free
from infra.process import Child
from infra.settings import ClickHouseSettings

_CHECKOUT = Path(__file__).parents[2]
_LEAST_FREE = 512 * 1024 * 1024


class LocalClickHouse:
    """`python -m infra.clickhouse` on 127.0.0.1, with its data under `data` (kept between runs).

    `options` are further arguments of that command, such as `--memory`.
    """

    def __init__(
        self,
        data: Path,
        *,
        port: int,
        user: str = "default",
        password: str = "",
        database: str = "chatgauge",
        log: Path | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.data = data.absolute()
        self.settings = ClickHouseSettings(
            host="127.0.0.1",
            port=port,
            user=user,
            password=SecretStr(password),
            database=database,
            secure=False,
        )
        self._log = log or self.data.parent / "clickhouse.log"
        self._options = tuple(options)
        self._child: Child | None = None

    @property
    def process(self) -> Child:
        if self._child is None:
            raise StartFailedError("ClickHouse has not been launched")
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

    def prepare(self) -> Child:
        """Check what it needs: what is left is to start it."""
        port = self.settings.port
        require_free(port, "set CHATGAUGE_CLICKHOUSE_PORT (or --clickhouse-port) to another port")
        self.data.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.data).free
        if free < _LEAST_FREE:
            raise DiskFullError(
                f"{self.data} has {free // 2**20} MB left and ClickHouse wants {_LEAST_FREE // 2**20} MB: "
                "free some space, or choose another disk with --data"
            )
        self._child = Child(
            "ClickHouse",
            [
                sys.executable,
                "-m",
                "infra.clickhouse",
                "--data",
                str(self.data),
                "--port",
                str(port),
                *self._options,
            ],
            self._log,
            env={
                "PYTHONPATH": str(_CHECKOUT),
                # By the environment, not as arguments: every user of the machine can read those.
                "CHATGAUGE_CLICKHOUSE_USER": self.settings.user,
                "CHATGAUGE_CLICKHOUSE_PASSWORD": self.settings.password.get_secret_value(),
            },
        )
        return self._child

    def wait_ready(self, timeout: float = 60.0) -> None:
        self.process.wait_until(self.answers, timeout)

    def answers(self) -> bool:
        """Whether it serves clients."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.settings.port}/ping", timeout=5) as pong:
                return bool(pong.status == 200)
        except (urllib.error.URLError, OSError):
            return False

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

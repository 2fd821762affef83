"""The embedded ClickHouse as a child process."""

import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from pydantic import SecretStr

from infra.local_server import LocalServer
from infra.ports import require_free
from infra.process import Child
from infra.settings import ClickHouseSettings

_CHECKOUT = Path(__file__).parents[2]


class LocalClickHouse(LocalServer):
    """`python -m infra.clickhouse` on 127.0.0.1; `options` are further arguments, such as `--memory`."""

    name = "ClickHouse"
    least_free = 512 * 1024 * 1024

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
        super().__init__(data)
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

    def prepare(self) -> Child:
        """Check what it needs: what is left is to start it."""
        port = self.settings.port
        require_free(port, "set CHATGAUGE_CLICKHOUSE_PORT (or --clickhouse-port) to another port")
        self._require_space()
        self._child = Child(
            "ClickHouse",
            [
                sys.executable,
                "-P",  # what is in the working directory is none of ours
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

    def answers(self) -> bool:
        """Whether it serves clients."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.settings.port}/ping", timeout=5) as pong:
                return bool(pong.status == 200)
        except (urllib.error.URLError, OSError):
            return False

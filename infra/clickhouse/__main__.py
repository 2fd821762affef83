"""`python -m infra.clickhouse --data DIR --port N`: the embedded ClickHouse as a process of its own.

User and password are CHATGAUGE_CLICKHOUSE_USER and CHATGAUGE_CLICKHOUSE_PASSWORD.
"""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

import uvicorn

from infra import logs
from infra.clickhouse.access import Credentials
from infra.clickhouse.app import create_app
from infra.clickhouse.engine import Engine
from infra.settings import ClickHouseSettings

_MB = 1024 * 1024
_SHUTDOWN_WITHIN = 10
_LONGEST_URI = 1024 * 1024


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.clickhouse", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="directory of the data")
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument(
        "--memory", type=int, default=2048, metavar="MB", help="most that queries hold together"
    )
    parser.add_argument("--largest-request", type=int, default=1024, metavar="MB")
    parser.add_argument(
        "--reserve", type=int, default=128, metavar="MB", help="what is kept free on the disk of the data"
    )
    return parser.parse_args()


def main() -> None:
    arguments = _arguments()
    logs.begin()
    settings = ClickHouseSettings()
    arguments.data.mkdir(parents=True, exist_ok=True)

    def open_engine() -> Engine:
        try:
            return Engine(arguments.data, arguments.memory * _MB)
        except RuntimeError as error:
            sys.exit(f"ClickHouse cannot open {arguments.data}: {error}")

    app = create_app(
        open_engine,
        Credentials(settings.user, settings.password.get_secret_value()),
        largest_request=arguments.largest_request * _MB,
        reserve=arguments.reserve * _MB,
    )
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=arguments.host,
            port=arguments.port,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=5,
            h11_max_incomplete_event_size=_LONGEST_URI,
        )
    )
    # The server raises the signal again when it has stopped: an end by request is not a failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _end_in(_SHUTDOWN_WITHIN))
    server.run()
    sys.exit(0 if server.started else 1)


def _end_in(seconds: float) -> None:
    """A query that does not let itself be stopped must not keep the process."""
    watchdog = threading.Timer(seconds, os._exit, (1,))
    watchdog.daemon = True
    watchdog.start()


if __name__ == "__main__":
    main()

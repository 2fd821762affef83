"""The API as a process."""

import logging
import signal
import socket
from typing import Final

import uvicorn
from prometheus_client import disable_created_metrics

from api.composition import build
from infra import logs
from infra.liveness import Part, attended, reason_of
from infra.settings import ApiSettings, ClickHouseSettings, KafkaSettings, WindowSettings

_GRACE: Final = 5
"""Seconds that answers in flight get when the process is told to stop."""


def run(
    api: ApiSettings | None = None,
    kafka: KafkaSettings | None = None,
    clickhouse: ClickHouseSettings | None = None,
    windows: WindowSettings | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then return. Settings default to the environment's.

    Raises SystemExit when the port can't be had. When a task that it needs ends, the process does, with the
    reason as the last line of the log.
    """
    api = api or ApiSettings()
    logs.begin()
    # aiokafka warns of every lost connection, many times; what matters is in /health/ready.
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    disable_created_metrics()  # type: ignore[no-untyped-call]
    with attended("api", None) as part:  # it serves its health and metrics itself
        _serve(
            api,
            kafka or KafkaSettings(),
            clickhouse or ClickHouseSettings(),
            windows or WindowSettings(),
            part,
        )


def _serve(
    api: ApiSettings,
    kafka: KafkaSettings,
    clickhouse: ClickHouseSettings,
    windows: WindowSettings,
    part: Part,
) -> None:
    app = build(api, kafka, clickhouse, windows, part=part)
    config = uvicorn.Config(
        app,
        host=api.host,
        port=api.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    # uvicorn raises the signal again once it has stopped; by then there is nothing left to do.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    with _listening(api.host, api.port) as listener:
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except BaseException as error:
            part.end(reason_of(error), error)
        if not part.is_stopping:
            part.end("the server ended, and nobody had told it to")


def _listening(host: str, port: int) -> socket.socket:
    """A bound socket, before anything else is begun."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise SystemExit(
            f"The API can't listen on {host}:{port} ({error.strerror}): is the port taken? "
            "Set CHATGAUGE_API_PORT."
        ) from None
    return listener

"""`/health/live`, `/health/ready` and `/metrics` of a part, over HTTP, from a thread of its own."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http.server import ThreadingHTTPServer
from typing import Any, ClassVar, Final

from prometheus_client import REGISTRY, CollectorRegistry, MetricsHandler

from infra.liveness.part import Part, Report, State

LIVE: Final = "/health/live"
READY: Final = "/health/ready"


def document(report: Report) -> dict[str, Any]:
    """A report as both endpoints answer it."""
    return {
        "part": report.part,
        "state": report.state.value,
        "reason": report.reason,
        "starting": list(report.starting),
        "waiting": [
            {"unit": wait.unit, "for": wait.what, "seconds": round(wait.seconds, 1)}
            for wait in report.waiting
        ],
        "halted": [asdict(halt) for halt in report.halted],
        "progress": report.moves,
    }


def status_of(path: str, report: Report) -> int:
    """Live: 200 unless stalled. Ready: 200 when it runs, and nothing is halted."""
    well = report.is_ready if path == READY else report.state is not State.STALLED
    return 200 if well else 503


class _Handler(MetricsHandler):
    part: ClassVar[Part]
    timeout = 10

    def do_GET(self) -> None:  # noqa: N802 - the server's name for it
        path = self.path.partition("?")[0]
        if path in (LIVE, READY):
            report = self.part.report()
            body = json.dumps(document(report), ensure_ascii=False).encode()
            self.send_response(status_of(path, report))
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        elif path in ("/", "/metrics"):
            super().do_GET()
        else:
            self.send_error(404)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: whoever asked has gone."""


@contextmanager
def serving(part: Part, host: str, port: int, registry: CollectorRegistry = REGISTRY) -> Iterator[int]:
    """Serves meanwhile; yields the port, which is a free one when `port` is 0. Raises OSError when the
    port can't be had."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    server_class = type("Server", (_Server,), {"address_family": family})
    handler = type("Handler", (_Handler,), {"part": part, "registry": registry})
    server = server_class(address[:2], handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True, name="health")
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

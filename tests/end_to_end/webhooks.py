"""A web server that takes webhooks, and remembers them."""

import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Webhook:
    """A request as it came."""

    path: str
    id: str
    body: dict[str, Any]

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """The alerts that it tells of."""
        found: list[dict[str, Any]] = self.body["data"]["alerts"]
        return found


class Webhooks:
    """Answers every POST with 204; `with Webhooks() as server:`."""

    def __init__(self) -> None:
        self.received: list[Webhook] = []
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                received.append(Webhook(self.path, self.headers["webhook-id"], body))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def at(self, path: str) -> list[Webhook]:
        """Those that came to a path, each id once."""
        return list({hook.id: hook for hook in self.received if hook.path == path}.values())

    def __enter__(self) -> "Webhooks":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

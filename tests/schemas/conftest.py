"""A schema registry on loopback that speaks Confluent's protocol."""

import json
import threading
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from schemas.registry import SchemaRegistry


class RegistryServer(ThreadingHTTPServer):
    """Keeps what is registered; `faults` are statuses that it answers first, `asked` what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.schemas: dict[int, str] = {}
        self.subjects: dict[str, list[int]] = {}
        self.types: dict[int, str] = {}
        self.faults: deque[int] = deque()
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/apis/ccompat/v7"

    def add(self, schema: str) -> int:
        known = [number for number, text in self.schemas.items() if text == schema]
        number = known[0] if known else len(self.schemas) + 1
        self.schemas[number] = schema
        return number


class _Handler(BaseHTTPRequestHandler):
    server: RegistryServer

    def do_GET(self) -> None:
        self._serve("")

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers["Content-Length"])).decode())

    def log_message(self, *_: object) -> None:
        return

    def _serve(self, body: str) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        if self.server.faults:
            return self._answer(self.server.faults.popleft(), {"message": "out of order"})
        match self.path.removeprefix("/apis/ccompat/v7/").split("/"):
            case ["schemas", "ids", number] if int(number) in self.server.schemas:
                answer = {"schema": self.server.schemas[int(number)]}
                if int(number) in self.server.types:
                    answer["schemaType"] = self.server.types[int(number)]
                return self._answer(200, answer)
            case ["subjects", subject, "versions"]:
                schema = json.loads(body)["schema"]
                if "incompatible" in schema:
                    return self._answer(409, {"error_code": 409, "message": "Schema is incompatible"})
                number = self.server.add(schema)
                self.server.subjects.setdefault(subject, []).append(number)
                return self._answer(200, {"id": number})
            case ["subjects", subject] if subject in self.server.subjects:
                for number in self.server.subjects[subject]:
                    if self.server.schemas[number] == json.loads(body)["schema"]:
                        return self._answer(200, {"id": number, "subject": subject, "version": 1})
                return self._answer(404, {"error_code": 40403, "message": "Schema not found"})
        return self._answer(404, {"error_code": 40401, "message": "Not found."})

    def _answer(self, status: int, answer: dict[str, object]) -> None:
        payload = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


@pytest.fixture
def registry_server() -> Iterator[RegistryServer]:
    with RegistryServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def registry(registry_server: RegistryServer) -> Iterator[SchemaRegistry]:
    with SchemaRegistry(registry_server.url, sleep=lambda _: None) as client:
        yield client

"""A client of a Confluent-compatible schema registry: register, look up, get by id; all cached."""

import json
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import httpx

from schemas.contract import Schema
from schemas.errors import RegistryRejectedError, RegistryUnavailableError, UnsupportedSchemaError

_MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
_PAUSES = (0.1, 0.5, 2.0)
"""Seconds before each further attempt."""
_FORGET_UNKNOWN_AFTER = 60.0
"""Seconds for which an id that the registry didn't know is not asked for again."""
_MOST_UNKNOWN = 10_000


def subject_of(topic: str) -> str:
    """The subject under which the schema of a topic's values is registered."""
    return f"{topic}-value"


class SchemaRegistry:
    """Talks to the registry at `url`, e.g. `http://127.0.0.1:8081/apis/ccompat/v7`.

    Calls block, for at most four attempts of `timeout` seconds and the pauses between them; what the
    registry said once is kept, since ids and schemas never change. Safe to share between threads.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 5.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = httpx.Client(
            base_url=url.rstrip("/") + "/", timeout=timeout, headers={"Accept": f"{_MEDIA_TYPE}, */*;q=0.5"}
        )
        self._url = url
        self._sleep = sleep
        self._clock = clock
        self._lock = threading.Lock()
        self._schemas: dict[int, Schema] = {}
        self._ids: dict[tuple[str, bytes], int] = {}
        self._unknown: dict[int, tuple[float, str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def register(self, topic: str, schema: Schema) -> int:
        """The id of `schema` as the schema of the topic's values, registered if it wasn't.

        Raises RegistryRejectedError if the registry finds it incompatible, RegistryUnavailableError.
        """
        return self._id(f"subjects/{subject_of(topic)}/versions", topic, schema)

    def lookup(self, topic: str, schema: Schema) -> int:
        """The id of `schema`, which must be registered for the topic's values.

        Raises RegistryRejectedError if it isn't, RegistryUnavailableError.
        """
        return self._id(f"subjects/{subject_of(topic)}", topic, schema)

    def schema(self, schema_id: int) -> Schema:
        """The schema with that id. Raises RegistryRejectedError if there is none, or if it is no
        Avro record; RegistryUnavailableError."""
        known = self._schemas.get(schema_id)
        if known is not None:
            return known
        self._raise_if_unknown(schema_id)
        try:
            answer = self._ask("GET", f"schemas/ids/{schema_id}")
            if answer.get("schemaType", "AVRO") != "AVRO":
                raise RegistryRejectedError(f"is {answer['schemaType']}, not AVRO")
            found = Schema.of(json.loads(answer["schema"]))
        except (RegistryRejectedError, UnsupportedSchemaError, KeyError, TypeError, ValueError) as error:
            with self._lock:
                if len(self._unknown) >= _MOST_UNKNOWN:
                    self._unknown.clear()
                self._unknown[schema_id] = (self._clock() + _FORGET_UNKNOWN_AFTER, str(error))
            raise RegistryRejectedError(f"the registry at {self._url} has no such schema: {error}") from error
        with self._lock:
            self._schemas[schema_id] = found
        return found

    def _raise_if_unknown(self, schema_id: int) -> None:
        with self._lock:
            until, why = self._unknown.get(schema_id, (0.0, ""))
            if why and self._clock() < until:
                raise RegistryRejectedError(f"the registry at {self._url} has no such schema: {why}")
            self._unknown.pop(schema_id, None)

    def _id(self, path: str, topic: str, schema: Schema) -> int:
        key = (topic, schema.fingerprint)
        known = self._ids.get(key)
        if known is not None:
            return known
        answer = self._ask("POST", path, {"schema": json.dumps(schema.definition)})
        try:
            found = int(answer["id"])
        except (KeyError, TypeError, ValueError) as error:
            raise RegistryUnavailableError(f"{self._url} answered without an id: {answer!r}") from error
        with self._lock:
            self._ids[key] = found
        return found

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        for pause in (*_PAUSES, None):
            try:
                response = self._client.request(
                    method,
                    path,
                    content=None if body is None else json.dumps(body),
                    headers={"Content-Type": _MEDIA_TYPE},
                )
                if response.is_success:
                    answer = response.json()
                    if isinstance(answer, dict):
                        return answer
                    raise ValueError(f"answered {response.text[:200]}")
                trouble = f"{response.status_code} {_message(response)}"
                if response.status_code < 500 and response.status_code not in (401, 403, 408, 429):
                    raise RegistryRejectedError(trouble)
            except (httpx.TransportError, ValueError) as error:
                trouble = str(error) or type(error).__name__
            if pause is not None:
                self._sleep(pause)
        raise RegistryUnavailableError(
            f"the schema registry at {self._url} fails ({method} {path}: {trouble}); "
            "check CHATGAUGE_SCHEMA_REGISTRY_URL and that the registry is up"
        )


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["message"])
    except (KeyError, TypeError, ValueError):
        return response.text[:200]

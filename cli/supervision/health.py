"""What a running part says of itself, and when it is to be ended for it."""

import http.client
import json
from dataclasses import dataclass, field
from typing import Any, Final

_ANSWERED_WITHIN_S: Final = 5.0
_TOLD_AFTER_S: Final = 5.0
_SPARED_S: Final = 10.0
"""A part that is stalled ends itself; one that still answers after so long can't."""


@dataclass(frozen=True)
class Answer:
    """An answer of `/health/live`."""

    stalled: bool
    reason: str = ""
    detail: str = ""
    """What it waits for, or which partitions it has halted; empty when it runs as usual."""
    steps: int = 0
    """Grows whenever the part gets on."""


def ask(port: int, host: str = "127.0.0.1") -> Answer | None:
    """What the part on this port says; None when it does not answer. Blocks for five seconds at most."""
    connection = http.client.HTTPConnection(host, port, timeout=_ANSWERED_WITHIN_S)
    try:
        connection.request("GET", "/health/live")
        response = connection.getresponse()
        return answer_of(response.status, json.loads(response.read()))
    except (OSError, http.client.HTTPException, ValueError, TypeError, KeyError):
        return None
    finally:
        connection.close()


def answer_of(status: int, document: dict[str, Any]) -> Answer:
    """An answer by its status and body. Raises KeyError or TypeError for a body of another kind."""
    waits = [f"for {wait['for']}" for wait in document["waiting"] if wait["seconds"] >= _TOLD_AFTER_S]
    halts = [f"{halt['unit']}/{halt['partition']}: {halt['why']}" for halt in document.get("halted", ())]
    told = [f"waiting {waits[0]}"] if waits else []
    told += [f"halted: {halts[0]}" + (f" (and {len(halts) - 1} more)" if halts[1:] else "")] if halts else []
    return Answer(
        status != http.HTTPStatus.OK, document["reason"] or "", "; ".join(told), document["progress"]
    )


@dataclass
class Vigil:
    """Judges the answers of one process, pure: `now` in seconds of any clock.

    `silent_within` is how long it may give none.
    """

    silent_within: float
    began: float
    _heard_at: float = field(init=False)
    _stalled_at: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._heard_at = self.began

    def verdict(self, now: float, answer: Answer | None) -> str | None:
        """Why the process is to be ended, or None when it is not."""
        if answer is None:
            if now - self._heard_at > self.silent_within:
                return f"has not answered for {now - self._heard_at:.0f} s"
            return None
        self._heard_at = now
        if not answer.stalled:
            self._stalled_at = None
            return None
        if self._stalled_at is None:
            self._stalled_at = now
        if now - self._stalled_at > _SPARED_S:
            return f"is stalled and has not ended: {answer.reason}"
        return None

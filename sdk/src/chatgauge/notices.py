"""What went wrong without anybody being disturbed: counted always, logged now and then.

Counting is for the caller's thread, and cheap. Logging is left to the sending thread, because a
service's log handlers may block.
"""

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger("chatgauge")

_QUIET_S = 60.0
_MOST_KINDS = 64


class _Notice:
    __slots__ = ("count", "detail", "last_logged", "logged")

    def __init__(self) -> None:
        self.count = 0
        self.logged = 0
        self.last_logged: float | None = None
        self.detail = ""


class Notices:
    """Counts of each kind of trouble. A kind is logged at once, then once a minute at most."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """All counts 0: a new process."""
        # A signal handler may interrupt `count`, and call it.
        self._lock = threading.RLock()
        self._kinds: dict[str, _Notice] = {}
        self.pending = False
        """Something has been counted that the log has not been told."""

    def count(self, kind: str, detail: str = "") -> None:
        """One more of this kind. `kind` and `detail` must hold nothing that a user wrote."""
        with self._lock:
            notice = self._kinds.get(kind)
            if notice is None:
                if len(self._kinds) >= _MOST_KINDS:
                    kind, detail = "other", ""
                notice = self._kinds.setdefault(kind, _Notice())
            notice.count += 1
            notice.detail = detail
            self.pending = True

    def total(self, *kinds: str) -> int:
        """How often these kinds have happened; without a kind, all of them."""
        counted = dict(self._kinds)
        return sum(notice.count for kind, notice in counted.items() if not kinds or kind in kinds)

    def write(self) -> None:
        """Log what is due. Sending thread only."""
        if not self.pending:
            return
        self.pending = False
        now = self._clock()
        for kind, notice in list(self._kinds.items()):
            fresh = notice.count - notice.logged
            if not fresh:
                continue
            if notice.last_logged is not None and now - notice.last_logged < _QUIET_S:
                self.pending = True
                continue
            notice.last_logged, notice.logged = now, notice.count
            detail = f": {notice.detail}" if notice.detail else ""
            log.warning("%s%s (%d times so far)", kind, detail, notice.count)

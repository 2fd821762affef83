"""Lets those through who hold the admin key."""

import asyncio
import hashlib
import hmac
import logging
import math
import secrets
from collections.abc import Callable

from api.access.key import Hashed
from api.access.throttle import Throttle
from api.errors import ForbiddenError, ThrottledError, UnauthorizedError, UnavailableError
from api.times import Clock
from schemas.time import SECOND

_log = logging.getLogger(__name__)


class Guard:
    """Checks keys against the one that is kept, or against the one that the settings give instead.

    `kept` answers with what is kept; None while it is not known, or when there is none yet.
    """

    def __init__(
        self,
        kept: Callable[[], Hashed | None],
        clock: Clock,
        *,
        override: str | None = None,
        throttle: Throttle | None = None,
    ) -> None:
        self._kept = kept
        self._clock = clock
        self._throttle = throttle or Throttle()
        self._secret = secrets.token_bytes(32)
        self._override = None if override is None else self._tag(override)
        self._known: tuple[Hashed, bytes] | None = None
        self._hashing = asyncio.Lock()
        self.refused = 0
        """Wrong keys so far."""

    async def check(self, authorization: str | None, address: str) -> None:
        """Returns when the header `Authorization` holds the key.

        Raises UnauthorizedError without a key, ForbiddenError with a wrong one, ThrottledError after too
        many wrong ones, UnavailableError while it is not known which key is right.
        """
        key = _bearer(authorization)
        self._hold_back(address)
        if self._override is not None:
            right = hmac.compare_digest(self._tag(key), self._override)
        else:
            right = await self._is_kept(key, address)
        if right:
            return
        self._throttle.failed(address, self._clock())
        self.refused += 1
        _log.warning("a wrong admin key came from %s", address)
        raise ForbiddenError(
            "This is not the admin key. It was printed when Chatgauge first started; `chatgauge admin-key "
            "--renew` makes a new one, and CHATGAUGE_ACCESS_ADMIN_KEY, where it is set, comes before it.",
            where="Authorization",
        )

    async def _is_kept(self, key: str, address: str) -> bool:
        kept = self._current()
        tag = self._tag(key)
        if self._known is not None and self._known[0] == kept and hmac.compare_digest(self._known[1], tag):
            return True
        # One at a time: whoever guesses must not get all of the machine for it.
        async with self._hashing:
            self._hold_back(address)
            right = await asyncio.to_thread(kept.matches, key)
        if right:
            self._known = (kept, tag)
        return right

    def _current(self) -> Hashed:
        kept = self._kept()
        if kept is None:
            raise UnavailableError(
                "The admin key is not known yet: Kafka has to be there, with the topic chat.access.",
                where="kafka",
            )
        return kept

    def _hold_back(self, address: str) -> None:
        if wait := self._throttle.wait(address, self._clock()):
            raise ThrottledError(
                "Too many wrong keys: wait before the next try.",
                where="Authorization",
                retry_after=math.ceil(wait / SECOND),
            )

    def _tag(self, key: str) -> bytes:
        """Equal for equal keys, of one length for all, and worth nothing outside of this process."""
        return hashlib.blake2b(key.encode(), key=self._secret).digest()


def _bearer(authorization: str | None) -> str:
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise UnauthorizedError(
            "This takes the admin key, in the header `Authorization: Bearer cg_…`. It was printed when "
            "Chatgauge first started; `chatgauge admin-key --renew` makes a new one.",
            where="Authorization",
        )
    return key.strip()

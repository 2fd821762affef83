"""Nothing that names a person leaves the process."""

import hmac
import re
from collections.abc import Callable
from functools import lru_cache

from chatgauge.errors import ConfigurationError
from chatgauge.notices import Notices

NAMES_A_PERSON = "a value that looks like an e-mail address was left out"

_SHORTEST_KEY = 16
_EMAIL = re.compile(r"[^\s@=]+@[^\s@]+\.[^\s@]+")


def looks_like_email(value: str) -> bool:
    """Whether the text holds something like an e-mail address."""
    return "@" in value and _EMAIL.search(value) is not None


def _keyed(secret: bytes) -> Callable[[str], str]:
    @lru_cache(maxsize=4096)
    def pseudonym(user_id: str) -> str:
        return hmac.digest(secret, user_id.encode("utf-8", "replace"), "sha256")[:16].hex()

    return pseudonym


class Pseudonyms:
    """User ids as they may leave the process.

    With a key: the first 128 bits of HMAC-SHA256(key, id), in hex; the same key gives the same
    pseudonym everywhere. Without one ids are taken to be opaque, and one that looks like an e-mail
    address is left out: its bare hash would not hide it, because addresses can be guessed.
    """

    def __init__(self, key: str | bytes | None, notices: Notices) -> None:
        self._notices = notices
        secret = key.encode() if isinstance(key, str) else key
        if secret is not None and len(secret) < _SHORTEST_KEY:
            raise ConfigurationError(
                f"pseudonym_key must have at least {_SHORTEST_KEY} bytes:"
                " `openssl rand -hex 32` makes a good one"
            )

        self._pseudonym = None if secret is None else _keyed(secret)

    def of(self, user_id: str) -> str | None:
        """The id to publish; None when it must not be published."""
        if self._pseudonym is not None:
            return self._pseudonym(user_id)
        return self.unless_email(user_id, "user_id: pass an opaque id, or give the Gauge a pseudonym_key")

    def unless_email(self, value: str, what: str) -> str | None:
        """The value itself, or None (and counted) when it looks like an e-mail address."""
        if looks_like_email(value):
            self._notices.count(NAMES_A_PERSON, what)
            return None
        return value

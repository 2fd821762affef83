"""Keys, pure: made, hashed for keeping, and compared."""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

PREFIX: Final = "cg_"
_KEY_BYTES: Final = 32
_N, _R, _P = 2**14, 8, 1
"""16 MiB and some 50 ms for each guess: a key is 256 bits, one that a person chose may be less."""
_MOST_MEMORY: Final = 256 * 1024 * 1024


def make_key() -> str:
    """A new key: `cg_` and 43 characters, 256 bits."""
    return PREFIX + secrets.token_urlsafe(_KEY_BYTES)


@dataclass(frozen=True)
class Hashed:
    """What is kept of a key: its scrypt digest, with what it takes to make it again."""

    salt: bytes
    digest: bytes
    n: int = _N
    r: int = _R
    p: int = _P

    @classmethod
    def of(cls, key: str) -> Self:
        """The key, hashed with a salt of its own."""
        salt = secrets.token_bytes(16)
        return cls(salt, _scrypt(key, salt, _N, _R, _P))

    def matches(self, key: str) -> bool:
        """Whether it is that key; takes as long whether it is or not."""
        return hmac.compare_digest(_scrypt(key, self.salt, self.n, self.r, self.p), self.digest)

    def document(self) -> dict[str, Any]:
        """As it is kept in `chat.access`."""
        return {
            "algorithm": "scrypt",
            "n": self.n,
            "r": self.r,
            "p": self.p,
            "salt": self.salt.hex(),
            "digest": self.digest.hex(),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """As it was kept. Raises ValueError when it can't be read."""
        try:
            if document["algorithm"] != "scrypt":
                raise ValueError(f"keys hashed by {document['algorithm']!r} are not known")
            n, r, p = int(document["n"]), int(document["r"]), int(document["p"])
            if 128 * n * r * p > _MOST_MEMORY:
                raise ValueError("its hash takes too much memory")
            return cls(bytes.fromhex(document["salt"]), bytes.fromhex(document["digest"]), n, r, p)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a hashed key: {error!r}") from error


def _scrypt(key: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(key.encode(), salt=salt, n=n, r=r, p=p, maxmem=_MOST_MEMORY + 2**20)

"""Ways of spoiling bytes: blindly, and where it hurts."""

import random
from collections.abc import Sequence

from tests.schemas.events import long

_LENGTHS = (
    -(2**63),
    -(2**40),
    -300,
    -1,
    0,
    1,
    127,
    300,
    2**16,
    2**31 - 1,
    2**31,
    2**32,
    2**40,
    2**62,
    2**63 - 1,
)
_WORDS = (0, 1, 8, 64, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1)


def spoiled(
    original: bytes, others: Sequence[bytes], chance: random.Random, places: Sequence[int] = ()
) -> bytes:
    """The bytes, changed one to four times; `places` are where fields begin, `others` to splice with."""
    octets = bytearray(original)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        at = chance.choice(places) if places and chance.random() < 0.5 else chance.randrange(len(octets) + 1)
        _spoil(octets, min(at, len(octets)), others, chance)
    return bytes(octets)


def _spoil(octets: bytearray, at: int, others: Sequence[bytes], chance: random.Random) -> None:
    match chance.randrange(11):
        case 0:
            del octets[at:]
        case 1:
            octets += chance.randbytes(chance.randrange(1, 40))
        case 2 | 3:
            if at < len(octets):
                octets[at] ^= 1 << chance.randrange(8)
        case 4:
            octets[at : at + chance.randrange(3)] = long(chance.choice(_LENGTHS))
        case 5:
            octets[at : at + chance.randrange(12)] = chance.randbytes(chance.randrange(12))
        case 6:
            other = chance.choice(others)
            octets[at:] = other[chance.randrange(len(other) + 1) :]
        case 7:
            octets[at:at] = octets[chance.randrange(len(octets) + 1) :][:200]
        case 8:
            octets[at : at + 1] = bytes([chance.choice((0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF))])
        case 9:
            size = chance.choice((4, 8))
            at -= at % size
            octets[at : at + size] = (chance.choice(_WORDS) & (1 << 8 * size) - 1).to_bytes(size, "little")
        case _:
            octets[at : at + 2] = b"\xff" * chance.randrange(1, 14)

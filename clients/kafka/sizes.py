"""How large what is sent and fetched may be."""

from typing import Final

LARGEST_FETCH: Final = 16 * 1024 * 1024
"""Bytes of the largest request to produce; topics that hold such blocks take batches of this size."""

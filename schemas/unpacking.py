"""Unpacks the records of a Kafka batch, and never to more than a bound, which holds while unpacking.

Can be called from any thread; the libraries let go of the interpreter where it takes long.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Final

import cramjam
import lz4.frame
import zstandard

from schemas.errors import CorruptStreamError, UnknownCodecError, UnpackedTooLargeError
from schemas.record_batch import CODECS, RecordBatch

MOST_BYTES: Final = 64 * 2**20
"""That a batch may unpack to, unless the caller says otherwise."""
_CHUNK: Final = 64 * 2**10
_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER: Final = 16
_GZIP: Final = 16 + zlib.MAX_WBITS


def unpack(batch: RecordBatch, limit: int = MOST_BYTES) -> bytes | memoryview:
    """The records of the batch, uncompressed: at most `limit` bytes if they were compressed.

    Raises UnpackError: UnknownCodecError, CorruptStreamError or UnpackedTooLargeError.
    """
    if batch.codec == 0:
        return batch.packed
    if batch.codec >= len(CODECS):
        raise UnknownCodecError(f"is compressed with codec {batch.codec}, which Kafka doesn't have")
    codec = CODECS[batch.codec]
    found: bytes | bytearray = b""
    try:
        for piece in _UNPACKING[codec](batch.packed, limit):
            if len(found) + len(piece) > limit:
                raise _too_large(limit)
            if not found:
                found = piece
            else:  # grows in place
                found = found if isinstance(found, bytearray) else bytearray(found)
                found += piece
    except _CORRUPT as error:
        raise CorruptStreamError(
            f"can't be unpacked as {codec}: {str(error) or type(error).__name__}"
        ) from error
    return found if isinstance(found, bytes) else memoryview(found)


def _too_large(limit: int) -> UnpackedTooLargeError:
    size = f"{limit >> 20} MiB" if limit >= 2**20 and limit % 2**20 == 0 else f"{limit} bytes"
    return UnpackedTooLargeError(f"unpacks to more than {size}")


class _Gzip:
    """zlib's object, asked as the others are: it gives back what it didn't come to."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(_GZIP)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes | memoryview, most: int, /) -> bytes:
        return self._zlib.decompress(data or self._zlib.unconsumed_tail, most)


class _Lz4:
    def __init__(self) -> None:
        self._frame = lz4.frame.LZ4FrameDecompressor()

    @property
    def eof(self) -> bool:
        return bool(self._frame.eof)

    @property
    def unused_data(self) -> bytes:
        return self._frame.unused_data or b""

    def decompress(self, data: bytes | memoryview, most: int, /) -> bytes:
        piece: bytes = self._frame.decompress(data, max_length=most)
        return piece


def _streams(new: Callable[[], _Gzip | _Lz4], packed: memoryview, limit: int) -> Iterator[bytes]:
    """All there are, one behind the other."""
    step = min(limit + 1, max(_CHUNK, 4 * len(packed)))
    rest: bytes | memoryview = packed
    while True:
        stream = new()
        while not stream.eof:
            piece = stream.decompress(rest, step)
            rest = b""
            if not piece and not stream.eof:
                raise EOFError("it is cut off")
            yield piece
        rest = stream.unused_data
        if not rest:
            return


def _gzip(packed: memoryview, limit: int) -> Iterator[bytes]:
    return _streams(_Gzip, packed, limit)


def _lz4(packed: memoryview, limit: int) -> Iterator[bytes]:
    return _streams(_Lz4, packed, limit)


def _snappy(packed: memoryview, limit: int) -> Iterator[bytes]:
    """As one block, or in the frames of the Java library. A block says first how long it will be."""
    if bytes(packed[: len(_XERIAL)]) != _XERIAL:
        yield _snappy_block(packed, limit, limit)
        return
    at, left = _XERIAL_HEADER, limit
    while at < len(packed):
        (size,) = struct.unpack_from(">i", packed, at)
        at += 4
        if not 0 <= size <= len(packed) - at:
            raise EOFError(f"a block of {size} bytes, of which {len(packed) - at} are there")
        block = _snappy_block(packed[at : at + size], left, limit)
        yield block
        at, left = at + size, left - len(block)


def _snappy_block(packed: memoryview, left: int, limit: int) -> bytes:
    if cramjam.snappy.decompress_raw_len(packed) > left:
        raise _too_large(limit)
    return bytes(cramjam.snappy.decompress_raw(packed))


def _zstd(packed: memoryview, limit: int) -> Iterator[bytes]:
    size = zstandard.get_frame_parameters(packed).content_size
    if size == zstandard.CONTENTSIZE_UNKNOWN:
        size = max(_CHUNK, 4 * len(packed))
    elif size > limit:
        raise _too_large(limit)
    step = max(_CHUNK, min(limit, size) + 1)
    reader = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
    # A stream that is cut off ends early, without an error: then records are missing.
    while piece := reader.read(step):
        yield piece


_UNPACKING: Final[dict[str, Callable[[memoryview, int], Iterator[bytes]]]] = {
    "gzip": _gzip,
    "snappy": _snappy,
    "lz4": _lz4,
    "zstd": _zstd,
}
_CORRUPT: Final = (
    zlib.error,
    EOFError,
    struct.error,
    RuntimeError,  # lz4's
    cramjam.DecompressionError,
    zstandard.ZstdError,
)

"""Content encodings of requests and answers, a piece at a time."""

import zlib
from typing import Protocol

import lz4.frame
import zstandard

from infra.clickhouse.errors import CANNOT_DECOMPRESS, NOT_IMPLEMENTED, ClickHouseError

_PREFERRED = ("lz4", "zstd", "gzip", "deflate")
_GZIP = 16 + zlib.MAX_WBITS
_EITHER = 32 + zlib.MAX_WBITS


class Decoder(Protocol):
    def decode(self, piece: bytes) -> bytes: ...
    def finish(self) -> None:
        """Raises `ClickHouseError` when the body was cut off."""


class Encoder(Protocol):
    def encode(self, piece: bytes) -> bytes: ...
    def finish(self) -> bytes: ...


class _Plain:
    def decode(self, piece: bytes) -> bytes:
        return piece

    def finish(self) -> None:
        return


class _Decompressing:
    """Frames may follow one another, as clients that compress block by block send them."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._frame = self._next_frame()
        self._untouched = True

    def _next_frame(
        self,
    ) -> "lz4.frame.LZ4FrameDecompressor | zstandard.ZstdDecompressionObj | zlib._Decompress":
        if self._encoding == "lz4":
            return lz4.frame.LZ4FrameDecompressor()
        if self._encoding == "zstd":
            return zstandard.ZstdDecompressor().decompressobj()
        return zlib.decompressobj(_EITHER)

    def decode(self, piece: bytes) -> bytes:
        decoded = []
        try:
            while piece:
                if self._frame.eof:
                    self._frame = self._next_frame()
                self._untouched = False
                decoded.append(self._frame.decompress(piece))
                piece = (self._frame.unused_data or b"") if self._frame.eof else b""
        except (RuntimeError, zstandard.ZstdError, zlib.error) as broken:
            raise ClickHouseError.of(
                CANNOT_DECOMPRESS, f"The body is not valid {self._encoding}: {broken}"
            ) from broken
        return b"".join(decoded)

    def finish(self) -> None:
        if not self._frame.eof and not self._untouched:
            raise ClickHouseError.of(CANNOT_DECOMPRESS, f"The {self._encoding} body was cut off")


class _Lz4:
    def __init__(self) -> None:
        self._frame = lz4.frame.LZ4FrameCompressor()
        self._head = self._frame.begin()

    def encode(self, piece: bytes) -> bytes:
        head, self._head = self._head, b""
        return bytes(head + self._frame.compress(piece))

    def finish(self) -> bytes:
        return bytes(self._head + self._frame.flush())


class _Flushing:
    def __init__(self, frame: "zstandard.ZstdCompressionObj | zlib._Compress") -> None:
        self._frame = frame

    def encode(self, piece: bytes) -> bytes:
        return self._frame.compress(piece)

    def finish(self) -> bytes:
        return self._frame.flush()


def decoder(content_encoding: str | None) -> Decoder:
    """For a request's Content-Encoding; `ClickHouseError` (not implemented) when it is another one."""
    encoding = (content_encoding or "identity").strip().lower()
    if encoding == "identity":
        return _Plain()
    if encoding not in _PREFERRED:
        raise ClickHouseError.of(
            NOT_IMPLEMENTED,
            f"Content-Encoding {encoding} is not served; send {', '.join(_PREFERRED)} or none",
        )
    return _Decompressing(encoding)


def choose_encoding(accept_encoding: str | None) -> str | None:
    """The encoding for the answer: the quickest of those that the client takes."""
    accepted = set()
    for choice in (accept_encoding or "").lower().split(","):
        name, _, quality = choice.partition(";")
        if quality.replace(" ", "") not in ("q=0", "q=0.0"):
            accepted.add(name.strip())
    return next((encoding for encoding in _PREFERRED if encoding in accepted), None)


def encoder(encoding: str) -> Encoder:
    if encoding == "lz4":
        return _Lz4()
    if encoding == "zstd":
        return _Flushing(zstandard.ZstdCompressor(level=1).compressobj())
    return _Flushing(zlib.compressobj(level=1, wbits=_GZIP if encoding == "gzip" else zlib.MAX_WBITS))

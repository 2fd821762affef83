"""Content encodings, piece by piece."""

import gzip
import zlib

import lz4.frame
import pytest
import zstandard

from infra.clickhouse.compression import choose_encoding, decoder, encoder
from infra.clickhouse.errors import CANNOT_DECOMPRESS, NOT_IMPLEMENTED, ClickHouseError

TEXT = b"a row of a table, " * 5000
PACKED = {
    "lz4": lz4.frame.compress(TEXT),
    "zstd": zstandard.ZstdCompressor().compress(TEXT),
    "gzip": gzip.compress(TEXT),
    "deflate": zlib.compress(TEXT),
    "identity": TEXT,
}


@pytest.mark.parametrize("encoding", PACKED)
@pytest.mark.parametrize("size", [7, 100_000])
def test_a_body_is_decoded_in_pieces_of_any_size(encoding: str, size: int) -> None:
    packed = PACKED[encoding]
    decoding = decoder(encoding)

    decoded = b"".join(decoding.decode(packed[start : start + size]) for start in range(0, len(packed), size))
    decoding.finish()

    assert decoded == TEXT


@pytest.mark.parametrize("encoding", ["lz4", "zstd", "gzip"])
def test_frames_may_follow_one_another(encoding: str) -> None:
    decoding = decoder(encoding)

    decoded = decoding.decode(PACKED[encoding] * 2)
    decoding.finish()

    assert decoded == TEXT * 2


@pytest.mark.parametrize("encoding", ["lz4", "zstd", "gzip", "deflate"])
def test_a_body_cut_off_is_an_error(encoding: str) -> None:
    decoding = decoder(encoding)
    decoding.decode(PACKED[encoding][:-5])

    with pytest.raises(ClickHouseError, match="cut off") as refusal:
        decoding.finish()

    assert refusal.value.code == CANNOT_DECOMPRESS


@pytest.mark.parametrize("encoding", ["lz4", "zstd", "gzip", "deflate"])
def test_a_body_in_another_encoding_is_an_error(encoding: str) -> None:
    with pytest.raises(ClickHouseError, match=f"not valid {encoding}"):
        decoder(encoding).decode(TEXT)


def test_an_unknown_encoding_is_named() -> None:
    with pytest.raises(ClickHouseError, match="Content-Encoding br is not served") as refusal:
        decoder("br")

    assert (refusal.value.code, refusal.value.status) == (NOT_IMPLEMENTED, 501)


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        (None, None),
        ("", None),
        ("br", None),
        ("gzip, deflate", "gzip"),
        ("gzip, zstd;q=0.5, lz4", "lz4"),
        ("lz4;q=0, zstd", "zstd"),
    ],
)
def test_the_quickest_accepted_encoding_is_chosen(accepted: str | None, chosen: str | None) -> None:
    assert choose_encoding(accepted) == chosen


@pytest.mark.parametrize("encoding", ["lz4", "zstd", "gzip", "deflate"])
@pytest.mark.parametrize("pieces", [[], [b"one"], [TEXT, b"", TEXT]])
def test_what_is_encoded_decodes_to_itself(encoding: str, pieces: list[bytes]) -> None:
    encoding_ = encoder(encoding)
    packed = b"".join(map(encoding_.encode, pieces)) + encoding_.finish()
    decoding = decoder(encoding)

    assert decoding.decode(packed) == b"".join(pieces)
    decoding.finish()

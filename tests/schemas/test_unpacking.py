"""Every codec of Kafka, in every form that clients write, and never more than the bound."""

import os
import resource
import zlib

import cramjam
import lz4.frame
import pytest
import zstandard
from aiokafka.codec import snappy_encode

from schemas.errors import CorruptStreamError, UnknownCodecError, UnpackedTooLargeError, UnpackError
from schemas.record_batch import CODECS, RecordBatch, split
from schemas.unpacking import unpack
from tests.schemas.batches import PACK, wrap

PLAIN = os.urandom(700) * 200 + b"the end"
GZIP, SNAPPY, LZ4, ZSTD = range(1, 5)


def of(packed: bytes, codec: int) -> RecordBatch:
    (batch,) = split(wrap(packed, 0, count=1, codec=codec))
    return batch


def outcome(codec: int, packed: bytes) -> tuple[bytes, str]:
    """What it unpacks to, or why it is refused."""
    try:
        return bytes(unpack(of(packed, codec))), ""
    except CorruptStreamError as error:
        return b"", str(error)


FORMS = [
    pytest.param(GZIP, PACK[GZIP](PLAIN), id="gzip"),
    pytest.param(GZIP, PACK[GZIP](PLAIN[:1_000]) + PACK[GZIP](PLAIN[1_000:]), id="gzip, two members"),
    pytest.param(SNAPPY, snappy_encode(PLAIN), id="snappy, framed as in Java"),
    pytest.param(SNAPPY, bytes(snappy_encode(PLAIN, xerial_compatible=False)), id="snappy, one block"),
    pytest.param(LZ4, PACK[LZ4](PLAIN), id="lz4"),
    pytest.param(LZ4, lz4.frame.compress(PLAIN, block_linked=True, content_checksum=True), id="lz4, linked"),
    pytest.param(LZ4, lz4.frame.compress(PLAIN[:9]) + lz4.frame.compress(PLAIN[9:]), id="lz4, two frames"),
    pytest.param(ZSTD, PACK[ZSTD](PLAIN), id="zstd"),
    pytest.param(
        ZSTD, zstandard.ZstdCompressor(write_content_size=False).compress(PLAIN), id="zstd, of unknown size"
    ),
    pytest.param(ZSTD, zstandard.compress(PLAIN[:9]) + zstandard.compress(PLAIN[9:]), id="zstd, two frames"),
    pytest.param(ZSTD, zstandard.ZstdCompressor(level=22).compress(PLAIN), id="zstd, at its highest level"),
]


@pytest.mark.parametrize(("codec", "packed"), FORMS)
class TestForms:
    def test_every_form_is_unpacked(self, codec: int, packed: bytes) -> None:
        assert bytes(unpack(of(packed, codec))) == PLAIN

    def test_the_bound_is_exact(self, codec: int, packed: bytes) -> None:
        assert bytes(unpack(of(packed, codec), len(PLAIN))) == PLAIN
        for limit in (len(PLAIN) - 1, 1_000, 0):
            with pytest.raises(UnpackedTooLargeError, match=f"unpacks to more than {limit} bytes"):
                unpack(of(packed, codec), limit)

    def test_what_is_cut_off_is_refused_or_the_beginning(self, codec: int, packed: bytes) -> None:
        for size in (0, 1, 5, 20, len(packed) // 2, len(packed) - 1):
            found, why = outcome(codec, packed[:size])
            assert why.startswith(f"can't be unpacked as {CODECS[codec]}: ") or PLAIN.startswith(found)


def test_what_is_not_compressed_is_not_copied() -> None:
    batch = of(PLAIN, 0)
    assert unpack(batch, 0) == batch.packed


@pytest.mark.parametrize("codec", [5, 6, 7])
def test_a_codec_that_kafka_does_not_have_is_named(codec: int) -> None:
    with pytest.raises(UnknownCodecError, match=f"codec {codec}"):
        unpack(of(PLAIN, codec))


@pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4, ZSTD])
@pytest.mark.parametrize("garbage", [b"", b"\0", b"not what you think it is" * 9, bytes(500), b"\xff" * 500])
def test_garbage_is_refused_by_the_name_of_its_codec(codec: int, garbage: bytes) -> None:
    found, why = outcome(codec, garbage)
    assert CODECS[codec] in why or (found == b"" and codec == SNAPPY), "snappy takes a zero for nothing"


SIZE = 512 * 2**20


def gzip_bomb() -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join([*(packer.compress(bytes(2**20)) for _ in range(SIZE >> 20)), packer.flush()])


def snappy_bomb() -> bytes:
    block = bytes(cramjam.snappy.compress_raw(bytes(2**20)))
    frame = len(block).to_bytes(4, "big") + block
    return b"\x82SNAPPY\0\0\0\0\1\0\0\0\1" + frame * (SIZE >> 20)


def lz4_bomb() -> bytes:
    with lz4.frame.LZ4FrameCompressor() as packer:
        parts = [packer.begin(), *(packer.compress(bytes(2**20)) for _ in range(SIZE >> 20)), packer.flush()]
    return b"".join(parts)


def zstd_bomb() -> bytes:
    packer = zstandard.ZstdCompressor().compressobj()
    return b"".join([*(packer.compress(bytes(2**20)) for _ in range(SIZE >> 20)), packer.flush()])


@pytest.mark.parametrize(
    ("codec", "bomb"),
    [(GZIP, gzip_bomb), (SNAPPY, snappy_bomb), (LZ4, lz4_bomb), (ZSTD, zstd_bomb)],
    ids=["gzip", "snappy", "lz4", "zstd"],
)
@pytest.mark.slow
def test_the_bound_holds_while_unpacking(codec: int, bomb: object) -> None:
    batch = of(bomb(), codec)  # type: ignore[operator]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2):
        with pytest.raises(UnpackedTooLargeError, match="unpacks to more than 64 MiB"):
            unpack(batch)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    assert grown < 100, f"{grown} MiB for a bound of 64"


def test_a_length_that_lies_allocates_nothing() -> None:
    huge = b"\xff\xff\xff\xff\x0f" + b"abc"
    with pytest.raises(UnpackError, match="more than 64 MiB"):
        unpack(of(huge, SNAPPY))

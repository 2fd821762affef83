"""Events to test with."""

import io
import random
from collections.abc import Mapping
from typing import Any

import fastavro
import numpy as np
import numpy.typing as npt
import polars as pl

from schemas import contract, wire
from schemas.contract import Schema

REQUEST = contract.schema("RequestEvent")
NOON_US = 1_768_478_400_000_000


def request(number: int, **changes: Any) -> dict[str, Any]:
    """A finished chat request."""
    return {
        "event_id": f"event-{number:06d}",
        "request_id": f"request-{number:06d}",
        "trace_id": f"{number:032x}",
        "conversation_id": f"conversation-{number % 20}",
        "phase": "finished",
        "occurred_at": NOON_US + number,
        "imported": False,
        "service": "support",
        "instance": "pod-1",
        "region": "eu-central-1",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "operation": "chat",
        "space_id": f"space-{number % 7}",
        "user_id": f"user-{number % 50}",
        "workflow": None,
        "workflow_version": None,
        "experiment": None if number % 4 else "greeting",
        "variant": None if number % 4 else "short",
        "error_type": None if number % 10 else "timeout",
        "retries": number % 3,
        "finish_reason": "stop" if number % 10 else None,
        "cache_hit": number % 3 == 0,
        "streamed": True,
        "prompt_tokens": 900 + number,
        "cached_tokens": 100,
        "cache_write_tokens": 60,
        "cache_write_1h_tokens": 20,
        "prompt_audio_tokens": None,
        "completion_tokens": 50,
        "reasoning_tokens": 0,
        "completion_audio_tokens": 0,
        "cost_nano_usd": None,
        "total_us": 1_500_000 + number,
        "context_us": 200_000,
        "model_us": 1_200_000,
        "first_token_us": 400_000,
        "last_token_us": 1_490_000 + number,
        "output_chunks": 48,
        "attributes": [] if number % 2 else ["region=eu", "tier=gold"],
    } | changes


def body(schema: Schema, record: Mapping[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema.parsed, dict(record))
    return out.getvalue()


def value(record: Mapping[str, Any], schema: Schema = REQUEST) -> bytes:
    """As published, in the single-object format."""
    return wire.single_object_header(schema.fingerprint) + body(schema, record)


def offsets(values: object) -> npt.NDArray[np.int64]:
    """Kafka offsets for as many values: not from 0, and with gaps."""
    return 1_000 + 3 * np.arange(len(values), dtype=np.int64)  # type: ignore[arg-type]


def long(number: int) -> bytes:
    """An Avro long."""
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """As fastavro would give them, with instants in microseconds."""
    instants = pl.col(pl.Datetime("us", "UTC")).to_physical()
    return frame.drop("_offset").with_columns(instants, pl.col(pl.Enum).cast(pl.String)).to_dicts()


def mutated(original: bytes, chance: random.Random) -> bytes:
    """The value with its body cut, extended, garbled, or one bit of it flipped."""
    octets = bytearray(original)
    at = chance.randrange(wire.SINGLE_OBJECT_SIZE, len(octets))
    match chance.randrange(6):
        case 0:
            del octets[at:]
        case 1:
            octets += chance.randbytes(chance.randrange(1, 30))
        case 2:
            octets[at] ^= 1 << chance.randrange(8)
        case 3:
            octets[at] = chance.randrange(256)
        case 4:
            octets[at : at + chance.randrange(12)] = chance.randbytes(chance.randrange(12))
        case _:
            octets[wire.SINGLE_OBJECT_SIZE :] = chance.randbytes(chance.randrange(200))
    return bytes(octets)

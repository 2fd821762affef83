"""What a feed sends: seeded events of every kind that a stream of chat requests may hold, good and bad.

Encoded here with fastavro by the schema alone, as a producer in another language would do it.
"""

import json
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import fastavro

SECOND, MINUTE, HOUR, DAY = 10**6, 60 * 10**6, 3_600 * 10**6, 86_400 * 10**6
"""In microseconds, as all times here are."""
YEAR = 365 * DAY
LARGE = 1_000_000
"""Bytes of a large record: nearly all that a broker takes by default."""

_DEFINITION = json.loads(
    (Path(__file__).parents[2] / "schemas" / "request_event.avsc").read_text(encoding="utf-8")
)
_SCHEMA = fastavro.parse_schema(_DEFINITION)
_HEADER = b"\xc3\x01" + bytes.fromhex(
    fastavro.schema.fingerprint(fastavro.schema.to_parsing_canonical_form(_DEFINITION), "CRC-64-AVRO")
)

_MODELS = (
    ("openai", "gpt-4o"),
    ("openai", "gpt-4o-mini"),
    ("anthropic", "claude-3-5-haiku-latest"),
    ("house", "house-13b"),
)
_ERRORS = ("timeout", "rate_limited", "provider_error", "cancelled")

MIX: Mapping[str, float] = {
    "finished": 74,
    "started": 8,
    "late": 3,
    "ahead": 2,
    "too_late": 0.3,
    "imported": 1,
    "repeat_soon": 4,
    "repeat_edge": 3,
    "repeat_any": 3,
    "repeat_elsewhere": 0.2,
    "in_the_future": 0.4,
    "bad": 1,
    "large": 0.02,
}
"""Shares of the kinds, of any sum.

- `late`: up to an hour; `ahead`: up to four minutes; `too_late`: 2 or 5 days, live; `imported`: years.
- `repeat_soon`: one of the last few; `repeat_edge`: occurred four to eight minutes ago, about where the
  horizon is; `repeat_any`: any that is remembered, of an hour ago or years too. The same bytes, the same
  key; `repeat_elsewhere`: by another key.
- `in_the_future`: an hour, or decades: refused. `bad`: one of the `BAD`; `large`: 1 MB, refused.
"""


class Message(NamedTuple):
    """What is to be sent."""

    kind: str
    event_id: str
    """Of what can't be read, too: the feed's own number for it."""
    key: bytes
    value: bytes | None


def encode(event: Mapping[str, Any]) -> bytes:
    """An event as a Kafka value: single-object header and body."""
    return _HEADER + _body(event)


def _body(event: Mapping[str, Any]) -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, _SCHEMA, event)
    return out.getvalue()


def _cut(event: dict[str, Any], chance: random.Random) -> bytes:
    whole = encode(event)
    return whole[: chance.randrange(len(_HEADER), len(whole) - 40)]


def _no_text(event: dict[str, Any], chance: random.Random) -> bytes:
    """A text that isn't UTF-8."""
    return encode(event).replace(event["event_id"].encode(), b"\xff" * len(event["event_id"]), 1)


def _no_phase(event: dict[str, Any], chance: random.Random) -> bytes:
    """An enum's index out of range, where `finished` was: behind two short texts and a null."""
    whole = encode(event | {"trace_id": None})
    at = len(_HEADER) + 1 + len(event["event_id"]) + 1 + len(event["request_id"]) + 1
    return whole[:at] + b"\x9a\x01" + whole[at + 1 :]


def _unknown_fingerprint(event: dict[str, Any], chance: random.Random) -> bytes:
    return _HEADER[:2] + chance.randbytes(8) + _body(event)


def _with(**fields: Any) -> Callable[[dict[str, Any], random.Random], bytes]:
    return lambda event, chance: encode(event | fields)


BAD: Mapping[str, tuple[str, Callable[[dict[str, Any], random.Random], bytes | None]]] = {
    "null": ("empty", lambda event, chance: None),
    "empty": ("empty", lambda event, chance: b""),
    "json": ("unknown_format", lambda event, chance: json.dumps(event).encode()),
    "noise": ("unknown_format", lambda event, chance: b"\x7f" + chance.randbytes(200)),
    "unknown_fingerprint": ("unknown_schema", _unknown_fingerprint),
    "cut": ("malformed", _cut),
    "no_body": ("malformed", lambda event, chance: _HEADER),
    "no_text": ("malformed", _no_text),
    "no_phase": ("malformed", _no_phase),
    "left_over": ("left_over_bytes", lambda event, chance: encode(event) + chance.randbytes(3)),
    "twice": ("left_over_bytes", lambda event, chance: encode(event) + _body(event)),
    "negative": ("invalid", _with(prompt_tokens=-1, cached_tokens=None)),
    "more_cached": ("invalid", _with(prompt_tokens=10, cached_tokens=11)),
    "too_long_a_wait": ("invalid", _with(total_us=31 * DAY)),
    "empty_text": ("invalid", _with(model="")),
    "long_text": ("invalid", _with(service="s" * 257)),
    "attribute": ("invalid", _with(attributes=["no equals sign"])),
    "before_1970": ("invalid", _with(occurred_at=-1)),
    "costly": ("invalid", _with(cost_nano_usd=10**15 + 1)),
}
"""What can't be read, by name: the reason that a dead letter gives, and how it is made."""


@dataclass
class Mixer:
    """Makes messages, the same for the same seed but for the times, which are relative to `clock`."""

    seed: int
    clock: Callable[[], int]
    shares: Mapping[str, float] = field(default_factory=lambda: MIX)
    users: int = 200
    plain_first: int = 300
    """So many are plain at first, so that each partition's watermark is there before what is too late."""

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._made = 0
        self._recent: deque[Message] = deque(maxlen=200)
        self._edge: deque[tuple[int, Message]] = deque(maxlen=2_000)
        self._any: list[Message] = []
        self._kinds = list(self.shares)
        self._weights = list(self.shares.values())

    def messages(self, count: int, kind: str | None = None) -> Iterator[Message]:
        """So many, of one kind or as the shares say."""
        for _ in range(count):
            yield self.message(kind)

    def message(self, kind: str | None = None) -> Message:
        """The next one."""
        if kind is None:
            plain = self._made < self.plain_first
            kind = "finished" if plain else self._chance.choices(self._kinds, self._weights)[0]
        if kind.startswith("repeat"):
            return self._repeat(kind)
        self._made += 1
        if kind in ("bad", "large"):
            return self._bad(kind)
        event = self._event(kind)
        message = Message(kind, event["event_id"], self._key(event), encode(event))
        if kind != "in_the_future":
            self._remember(message, event["occurred_at"])
        return message

    def _event(self, kind: str) -> dict[str, Any]:
        chance = self._chance
        number = f"{self.seed}-{self._made}"
        provider, model = chance.choice(_MODELS)
        workflow = chance.choice((None, "answer", "search", "summarise"))
        event: dict[str, Any] = {
            "event_id": f"e-{number}",
            "request_id": f"r-{number}",
            "trace_id": chance.choice((None, f"t-{number}")),
            "phase": "started" if kind == "started" else "finished",
            "occurred_at": self.clock() + self._shift(kind),
            "imported": kind == "imported",
            "service": f"service-{chance.randrange(4)}",
            "instance": f"pod-{chance.randrange(8)}",
            "provider": provider,
            "model": model,
            "space_id": chance.choice((None, *(f"space-{space}" for space in range(12)))),
            "user_id": f"user-{chance.randrange(self.users)}" if chance.random() < 0.9 else None,
            "workflow": workflow,
            "workflow_version": workflow and chance.choice((None, "1", "2")),
            "region": chance.choice((None, "eu-central-1", "us-east-1")),
            "attributes": chance.choice(([], ["region=eu"], ["region=us", "tier=gold"])),
        }
        return event if kind == "started" else event | self._outcome()

    def _outcome(self) -> dict[str, Any]:
        chance = self._chance
        prompt, completion = chance.randrange(20_000), chance.randrange(2_000)
        total = int(chance.lognormvariate(14, 1.2))
        failed = chance.random() < 0.07
        outcome: dict[str, Any] = {
            "error_type": chance.choice(_ERRORS) if failed else None,
            "cache_hit": chance.random() < 0.1,
            "streamed": chance.random() < 0.5,
            "total_us": total,
            "context_us": chance.choice((None, total // 10)),
            "model_us": chance.choice((None, total // 2)),
            "first_token_us": chance.choice((None, 0, total // 5)),
            "cost_nano_usd": chance.choice((None, None, chance.randrange(10**8))),
        }
        if failed and chance.random() < 0.5:
            return outcome
        if chance.random() < 0.05:
            return outcome | {"prompt_tokens": prompt}
        return outcome | {
            "prompt_tokens": prompt,
            "cached_tokens": chance.choice((None, prompt // 3)),
            "completion_tokens": completion,
            "reasoning_tokens": chance.choice((None, completion // 2)),
        }

    def _shift(self, kind: str) -> int:
        chance = self._chance
        match kind:
            case "late":
                return -chance.randrange(HOUR)
            case "edge":
                return -chance.randrange(4 * MINUTE, 8 * MINUTE)
            case "ahead":
                return chance.randrange(4 * MINUTE)
            case "too_late":
                return -chance.choice((2, 5)) * DAY - chance.randrange(HOUR)
            case "imported":
                return -2 * YEAR - chance.randrange(30 * MINUTE)
            case "in_the_future":
                return chance.choice((HOUR, 80 * YEAR))
        return -chance.randrange(2 * SECOND)  # out of order among those of two seconds

    def _key(self, event: Mapping[str, Any]) -> bytes:
        key: str = event["user_id"] or event["request_id"]
        return key.encode()

    def _remember(self, message: Message, occurred_at: int) -> None:
        self._recent.append(message)
        self._edge.append((occurred_at, message))
        if len(self._any) < 5_000:
            self._any.append(message)
        else:
            self._any[self._chance.randrange(len(self._any))] = message

    def _repeat(self, kind: str) -> Message:
        if not self._any:
            return self.message("finished")
        if kind == "repeat_edge":
            return self._repeat_edge()
        found = self._chance.choice(self._recent if kind == "repeat_soon" else self._any)
        key = b"elsewhere-%d" % self._chance.randrange(100) if kind == "repeat_elsewhere" else found.key
        return Message(kind, found.event_id, key, found.value)

    def _repeat_edge(self) -> Message:
        """One that occurred about the horizon ago: sent now for the first time, or again."""
        now = self.clock()
        near = [one for at, one in self._edge if 4 * MINUTE <= now - at < 8 * MINUTE]
        if near and self._chance.random() < 0.6:
            return self._chance.choice(near)._replace(kind="repeat_edge")
        return self.message("edge")

    def _bad(self, kind: str) -> Message:
        event = self._event("finished")
        key = self._key(event)
        if kind == "large":
            noise = encode(event) + bytes(LARGE)
            value = self._chance.choice((noise, encode(event | {"instance": "x" * LARGE})))
            return Message("large", event["event_id"], key, value)
        name = self._chance.choice(list(BAD))
        return Message(f"bad_{name}", event["event_id"], key, BAD[name][1](event, self._chance))

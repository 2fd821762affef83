"""What docs/events.md says is so."""

import json
import re
from pathlib import Path

from schemas import contract, topics
from schemas.codec import Codec
from schemas.columnar import ColumnarReader
from schemas.errors import Reason
from schemas.reference import renewed
from tests.schemas.events import offsets

PAGE = Path(__file__).parents[2].joinpath("docs/events.md").read_text("utf-8")


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found, f"a block of {language}"
    return found[1]


def test_the_generated_part_is_up_to_date() -> None:
    assert renewed(PAGE) == PAGE, "renew it: python -m schemas.reference docs/events.md"


def test_every_fingerprint_is_there() -> None:
    for name in contract.names():
        assert f"`{contract.schema(name).fingerprint.hex(' ')}`" in PAGE


def test_the_example_is_what_the_codec_writes() -> None:
    octets = bytes.fromhex("".join(line[:38] for line in block("hex").splitlines()))
    record = json.loads(block("json"))
    schema = contract.schema("Sample")
    assert Codec(schema).encode(record) == octets
    batch = ColumnarReader(schema).read([octets], offsets([octets]))
    assert batch.frame["name"].to_list() == ["queue_depth"]
    assert list(record) == list(schema.fields)


def test_every_reason_and_no_other_is_explained() -> None:
    explained = re.findall(r"^\| `(\w+)` \|", section("What is refused"), re.MULTILINE)
    assert explained == [reason.value for reason in Reason]
    for reason in Reason:
        assert reason.value in contract.schema("DeadLetter").fields["reason"]["doc"]


def test_the_topics_are_those_of_the_events() -> None:
    table = re.findall(r"^\| `(chat\.\w+)` \| `(\w+)` \|", section("Topics and keys"), re.MULTILINE)
    events = (topics.REQUESTS, topics.SPANS, topics.SAMPLES)
    assert table == [(topic.name, topic.record) for topic in events]

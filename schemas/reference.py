"""The generated part of `docs/events.md`: `python -m schemas.reference docs/events.md` renews it."""

import json
import sys
from pathlib import Path

from schemas import contract
from schemas.contract import Schema
from schemas.resolution import FieldType, field_types
from schemas.topics import TOPICS

BEGIN = "<!-- generated from schemas/*.avsc by `python -m schemas.reference docs/events.md` -->"
END = "<!-- end of the generated part -->"
EVENTS = ("RequestEvent", "SpanEvent", "Sample")
"""The records that others than Chatgauge publish."""


def reference() -> str:
    """Markdown: the fingerprint of each record, and the fields of those that services publish."""
    lines = [BEGIN, "", "| record | topics | fingerprint, as on the wire |", "|---|---|---|"]
    for name in contract.names():
        topics = ", ".join(f"`{topic.name}`" for topic in TOPICS if topic.record == name)
        lines.append(f"| `{name}` | {topics} | `{contract.schema(name).fingerprint.hex(' ')}` |")
    for name in EVENTS:
        lines += ["", *_table(contract.schema(name))]
    return "\n".join([*lines, "", END])


def renewed(page: str) -> str:
    """The page with its generated part as it should be."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + reference() + after


def _table(schema: Schema) -> list[str]:
    lines = [f"### {schema.name}", "", schema.definition["doc"], ""]
    lines += ["| field | type | default | |", "|---|---|---|---|"]
    types = field_types(schema)
    for name, field in schema.fields.items():
        default = f"`{json.dumps(field['default'])}`" if "default" in field else "required"
        lines.append(f"| `{name}` | {_type(types[name])} | {default} | {field['doc']} |")
    return lines


def _type(kind: FieldType) -> str:
    if kind.kind == "enum":
        return "enum: " + ", ".join(f"`{symbol}`" for symbol in kind.symbols)
    name = "array of string" if kind.kind == "array" else kind.kind
    return f"{name} or null" if kind.nullable else name


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(renewed(path.read_text("utf-8")), "utf-8")

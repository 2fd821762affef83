"""What people set up: rules, endpoints and silences, and the key that it takes."""

from collections.abc import Mapping
from typing import Final

from api.definitions.store import DefinitionKind, DefinitionReader, DefinitionStore, DefinitionWriter
from api.times import Clock
from schemas.topics import ACCESS, ENDPOINTS, RULES, SILENCES

FOLLOWED: Final = (RULES, ENDPOINTS, SILENCES, ACCESS)
"""The topics whose definitions are followed."""
_RULE: Final = DefinitionKind(
    RULES,
    "rule",
    "/api/rules",
    "write an entry with its id into a YAML file of the folder CHATGAUGE_ALERTS_RULES; the fields that it "
    "names are changed (`enabled: false` switches the rule off).",
)
_ENDPOINT: Final = DefinitionKind(ENDPOINTS, "endpoint", "/api/endpoints", "change the file.")
_SILENCE: Final = DefinitionKind(SILENCES, "silence", "/api/silences", "change the file.")


class Definitions:
    """The definitions of all kinds. `readers` follow the topics of FOLLOWED, by name."""

    def __init__(
        self, readers: Mapping[str, DefinitionReader], writer: DefinitionWriter, clock: Clock
    ) -> None:
        self.readers = readers
        self.rules = DefinitionStore(_RULE, readers[RULES.name], writer, clock)
        self.endpoints = DefinitionStore(_ENDPOINT, readers[ENDPOINTS.name], writer, clock)
        self.silences = DefinitionStore(_SILENCE, readers[SILENCES.name], writer, clock)

    def failures(self) -> list[str]:
        """Which topics are not being read, and why."""
        return [reader.failure for reader in self.readers.values() if reader.failure is not None]

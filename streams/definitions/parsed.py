"""The definitions of a topic, parsed: each revision once."""

import logging
from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeVar

from schemas.topics import Topic
from streams.definitions.definition import Definition
from streams.definitions.topic import DefinitionTopic

log = logging.getLogger(__name__)

_Parsed = TypeVar("_Parsed")
_NO_OBJECT: Final = (ValueError, TypeError, AttributeError)
"""What comes of JSON that is no object at all."""


class ParsedDefinitions(Generic[_Parsed]):
    """The definitions of a topic as `parse` returns them. Where it refuses one, the revision before holds."""

    def __init__(
        self,
        bootstrap: str,
        topic: Topic,
        parse: Callable[[Definition], _Parsed],
        on_change: Callable[[], None],
        refusals: tuple[type[Exception], ...] = (),
    ) -> None:
        self.topic = DefinitionTopic(bootstrap, topic, self._changed)
        self.by_id: Mapping[str, _Parsed] = {}
        self._name = topic.name
        self._parse = parse
        self._on_change = on_change
        self._refusals: tuple[type[Exception], ...] = (*refusals, *_NO_OBJECT)
        self._versions: dict[str, Definition] = {}

    def _changed(self) -> None:
        parsed: dict[str, _Parsed] = {}
        for id_, definition in self.topic.items.items():
            if id_ in self.by_id and self._versions.get(id_) == definition:
                parsed[id_] = self.by_id[id_]
                continue
            try:
                parsed[id_] = self._parse(definition)
            except self._refusals as error:
                log.error("%s, %s, revision %d: %s", self._name, id_, definition.revision, error)
                if id_ in self.by_id:
                    parsed[id_] = self.by_id[id_]
        self._versions = dict(self.topic.items)
        self.by_id = parsed
        self._on_change()

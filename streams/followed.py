"""The definitions of a topic as what they define: each version is read once."""

import logging
from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeVar

from schemas.topics import Topic
from streams.definition_catalogue import Catalogue
from streams.definitions import Definition

log = logging.getLogger(__name__)

_Read = TypeVar("_Read")
_NO_OBJECT: Final = (ValueError, TypeError, AttributeError)
"""What comes of JSON that is no object at all."""


class Followed(Generic[_Read]):
    """The definitions of a topic, read by `parse`. Of one that it refuses, the version before holds."""

    def __init__(
        self,
        bootstrap: str,
        topic: Topic,
        parse: Callable[[Definition], _Read],
        on_change: Callable[[], None],
        refusals: tuple[type[Exception], ...] = (),
    ) -> None:
        self.catalogue = Catalogue(bootstrap, topic, self._changed)
        self.by_id: Mapping[str, _Read] = {}
        self._topic = topic
        self._parse = parse
        self._on_change = on_change
        self._refusals: tuple[type[Exception], ...] = (*refusals, *_NO_OBJECT)
        self._versions: dict[str, Definition] = {}

    def _changed(self) -> None:
        read: dict[str, _Read] = {}
        for id_, definition in self.catalogue.items.items():
            if id_ in self.by_id and self._versions.get(id_) == definition:
                read[id_] = self.by_id[id_]
                continue
            try:
                read[id_] = self._parse(definition)
            except self._refusals as error:
                log.error("%s, %s, revision %d: %s", self._topic.name, id_, definition.revision, error)
                if id_ in self.by_id:
                    read[id_] = self.by_id[id_]
        self._versions = dict(self.catalogue.items)
        self.by_id = read
        self._on_change()

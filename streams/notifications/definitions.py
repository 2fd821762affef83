"""What people have set up, read from its topics, as the notifier and the subscriptions obey it."""

from collections.abc import Callable, Mapping
from typing import Final

from schemas.topics import ENDPOINTS, RULES, SILENCES
from streams.alerts.errors import RuleError
from streams.alerts.rule import RuleBase, parse_rule
from streams.definitions.parsed import ParsedDefinitions
from streams.endpoints.endpoint import Endpoint, parse_endpoint
from streams.endpoints.errors import EndpointError
from streams.notifications.errors import SilenceError
from streams.notifications.silence import Acknowledgement, Silence, parse_silence

_REFUSALS: Final = (RuleError, EndpointError, SilenceError)


class Definitions:
    """Rules, endpoints and silences, followed from `begin` to `end`."""

    def __init__(self, bootstrap: str) -> None:
        self.version = 0
        """Counts the changes."""
        self._listeners: list[Callable[[], None]] = []
        self._rules = ParsedDefinitions[RuleBase](
            bootstrap, RULES, lambda d: parse_rule(d.definition), self._changed, _REFUSALS
        )
        self._endpoints = ParsedDefinitions[Endpoint](
            bootstrap, ENDPOINTS, lambda d: parse_endpoint(d.definition), self._changed, _REFUSALS
        )
        self._silences = ParsedDefinitions[Silence | Acknowledgement](
            bootstrap, SILENCES, lambda d: parse_silence(d.definition), self._changed, _REFUSALS
        )
        self._topics = [each.topic for each in (self._rules, self._endpoints, self._silences)]

    @property
    def rules(self) -> Mapping[str, RuleBase]:
        """The rules by id."""
        return self._rules.by_id

    @property
    def endpoints(self) -> Mapping[str, Endpoint]:
        """The endpoints by id, disabled ones too."""
        return self._endpoints.by_id

    @property
    def silences(self) -> Mapping[str, Silence | Acknowledgement]:
        """Silences and acknowledgements by id."""
        return self._silences.by_id

    def endpoint_changed_at(self, id_: str) -> int:
        """When an endpoint was set up as it is, in microseconds since 1970; 0 for one that is not there."""
        definition = self._endpoints.topic.items.get(id_)
        return 0 if definition is None else definition.changed_at

    def listen(self, listener: Callable[[], None]) -> None:
        """Have it called, in the event loop, whenever something has changed."""
        self._listeners.append(listener)

    async def begin(self) -> None:
        """Return when everything has been read that was there."""
        for topic in self._topics:
            await topic.__aenter__()
        for topic in self._topics:
            await topic.ready()

    async def end(self) -> None:
        """Follow no more."""
        for topic in self._topics:
            await topic.__aexit__()

    def _changed(self) -> None:
        self.version += 1
        for listener in self._listeners:
            listener()

"""The rules of `chat.rules` as they are now, for the agents of a worker."""

import asyncio
import logging
from typing import Final

from infra.settings import AlertSettings
from schemas.topics import RULES
from streams.alerts import metrics
from streams.alerts.errors import RuleError
from streams.alerts.judged import RuleVersion
from streams.alerts.provisioner import Provisioner
from streams.alerts.rule import parse_rule
from streams.definitions.definition import Definition
from streams.definitions.parsed import ParsedDefinitions
from streams.definitions.publisher import DefinitionPublisher

log = logging.getLogger(__name__)

_PROVISIONED_WITHIN_S: Final = 10.0


class Rulebook:
    """Follows `chat.rules`, and brings to it what the files say. Begun once, by whoever comes first."""

    def __init__(self, bootstrap: str, settings: AlertSettings) -> None:
        self.version = 0
        """Counts the changes."""
        self.rules: tuple[RuleVersion, ...] = ()
        self._followed = ParsedDefinitions[RuleVersion | None](bootstrap, RULES, _rule, self._changed)
        self._catalogue = self._followed.topic
        self._registrar = DefinitionPublisher(bootstrap)
        self._provisioner = Provisioner(
            settings.rules, settings.default_rules, self._catalogue, self._registrar
        )
        self._provisioning: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Return when the rules that there are have been read, those of the files with them."""
        if self._provisioning is None:
            self._provisioning = asyncio.create_task(self._provisioner.run())
            await self._catalogue.__aenter__()
        await self._catalogue.ready()
        try:
            await asyncio.wait_for(self._provisioner.looked.wait(), _PROVISIONED_WITHIN_S)
        except TimeoutError:
            log.warning("rules from files are not there yet; judging begins without them")

    async def end(self) -> None:
        """Follow no more."""
        if self._provisioning is not None:
            self._provisioning.cancel()
            await asyncio.gather(self._provisioning, return_exceptions=True)
            self._provisioning = None
            await self._catalogue.__aexit__()
            await self._registrar.stop()

    def _changed(self) -> None:
        self.rules = tuple(version for version in self._followed.by_id.values() if version is not None)
        self.version += 1
        metrics.RULES.set(sum(version.rule.enabled for version in self.rules))


def _rule(definition: Definition) -> RuleVersion | None:
    try:
        return RuleVersion(parse_rule(definition.definition), definition.revision)
    except RuleError as error:
        # The API and the files refuse it: it was written by something else, or by a later version.
        log.error("rule %s, revision %d, is not judged: %s", definition.id, definition.revision, error)
        return None

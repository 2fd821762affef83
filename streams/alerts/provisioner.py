"""Sees to it that `chat.rules` holds what the files say: those that are shipped, and a folder's."""

import asyncio
import logging
from pathlib import Path
from typing import Final

from aiokafka.errors import KafkaError

from schemas.time import clock
from schemas.topics import RULES
from streams.alerts import metrics
from streams.alerts.provisioning import Change, Reading, difference, read_rules
from streams.catalogue import Catalogue
from streams.definitions import Definition, Registrar

log = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 2.0
_SEEN_WITHIN_S: Final = 10.0


class Provisioner:
    """Reads the files again and again, and publishes the difference. Several may do so side by side."""

    def __init__(self, folder: Path | None, shipped: bool, rules: Catalogue, registrar: Registrar) -> None:
        self._folder = folder
        self._shipped = shipped
        self._rules = rules
        self._registrar = registrar
        self._reported: set[str] = set()
        self._last: Reading | None = None
        self.looked = asyncio.Event()
        """Set once the rules of the files have been published."""

    async def run(self) -> None:
        """Until cancelled."""
        await self._rules.ready()
        while True:
            try:
                await self.look()
            except (KafkaError, TimeoutError) as error:
                log.warning("rules from files wait: Kafka does not take them (%s)", type(error).__name__)
            await asyncio.sleep(_LOOK_EVERY_S)

    async def look(self) -> None:
        """Read the files, and publish what differs. Raises KafkaError or TimeoutError when Kafka is away."""
        reading = await asyncio.to_thread(read_rules, self._folder, self._shipped)
        before, self._last = self._last, reading
        if before is not None and before != reading:
            return  # a file may be half written: it holds when it is the same once more
        found = difference(reading, self._rules.items)
        self._report({str(problem) for problem in (*reading.problems, *found.problems)})
        offset = -1
        for change in found.changes:
            offset = await self._publish(change, reading)
        if offset >= 0:
            async with asyncio.timeout(_SEEN_WITHIN_S):
                await self._rules.reached(offset)
        self.looked.set()

    async def _publish(self, change: Change, reading: Reading) -> int:
        if change.definition is None:
            log.info("rule %s: taken back, no file has it any more", change.id)
            return await self._registrar.delete(RULES, change.id)
        present = self._rules.items.get(change.id)
        held = reading.rules[change.id]
        revision = present.revision + 1 if present else 1
        log.info("rule %s: revision %d, from %s:%d", change.id, revision, held.file, held.line)
        definition = Definition(change.id, revision, True, clock(), held.file, change.definition)
        return await self._registrar.publish(RULES, definition)

    def _report(self, problems: set[str]) -> None:
        for problem in sorted(problems - self._reported):
            log.error("%s", problem)
        for _ in self._reported - problems:
            log.info("a problem with the rules' files is mended")
        self._reported = problems
        metrics.RULE_PROBLEMS.set(len(problems))

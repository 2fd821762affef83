"""Rules, as they are sent."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api.definitions.editor import Draft
from api.definitions.store import DefinitionStore
from api.errors import Fault, InvalidError, sentence
from api.models.rules import RuleAnswer
from streams.alerts.errors import RuleError
from streams.alerts.rule import Rule, dumped, parse_rule


@dataclass(frozen=True)
class RuleEditor:
    """Makes rules out of what is sent."""

    store: DefinitionStore

    async def new(self, document: Mapping[str, Any]) -> Draft:
        """Without `id` it gets one that is made of its name."""
        return _draft(new_rule(document))

    async def changed(self, key: str, document: Mapping[str, Any]) -> Draft:
        """The rule keeps its id."""
        rule = parsed({"id": key, **document})
        if rule.id != key:
            raise InvalidError(
                [Fault("rule.id", f"A rule keeps its id: leave it out, or write {key!r}, as in the address.")]
            )
        return _draft(rule)


def new_rule(document: Mapping[str, Any]) -> Rule:
    """The rule that was sent, its id made of its name when it has none. Raises InvalidError."""
    if "id" in document:
        return parsed(document)
    made = re.sub(r"[^a-z0-9]+", "-", str(document.get("name", "")).lower()).strip("-")[:60].strip("-")
    return parsed({"id": made or "rule", **document})


def parsed(document: Mapping[str, Any]) -> Rule:
    """The rule. Raises InvalidError with all that is wrong."""
    try:
        return parse_rule(document, ("rule",))
    except RuleError as error:
        raise InvalidError(
            [
                Fault(each.where, sentence(f"{each.message}: {each.right}" if each.right else each.message))
                for each in error.faults
            ]
        ) from None


def _draft(rule: Rule) -> Draft:
    return Draft(rule.id, dumped(rule), RuleAnswer.of)

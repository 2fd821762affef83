"""What people have set up, as a command finds it: in Kafka, and in files."""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from infra.settings import AlertSettings, KafkaSettings
from schemas.topics import ENDPOINTS, RULES, Topic
from streams.alerts.errors import RuleError
from streams.alerts.measures import nearest
from streams.alerts.provisioning import Reading, read_rules, read_texts
from streams.alerts.rule import Rule, parse_rule
from streams.definitions.definition import Definition
from streams.definitions.topic import DefinitionTopic
from streams.endpoints.endpoint import Endpoint, parse_endpoint
from streams.endpoints.errors import EndpointError

_WITHIN_S: Final = 8.0
_LOOK_EVERY_S: Final = 0.1
_FILES: Final = (".yaml", ".yml")


class NoSuchRuleError(Exception):
    """There is no such rule, or it is wrong; the message says what to do."""


class KafkaAwayError(Exception):
    """Kafka did not answer in time."""


def is_file(name: str) -> bool:
    """Whether a rule is named by a file, as `rules.yaml` or `rules.yaml#id`."""
    return Path(name.partition("#")[0]).suffix in _FILES


def rule_of_file(name: str) -> Rule:
    """The rule in a file; `#id` behind the name says which, where there are several.

    Raises NoSuchRuleError.
    """
    path, _, wanted = name.partition("#")
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise NoSuchRuleError(f"{path} can't be read: {error}") from error
    return _chosen(read_texts([(path, text)]), path, wanted)


def rule_of_files(wanted: str) -> Rule:
    """A rule of the provisioned folder, or one that is shipped. Raises NoSuchRuleError."""
    settings = AlertSettings()
    reading = read_rules(settings.rules, settings.default_rules)
    return _chosen(reading, str(settings.rules or "the rules that are shipped"), wanted)


def rule_of_kafka(wanted: str) -> Rule | None:
    """The rule of that id on `chat.rules`; None where there is none. Raises KafkaAwayError, and
    NoSuchRuleError for one that this version can't read."""
    found = asyncio.run(_followed(RULES)).get(wanted)
    if found is None:
        return None
    try:
        return parse_rule(found.definition)
    except RuleError as error:
        raise NoSuchRuleError(f"{wanted} on {RULES.name} can't be read:\n{error}") from error


def endpoints() -> dict[str, Endpoint]:
    """The endpoints that can be read, by id. Raises KafkaAwayError."""
    found = {}
    for id_, definition in asyncio.run(_followed(ENDPOINTS)).items():
        try:
            found[id_] = parse_endpoint(definition.definition)
        except EndpointError:
            logging.getLogger(__name__).warning("the endpoint %s can't be read, and is left out", id_)
    return found


async def _followed(topic: Topic) -> Mapping[str, Definition]:
    # The client says in many lines what our error says in one.
    for library in ("aiokafka", "clients.kafka", "streams.definitions.topic"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    bootstrap = KafkaSettings().bootstrap
    async with DefinitionTopic(bootstrap, topic) as followed:
        unread, ready = followed.failure, asyncio.ensure_future(followed.ready())
        try:
            for _ in range(round(_WITHIN_S / _LOOK_EVERY_S)):
                await asyncio.wait([ready], timeout=_LOOK_EVERY_S)
                if ready.done() or followed.failure not in (None, unread):
                    break
            if ready.done():
                ready.result()
                return dict(followed.items)
        finally:
            ready.cancel()
    raise KafkaAwayError(f"Kafka at {bootstrap} does not answer, or has no topic {topic.name}")


def _chosen(reading: Reading, where: str, wanted: str) -> Rule:
    found = {id_: held.rule for id_, held in reading.rules.items() if not wanted or id_ == wanted}
    if len(found) == 1:
        return next(iter(found.values()))
    problems = [str(one) for one in reading.problems if not wanted or one.rule_id in (wanted, None)]
    if problems:
        raise NoSuchRuleError("\n".join(problems))
    if not reading.rules:
        raise NoSuchRuleError(f"{where} has no rules: write them in a list under rules:")
    if not wanted:
        first, *_ = reading.rules
        raise NoSuchRuleError(
            f"{where} has {len(reading.rules)} rules ({', '.join(reading.rules)}): say which, as in "
            f"{where}#{first}"
        )
    raise NoSuchRuleError(f"there is no rule {wanted!r}: {nearest(wanted, reading.rules)}")

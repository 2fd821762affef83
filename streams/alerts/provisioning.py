"""Rules from files: a folder of YAML, laid over the rules that are shipped.

A rule that is wrong is refused, with its file and line; the others hold, and so does what the refused
one said before. Nothing is taken back while a file can't be read: it may have said so.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol

from streams.alerts import faults
from streams.alerts.errors import Fault, ProvisioningError, RuleError
from streams.alerts.located_yaml import Document, read
from streams.alerts.measures import nearest
from streams.alerts.rule import Rule, dumped, parse_rule

SHIPPED: Final = Path(__file__).with_name("default_rules.yaml")
"""The rules that come with the product."""
_MOST_BYTES: Final = 1 << 20
_ENDINGS: Final = (".yaml", ".yml")


@dataclass(frozen=True)
class Provisioned:
    """A rule, and where it was written."""

    rule: Rule
    file: str
    line: int


@dataclass(frozen=True)
class Problem:
    """Something that keeps a rule, or a file of them, from being taken."""

    file: str
    fault: Fault
    rule_id: str | None = None
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        at = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return f"{at}: {f'{self.rule_id}: ' if self.rule_id else ''}{self.fault}"


@dataclass(frozen=True)
class Reading:
    """What the files say."""

    rules: Mapping[str, Provisioned] = field(default_factory=dict)
    """The rules that hold, by id."""
    problems: tuple[Problem, ...] = ()
    refused: frozenset[str] = frozenset()
    """Ids of rules that are wrong: what they said before holds."""
    whole: bool = True
    """False when something couldn't be read as far as to know whose rule it is."""


class Present(Protocol):
    """A definition on `chat.rules`."""

    @property
    def provisioned(self) -> bool:
        """Whether it came from a file."""

    @property
    def definition(self) -> Mapping[str, Any]:
        """What it says."""


@dataclass(frozen=True)
class Change:
    """What `chat.rules` is to be told: the rule's present definition; None takes it back."""

    id: str
    definition: dict[str, Any] | None


@dataclass(frozen=True)
class Difference:
    """What is to be told so that `chat.rules` says what the files say."""

    changes: tuple[Change, ...]
    problems: tuple[Problem, ...] = ()
    """Rules of files whose ids belong to rules that were made through the API."""


def read_rules(folder: Path | None, shipped: bool = True) -> Reading:
    """The rules of the folder's `*.yaml` and `*.yml`, also in folders below, laid over the shipped ones.

    Hidden files and folders are left out. Never raises: what is wrong is in `problems`.
    """
    texts, unread = _texts(folder) if folder is not None else ([], [])
    reading = _remembered(tuple(texts), SHIPPED.read_text(encoding="utf-8") if shipped else "")
    if not unread:
        return reading
    return Reading(reading.rules, (*unread, *reading.problems), reading.refused, whole=False)


def read_texts(texts: Sequence[tuple[str, str]], shipped: str = "") -> Reading:
    """The rules in texts, each with the name of its file, laid over the shipped ones.

    An entry with the id of a shipped rule changes the fields that it names; with another kind it replaces
    the rule.
    """
    collected = _Collected()
    collected.take(SHIPPED.name, shipped)
    collected.defaults = {id_: dumped(held.rule) for id_, held in collected.rules.items()}
    for file, text in texts:
        collected.take(file, text)
    return Reading(
        MappingProxyType(collected.rules),
        tuple(collected.problems),
        frozenset(collected.refused),
        whole=collected.whole,
    )


_remembered = lru_cache(maxsize=2)(read_texts)
"""Files are looked at far more often than they change, and reading YAML takes long."""


def difference(wanted: Reading, present: Mapping[str, Present]) -> Difference:
    """What changes `present`, the definitions on `chat.rules` by id, into what the files say.

    Rules that were made through the API are left alone. What files no longer say is taken back, unless a
    file couldn't be read; what a refused rule said before stays.
    """
    changes, problems = [], []
    for id_, held in wanted.rules.items():
        definition, known = dumped(held.rule), present.get(id_)
        if known is not None and not known.provisioned:
            fault = Fault(
                "id", "a rule with this id was made through the API", "delete that, or choose another id"
            )
            problems.append(Problem(held.file, fault, id_, held.line))
        elif known is None or not _says(known.definition, held.rule):
            changes.append(Change(id_, definition))
    if wanted.whole:
        gone = present.keys() - wanted.rules.keys() - wanted.refused
        changes += [Change(id_, None) for id_ in sorted(gone) if present[id_].provisioned]
    return Difference(tuple(changes), tuple(problems))


def _says(definition: Mapping[str, Any], rule: Rule) -> bool:
    try:
        return parse_rule(definition) == rule
    except RuleError:
        return False


class _Collected:
    """The rules of the files read so far."""

    def __init__(self) -> None:
        self.rules: dict[str, Provisioned] = {}
        self.problems: list[Problem] = []
        self.refused: set[str] = set()
        self.whole = True
        self.defaults: Mapping[str, Mapping[str, Any]] = {}
        self._first: dict[str, str] = {}

    def take(self, file: str, text: str) -> None:
        try:
            document = read(text)
        except ProvisioningError as error:
            self.whole = False
            fault = Fault("", error.message, error.right)
            self.problems.append(Problem(file, fault, None, *(error.position or (None, None))))
            return
        entries = self._entries(file, document)
        for index, entry in enumerate(entries):
            self._take_rule(file, document, index, entry)

    def _entries(self, file: str, document: Document) -> list[Any]:
        data = document.data
        if data is None:
            return []
        if not isinstance(data, dict):
            self._report(file, document, [faults.fault((), "there are no rules here", "begin with rules:")])
            self.whole = False
            return []
        for key in data:
            if key != "rules":
                fault = faults.fault((str(key),), "there is no such field", nearest(str(key), ["rules"]))
                self._report(file, document, [fault])
                self.whole = False
        entries = data.get("rules")
        if entries is None:
            return []
        if not isinstance(entries, list):
            fault = faults.fault(("rules",), "this is no list", "begin each rule with a dash")
            self._report(file, document, [fault])
            self.whole = False
            return []
        return entries

    def _take_rule(self, file: str, document: Document, index: int, entry: object) -> None:
        at = ("rules", index)
        id_ = entry.get("id") if isinstance(entry, dict) else None
        id_ = id_ if isinstance(id_, str) else None
        line = document.position(at).line
        if id_ in self._first:
            fault = faults.fault(
                (*at, "id"), f"{self._first[id_]} has a rule of this id", "choose another id"
            )
            self._report(file, document, [fault], id_)
            return
        try:
            rule = parse_rule(self._laid_over(entry, id_), at)
        except RuleError as error:
            self._report(file, document, error.faults, id_)
            if id_ is None:
                self.whole = False
            else:
                self._first[id_] = f"{file}:{line}"
                self.refused.add(id_)
                self.rules.pop(id_, None)
            return
        if self.defaults or file != SHIPPED.name:
            self._first[rule.id] = f"{file}:{line}"
        self.rules[rule.id] = Provisioned(rule, file, line)

    def _laid_over(self, entry: object, id_: str | None) -> object:
        default = self.defaults.get(id_ or "")
        if default is None or not isinstance(entry, dict):
            return entry
        if entry.get("kind", default["kind"]) != default["kind"]:
            return entry
        return {**default, **entry}

    def _report(self, file: str, document: Document, found: Iterable[Fault], id_: str | None = None) -> None:
        for fault in found:
            self.problems.append(Problem(file, fault, id_, *document.position(fault.path)))


def _texts(folder: Path) -> tuple[list[tuple[str, str]], list[Problem]]:
    """The files' names, from the folder on, and texts; and those that couldn't be read."""
    if not folder.is_dir():
        fault = Fault("", "there is no such folder", "make it, or set CHATGAUGE_ALERTS_RULES")
        return [], [Problem(str(folder), fault)]
    texts, unread = [], []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.suffix not in _ENDINGS or any(part.startswith(".") for part in name.parts):
            continue
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise ValueError("it is larger than 1 MiB")
            texts.append((str(folder / name), path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            unread.append(Problem(str(path), Fault("", f"it can't be read: {error}")))
    return texts, unread

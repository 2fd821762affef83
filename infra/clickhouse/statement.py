"""What the HTTP interface must know of a statement: its kind, its format, and where its data begin.

Only tokens are told apart (strings, quoted names, comments, words); the grammar is the engine's business.
"""

import re
from dataclasses import dataclass

from infra.clickhouse.errors import SYNTAX_ERROR, ClickHouseError

_TOKEN = re.compile(
    rb"""
      (?P<blank> \s+ | --[^\n]* | \#[!\ ][^\n]* | /\*.*?\*/ )
    | (?P<quoted> '(?:[^'\\]|\\.|'')*' | `(?:[^`\\]|\\.|``)*` | "(?:[^"\\]|\\.|"")*"
        | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$ )
    | (?P<unclosed> (?: ['`"] | /\* | \$\w*\$ ) .* )
    | (?P<word> [A-Za-z_][A-Za-z0-9_]* )
    | (?P<number> [0-9][A-Za-z0-9_.]* )
    | (?P<other> . )
    """,
    re.DOTALL | re.VERBOSE,
)
_LINE_END = re.compile(rb"[ \t\r]*\n?")

_CHANGES = frozenset(
    b"ALTER ATTACH BACKUP CREATE DELETE DETACH DROP EXCHANGE GRANT INSERT KILL MOVE OPTIMIZE RENAME REPLACE "
    b"RESTORE REVOKE SYSTEM TRUNCATE UNDROP UPDATE".split()
)
_READS = frozenset((b"SELECT", b"WITH", b"("))


@dataclass(frozen=True)
class Statement:
    """One statement.

    `text` is what to execute. `data_from` is the offset in the text it was parsed from at which the data
    of an INSERT begin, and None when there are none. If there are, `text` ends before SETTINGS, FORMAT and
    VALUES, `settings` are its SETTINGS, and `format` is the data's. Otherwise `format` is what the
    statement asks for its result, if it does.
    """

    kind: bytes
    text: bytes
    format: str | None = None
    settings: bytes = b""
    data_from: int | None = None
    temporary: bool = False
    totals: bool = False

    @property
    def changes(self) -> bool:
        """Whether it changes data or structure, which a GET request must not."""
        return self.kind in _CHANGES

    @property
    def reads(self) -> bool:
        """Whether its result is a table of rows that can be sent as they come."""
        return self.kind in _READS and not self.totals

    @property
    def keeps_state(self) -> bool:
        """Whether later statements of the session depend on it."""
        return self.kind in (b"SET", b"USE") or self.temporary


def parse(sql: bytes) -> Statement:
    """`ClickHouseError` (syntax) when there is nothing to execute, or more than one statement."""
    kind = b""
    depth = 0
    words: list[tuple[bytes, int]] = []  # at depth 0, with where they begin
    end = len(sql)
    selects = ended = False
    for token in _TOKEN.finditer(sql):
        group = token.lastgroup
        if group == "blank":
            continue
        text = token[0]
        if text == b";" and not depth:
            end = end if ended else token.start()
            ended = True
            continue
        if ended:
            raise ClickHouseError.of(
                SYNTAX_ERROR,
                f"Syntax error (Multi-statements are not allowed): failed at position {end + 1} (;)",
            )
        kind = kind or text.upper()
        if group == "other":
            depth += (text in b"([{") - (text in b")]}")
        if group != "word" or depth:
            continue
        word = text.upper()
        if kind == b"INSERT":
            if word == b"VALUES" and not selects:
                return _with_data(sql, words, token.start(), "Values", token.end())
            if words and words[-1][0] == b"FORMAT" and not selects:
                starts = _LINE_END.match(sql, token.end())
                data_from = starts.end() if starts else token.end()
                return _with_data(sql, words, words[-1][1], text.decode(), data_from)
            selects = selects or word in (b"SELECT", b"WITH")
        words.append((word, token.start()))
    if not kind:
        raise ClickHouseError.of(SYNTAX_ERROR, "Syntax error: Empty query")
    names = [word for word, _ in words]
    return Statement(
        kind,
        sql[:end].rstrip(),
        _asked_format(sql, words),
        temporary=kind in (b"CREATE", b"REPLACE") and b"TEMPORARY" in names[:5],
        totals=b"TOTALS" in names,
    )


def _with_data(
    sql: bytes, words: list[tuple[bytes, int]], end: int, wanted: str, data_from: int
) -> Statement:
    settings = next((start for word, start in words if word == b"SETTINGS"), end)
    return Statement(b"INSERT", sql[:settings], wanted, sql[settings:end], data_from)


def _asked_format(sql: bytes, words: list[tuple[bytes, int]]) -> str | None:
    # «FORMAT name» stands at the end; a column may be called format too.
    for (word, _), (_, start) in zip(reversed(words[:-1]), reversed(words[1:]), strict=True):
        if word == b"FORMAT":
            name = _TOKEN.match(sql, start)
            return name[0].decode() if name else None
    return None

"""SQL files: their statements."""

import re


def statements(sql: str) -> list[str]:
    """The statements, without the comment lines between them.

    A statement ends with a semicolon at the end of a line.
    """
    lines = "\n".join(line for line in sql.splitlines() if not line.startswith("--"))
    return [part.strip().removesuffix(";") for part in re.split(r";[ \t]*\n", lines) if part.strip()]

"""The changes that are made of a module."""

import ast
from pathlib import Path

from tests.mutants.operators import mutants

ROOT = Path(__file__).parents[2]


def _changes(source: str) -> set[str]:
    return {each.name for each in mutants(source)}


def test_every_place_is_changed_by_itself() -> None:
    assert _changes("def f(a):\n    return a < 3 and a != 1\n") == {
        "return a < 3 and a != 1 -> return None",
        "a < 3 and a != 1 -> (a < 3 or a != 1)",
        "a < 3 and a != 1 -> (a < 3)",
        "a < 3 and a != 1 -> (a != 1)",
        "a < 3 -> (a <= 3)",
        "3 -> (4)",
        "3 -> (2)",
        "a != 1 -> (a == 1)",
        "1 -> (2)",
        "1 -> (0)",
    }


def test_constants_of_the_module_and_statements_are_changed() -> None:
    assert _changes("A = True\n") == {"True -> (False)"}
    assert _changes("a.append(b)\n") == {"a.append(b) -> pass"}
    assert "a[0] = b -> pass" in _changes("a[0] = b\n")
    assert _changes("n += b\n") == {"n += b -> pass", "n += b -> n -= b"}
    assert "x[1:] -> (x[:])" in _changes("y = x[1:]\n")
    assert {"without a=1", "without b=c.d"} < _changes("f(a=1,\n  b=c.d)\n")


def test_what_says_nothing_about_the_product_is_left() -> None:
    assert _changes('"""Docs."""\nimport a\nx: "Literal[1]"\nassert a == 1\nf"{a + 1}"\n') == set()
    assert _changes('T = TypeVar("T")\nx = cast("list[int]", a)\n') == set()
    assert _changes('x = cast("int", not a)\n') == {"not a -> (a)"}


def test_each_change_is_one_of_a_module_that_compiles() -> None:
    for path in ("streams/windows/packing.py", "streams/runtime/continuity.py"):
        source = (ROOT / path).read_text()
        made = mutants(source)
        assert len(made) > 10
        for each in made:
            ast.parse(each.source)
            assert each.source != source
        assert len({each.source for each in made}) == len(made)


def test_positions_hold_behind_letters_of_several_bytes() -> None:
    (changed,) = [each for each in mutants('a = "ä" if b else c\n') if each.after == "(c)"]

    assert changed.source == "a = (c)\n"

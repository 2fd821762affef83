"""The whole of `python -m tests.mutants`, on a module made for it."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clients.kafka.consumers import consuming
from tests.mutants.__main__ import Explanation, Named, judged, named_or_mirror
from tests.mutants.operators import mutants
from tests.mutants.trial import KAFKA, Module, TrialError, Verdict, kafka, try_all

SOURCE = "def larger(a, b):\n    return a if a > b else b\n"
TESTS = "from given.largest import larger\n\ndef test_it():\n    assert larger(1, 2) == larger(2, 1) == 2\n"
EQUAL = Explanation(
    "given/largest.py", "return a if a > b else b", "a > b -> (a >= b)", "of two equals, either"
)


def test_what_is_noticed_survives_or_is_explained_makes_the_score() -> None:
    made = mutants(SOURCE)
    tried = [(each, Verdict.SURVIVED if each.after == "(a >= b)" else Verdict.NOTICED) for each in made]

    plain = judged("given/largest.py", SOURCE, tried, [])
    explained = judged("given/largest.py", SOURCE, tried, [EQUAL])

    assert ([each.after for each in plain.survivors], plain.noticed) == (["(a >= b)"], len(made) - 1)
    assert plain.score == pytest.approx(100 * (len(made) - 1) / len(made))
    assert (explained.survivors, explained.explained, explained.score, explained.wrong) == ([], 1, 100.0, [])


def test_an_explanation_of_what_is_noticed_or_gone_is_told() -> None:
    noticed = [(each, Verdict.NOTICED) for each in mutants(SOURCE)]

    assert judged("given/largest.py", SOURCE, noticed, [EQUAL]).wrong == [EQUAL]
    assert judged("given/other.py", SOURCE, noticed, [EQUAL]).wrong == []


def test_tests_are_the_mirror_or_what_is_named(tmp_path: Path) -> None:
    (tmp_path / "tests" / "given").mkdir(parents=True)
    for name in ("test_largest.py", "test_largest_properties.py", "test_other.py"):
        (tmp_path / "tests" / "given" / name).touch()

    assert named_or_mirror(Path("given/largest.py"), tmp_path, {}) == Module(
        Path("given/largest.py"), ["tests/given/test_largest.py", "tests/given/test_largest_properties.py"]
    )
    small = Path("given/small.py")
    named: Named = {str(small): {"tests": ["x.py"], "kafka": True}}
    assert named_or_mirror(small, tmp_path, named) == Module(small, ["x.py"], kafka=True)
    assert named_or_mirror(small, tmp_path, {str(small): ["x.py"]}) == Module(small, ["x.py"])
    with pytest.raises(TrialError, match=r"no tests/given/test_small\*\.py: name its tests in tests\.toml"):
        named_or_mirror(small, tmp_path, {})


@pytest.mark.slow
def test_changes_are_tried_in_processes_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "__init__.py").touch()
    (tmp_path / "given" / "largest.py").write_text(SOURCE)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_given.py").write_text(TESTS)
    (tmp_path / "tests" / "conftest.py").write_text(
        "import hypothesis\nhypothesis.settings.register_profile('mutants')\n"
        "def pytest_addoption(parser):\n    parser.addoption('--fast', action='store_true')\n"
    )
    endless = SOURCE.replace("return", "while True: pass\n    return")
    program = (
        "import json, sys; from pathlib import Path; from tests.mutants import trial;"
        "trial._AT_LEAST_S = 3.0; root = Path.cwd();"
        "module = trial.Module(Path('given/largest.py'), ['tests/test_given.py']);"
        "sources = json.loads(sys.stdin.read());"
        "print(json.dumps(dict(trial.try_all(module, sources, root))), file=sys.__stdout__)"
    )
    sources = [SOURCE, SOURCE.replace(">", ">="), SOURCE.replace(">", "<"), "(", endless]
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{Path(__file__).parents[2]}:{tmp_path}", "PATH": ""},
        input=json.dumps(sources),
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    verdicts = json.loads(ended.stdout)
    assert [verdicts[str(number)] for number in range(len(sources))] == [
        *(Verdict.SURVIVED, Verdict.SURVIVED, Verdict.NOTICED, Verdict.NOTICED, Verdict.HUNG)
    ]


@pytest.mark.slow
def test_a_module_whose_tests_fail_as_they_are_is_refused(tmp_path: Path) -> None:
    (tmp_path / "largest.py").write_text(SOURCE)

    with pytest.raises(TrialError, match="unchanged: its tests end with"):
        list(try_all(Module(Path("largest.py"), ["nowhere.py"]), [], tmp_path))


def test_a_module_that_is_in_use_already_is_refused() -> None:
    with pytest.raises(TrialError, match="imported by this tool itself"):
        list(try_all(Module(Path("tests/mutants/trial.py"), ["x.py"]), [], Path(__file__).parents[2]))


@pytest.mark.timeout(180)
def test_tests_that_need_a_kafka_have_that_of_the_tool(tmp_path: Path) -> None:
    assert KAFKA not in os.environ
    with kafka(tmp_path):
        assert asyncio.run(_answers(os.environ[KAFKA]))
    assert KAFKA not in os.environ
    assert list(tmp_path.iterdir()) == []


async def _answers(bootstrap: str) -> bool:
    async with consuming(bootstrap) as consumer:
        return await consumer.topics() == set()

"""Which changes of a module no test notices: `python -m tests.mutants streams/windows/packing.py`.

Every change (operators.py) is tried on the module's tests: its mirror, tests/<package>/test_<module>*.py, or
what tests.toml names. Of these, those that need no server; where tests.toml says `kafka = true`, all of them,
on one Kafka that is started beforehand. Processes that a test starts have the module as it is. A change that
makes no difference is explained in explained.toml. Ends with 1 when a survivor isn't explained and the score
is below --min, or when an explanation has become wrong.
"""

import argparse
import difflib
import json
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.mutants.operators import Mutant, mutants
from tests.mutants.trial import Module, TrialError, Verdict, kafka, try_all

_ROOT: Final = Path(__file__).parents[2]
_HERE: Final = Path(__file__).parent
_RESULTS: Final = _ROOT / "var" / "mutants"
_TOLD_EVERY: Final = 50


class Explanation(NamedTuple):
    """Why a change makes no difference that a test could see."""

    module: str
    line: str
    """The line of the source as it is, without indentation."""
    change: str
    why: str

    @classmethod
    def read(cls, file: Path) -> "list[Explanation]":
        return [cls(**each) for each in tomllib.loads(file.read_text()).get("explained", [])]


class Outcome(NamedTuple):
    """What became of a module's changes."""

    noticed: int
    survivors: Sequence[Mutant]
    explained: int
    wrong: Sequence[Explanation]
    """Explanations of changes that are noticed, or are none any more."""

    @property
    def score(self) -> float:
        """Noticed ones, in percent of those that aren't explained."""
        return 100.0 * self.noticed / max(1, self.noticed + len(self.survivors))


def judged(
    module: str, source: str, tried: Sequence[tuple[Mutant, Verdict]], explanations: Sequence[Explanation]
) -> Outcome:
    """Sort the changes of a module by what is known of them."""
    lines = source.splitlines()
    known = {each[1:3]: each for each in explanations if each.module == module}
    used = set()
    survivors = []
    for mutant, verdict in tried:
        place = lines[mutant.line - 1].strip(), mutant.name
        if verdict is not Verdict.SURVIVED:
            continue
        if place in known:
            used.add(place)
        else:
            survivors.append(mutant)
    noticed = sum(verdict is not Verdict.SURVIVED for _, verdict in tried)
    explained = len(tried) - noticed - len(survivors)
    return Outcome(noticed, survivors, explained, [each for at, each in known.items() if at not in used])


Named = dict[str, list[str] | dict[str, Any]]
"""By module: its tests; or its `tests`, and whether they need `kafka`."""


def named_or_mirror(path: Path, root: Path, named: Named) -> Module:
    """A module with its tests. Raises TrialError when there are none."""
    if str(path) in named:
        own = named[str(path)]
        return Module(path, own) if isinstance(own, list) else Module(path, **own)
    mirror = root / "tests" / path.parent
    found = sorted(str(each.relative_to(root)) for each in mirror.glob(f"test_{path.stem}*.py"))
    if not found:
        raise TrialError(
            f"{path}: no {mirror.relative_to(root)}/test_{path.stem}*.py: name its tests in tests.toml"
        )
    return Module(path, found)


def difference(source: str, mutant: Mutant, path: str) -> str:
    """What was changed, as a unified diff."""
    before, after = source.splitlines(), mutant.source.splitlines()
    return "\n".join(difflib.unified_diff(before, after, path, path, lineterm="", n=1))


def _try(path: Path, named: Named, explanations: Sequence[Explanation], at_once: int) -> Outcome:
    source = (_ROOT / path).read_text()
    made = mutants(source)
    module = named_or_mirror(path, _ROOT, named)
    began = time.monotonic()
    print(f"{path}: {len(made)} changes, {' '.join(module.tests)}", flush=True)
    tried: dict[int, Verdict] = {}
    with kafka(_RESULTS) if module.kafka else nullcontext():
        for number, verdict in try_all(module, [each.source for each in made], _ROOT, at_once):
            tried[number] = verdict
            if len(tried) % _TOLD_EVERY == 0:
                print(f"{len(tried)} of {len(made)}", file=sys.stderr, flush=True)
    outcome = judged(str(path), source, [(made[at], tried[at]) for at in sorted(tried)], explanations)
    for mutant in outcome.survivors:
        print(f"\n{difference(source, mutant, str(path))}\n  change: {mutant.name}")
    for wrong in outcome.wrong:
        print(f"\nexplained, but noticed or gone: {wrong.line}: {wrong.change}")
    took = time.monotonic() - began
    said = (
        f"{path}: score {outcome.score:.1f} %: {outcome.noticed} noticed, {len(outcome.survivors)} survive, "
        f"{outcome.explained} explained; {took:.0f} s, {took / max(1, len(made)):.2f} s each"
    )
    print(f"\n{said}", flush=True)
    _keep(path, source, outcome, {"said": said, "score": outcome.score, "seconds": took})
    return outcome


def _keep(path: Path, source: str, outcome: Outcome, said: dict[str, Any]) -> None:
    survivors = [
        {
            "line": source.splitlines()[each.line - 1].strip(),
            "change": each.name,
            "diff": difference(source, each, str(path)),
        }
        for each in outcome.survivors
    ]
    _RESULTS.mkdir(parents=True, exist_ok=True)
    name = str(path).replace("/", ".").removesuffix(".py") + ".json"
    (_RESULTS / name).write_text(json.dumps(said | {"survivors": survivors}, indent=1))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("modules", nargs="+", type=Path, help="streams/windows/packing.py ...")
    parser.add_argument("--min", type=float, default=90.0, help="the score, in percent, that will do")
    parser.add_argument("--at-once", type=int, default=2, help="how many changes are tried side by side")
    given = parser.parse_args(arguments)
    named = tomllib.loads((_HERE / "tests.toml").read_text())
    explanations = Explanation.read(_HERE / "explained.toml")

    if len(given.modules) > 1:  # each by itself: what one trial imports, the next must not have
        again = [sys.executable, "-m", "tests.mutants", f"--min={given.min}", f"--at-once={given.at_once}"]
        return max(subprocess.run([*again, str(path)], check=False).returncode for path in given.modules)
    [path] = given.modules
    try:
        outcome = _try(path, named, explanations, given.at_once)
    except TrialError as error:
        print(error, file=sys.stderr)
        return 2
    return int(bool(outcome.wrong or (outcome.survivors and outcome.score < given.min)))


if __name__ == "__main__":
    sys.exit(main())

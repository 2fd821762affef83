"""What is fuzzed: something that makes inputs, and judges what the product does with one."""

import random
from typing import Any, Protocol


class Target(Protocol):
    """Cases are made from `chance` alone, so that a seed and a number name one."""

    name: str

    def case(self, chance: random.Random) -> Any:
        """An input, as plain values whose `repr` can be read back."""
        ...

    def check(self, case: Any) -> None:
        """Gives it to the product. Raises when that breaks a promise."""
        ...


def case_of(target: Target, seed: int, number: int) -> Any:
    """The case of this number."""
    return target.case(random.Random(f"{seed}/{target.name}/{number}"))

"""What the scripts for other interpreters share: where the server is, which data to send, how a check is told.

Standard library and numpy alone, since it is imported in environments that have nothing of ours. A check is a function
that says in its docstring what it does, asserts, and returns what it saw.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

# A deadline that no busy machine misses, for checks that are not about deadlines.
AMPLE_US = 8_000_000
ROWS = 12


@dataclass(frozen=True)
class Target:
    """A server and one of its models. `pinned` is a variant that answers alone, `dearest` the slowest one; `data` an
    archive with rows of `input`; `folder` the application's in its repository."""

    http: str
    grpc: str
    model: str
    variants: list[str]
    pinned: str
    dearest: str
    input: str
    datatype: str
    classes: list[str]
    data: str
    folder: str

    @classmethod
    def read(cls, path: str) -> "Target":
        told = json.loads(Path(path).read_text())
        return cls(**{field.name: told[field.name] for field in fields(cls)})

    def rows(self, count: int = ROWS) -> Any:
        with np.load(self.data) as archive:
            return archive[self.input][:count]


Check = Callable[[Target], str]


def run(checks: list[Check], path: str) -> None:
    """Each check once, in their order; a line of JSON about each on standard output."""
    target = Target.read(path)
    for check in checks:
        began = perf_counter()
        try:
            passed, seen = True, check(target)
        except Exception as error:
            passed, seen = False, f"{type(error).__name__}: {error}"
        told = {
            "check": check.__name__.removeprefix("_").replace("_", " "),
            "what": " ".join((check.__doc__ or "").split()),
            "passed": passed,
            "seen": seen,
            "took_s": perf_counter() - began,
        }
        print(json.dumps(told), flush=True)


def same(one: Any, other: Any, what: str) -> None:
    """Two sets of scores that must be equal but for rounding."""
    assert one.shape == other.shape, f"{what}: shapes {one.shape} and {other.shape}"
    apart = float(np.abs(one - other).max())
    assert apart <= 1e-5, f"{what}: up to {apart:g} apart"


def main(checks: dict[str, list[Check]]) -> None:
    """`python -m outside.SCRIPT WHICH TARGET.json`"""
    run(checks[sys.argv[1]], sys.argv[2])

"""`peekserve check`: everything that is wrong with a repository, a line each."""

import json
import os
from dataclasses import asdict
from pathlib import Path

from peekserve.cli.planned import check_plans
from peekserve.cli.terminal import console
from peekserve.config import Severity
from peekserve.registry.check import check as examine


def check(root: Path, as_json: bool) -> int:
    """Print the problems; 3 when one is an error."""
    problems = [*examine(root, os.environ), *check_plans(root, os.environ)]
    errors = sum(p.severity is Severity.ERROR for p in problems)
    if as_json:
        print(json.dumps({"errors": errors, "problems": [asdict(p) for p in problems]}))
        return 3 if errors else 0
    out = console()
    for problem in problems:
        style = "red" if problem.severity is Severity.ERROR else "yellow"
        out.print(str(problem), style=style, markup=False, soft_wrap=True)
    warnings = len(problems) - errors
    if not errors:
        out.print(f"{root}: good" + (f", {_counted(warnings, 'warning')}" if warnings else ""), style="green")
    else:
        out.print(f"{root}: {_counted(errors, 'error')}, {_counted(warnings, 'warning')}", style="bold red")
    return 3 if errors else 0


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"

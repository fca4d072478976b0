"""Is anything known against the versions that this project is tested with?

`python -m tests.audit [FILE]` asks PyPI's advisories, through pip-audit, about every pin of constraints.txt. Exit
status: 0 when all were looked up and nothing is known, 1 when something is, 3 when some or all could not be looked up:
that is said, with their names, and is no good news. Where there is no network every audit ends with 3.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

CLEAN, KNOWN, UNKNOWN = 0, 1, 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """`known`: a line for each advisory. `missed`: pins that nobody answered for; `why`, one of their reasons."""

    looked_up: int
    known: tuple[str, ...]
    missed: tuple[str, ...]
    why: str = ""

    @property
    def status(self) -> int:
        return KNOWN if self.known else UNKNOWN if self.missed or not self.looked_up else CLEAN

    def told(self) -> list[str]:
        lines = list(self.known)
        if self.missed:
            few = ", ".join(self.missed[:5]) + (", ..." if len(self.missed) > 5 else "")
            lines.append(
                f"NOT AUDITED: {len(self.missed)} of {self.looked_up + len(self.missed)} pins ({few})"
            )
            lines.append(f"because the advisories could not be had: {self.why}")
        if self.looked_up or not self.missed:
            lines.append(f"audited: {self.looked_up} pins, {len(self.known)} known advisories")
        return lines


def judged(pins: Sequence[str], report: str, errors: str) -> Verdict:
    """What pip-audit's report in JSON means; without one, its last words say why.

    >>> judged(["a==1"], "", "Traceback\\nConnectionError: no route").told()[0]
    'NOT AUDITED: 1 of 1 pins (a)'
    """
    names = [_name(pin) for pin in pins]
    try:
        entries: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except ValueError:
        last = [line.strip() for line in errors.splitlines() if line.strip()][-1:]
        return Verdict(0, (), tuple(names), last[0][:200] if last else "pip-audit said nothing")
    skipped = {entry["name"]: str(entry["skip_reason"]) for entry in entries if "skip_reason" in entry}
    found = {entry["name"]: entry for entry in entries if "skip_reason" not in entry}
    known = tuple(
        f"{name} {entry['version']}: {one['id']}, mended in {', '.join(one['fix_versions']) or 'no version yet'}"
        for name, entry in found.items()
        for one in entry["vulns"]
    )
    missed = tuple(name for name in names if name not in found)
    return Verdict(len(found), known, missed, next(iter(skipped.values()), "they are not in the report"))


def _name(pin: str) -> str:
    return pin.partition("==")[0]


def pins_of(text: str) -> list[str]:
    """The lines of a constraints file that say a version."""
    return [line.strip() for line in text.splitlines() if "==" in line and not line.startswith("#")]


def asked(pins: Sequence[str]) -> Verdict:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as lock, tempfile.NamedTemporaryFile("r") as report:
        lock.write("\n".join(pins))
        lock.flush()
        command = [
            sys.executable,
            "-m",
            "pip_audit",
            "--requirement",
            lock.name,
            "--no-deps",
            "--disable-pip",
        ]
        command += [
            "--format",
            "json",
            "--output",
            report.name,
            "--progress-spinner",
            "off",
            "--timeout",
            "5",
        ]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        return judged(pins, report.read(), ran.stderr)


def main(arguments: Sequence[str]) -> int:
    pins = pins_of(Path(arguments[0] if arguments else "constraints.txt").read_text())
    first = asked(pins[:1])
    # Where one that is surely there is not answered for, nobody is asked about the others.
    verdict = replace(first, missed=tuple(_name(pin) for pin in pins)) if first.missed else asked(pins)
    print("\n".join(verdict.told()))
    return verdict.status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

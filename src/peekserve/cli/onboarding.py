"""`python -m peekserve.cli.onboarding`: a revision looked at and profiled in a process that may die of it.

Started by live/onboarding.py and by nothing else. Its task is one line of JSON on standard input; what it finds goes
out line by line, and it ends when its standard input does: whoever asked is gone.
"""

import base64
import faulthandler
import json
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peekserve.config import Problem
    from peekserve.domain.application import Application

NICE = 10
# Of the memory that is free when it begins: a model that asks for more is told so, and the server keeps the rest.
MEMORY_SHARE = 0.5

Tell = Callable[[dict[str, Any]], None]


def main() -> int:
    faulthandler.enable()  # its last words, should a model bring it down
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no message

    def tell(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")

    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    os.nice(NICE)
    _hold_back()
    # Before anything is imported that makes threads, or asks which cores there are.
    os.sched_setaffinity(0, task["cores"])
    _onboard(task, tell)
    return 0


def _hold_back() -> None:
    """Take no more than a share of the free memory; and be the first to go where there is none left all the same."""
    with suppress(OSError):  # where there is no /proc
        Path("/proc/self/oom_score_adj").write_text("1000")
        # What the kernel would give away: not the pages alone that nothing is in, which are few after a while.
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (int(MEMORY_SHARE * free), hard))


def _end_with_stdin() -> None:
    os.read(0, 1)
    os.killpg(os.getpgrp(), signal.SIGKILL)  # with every process that was started here


def _onboard(task: dict[str, Any], tell: Tell) -> None:
    import msgspec

    from peekserve.config import Severity
    from peekserve.errors import PeekserveError
    from peekserve.profiling.device import fingerprint_of
    from peekserve.registry.check import check
    from peekserve.registry.profiled import validation_sha, with_profiles
    from peekserve.registry.repository import read_repository
    from peekserve.state.store import Store
    from peekserve.workers.slots import Slot

    root, name = Path(task["root"]), task["name"]
    slot = msgspec.convert(task["slot"], Slot)
    tell({"stage": "checking"})
    problems = check(root, {})
    faults = [_fault(problem, root / name) for problem in problems]
    tell({"faults": faults})
    errors = [fault for fault in faults if fault["severity"] == Severity.ERROR.value]
    if errors:
        return tell({"ended": "invalid", "why": _in_short(errors)})
    (application,) = read_repository(root).applications
    if application.name != name:
        why = f"its application.yaml says that it is {application.name!r}, and it was sent as {name!r}"
        return tell({"ended": "invalid", "why": why})
    with Store(Path(task["state"])) as store:
        try:
            _profile(application, store, slot, tell)
        except PeekserveError as error:
            return tell({"ended": "failed", "why": str(error)})
        for device in task["devices"]:
            where = fingerprint_of(device)
            application = with_profiles(application, store, where, validation_sha(application), device)
    packed = base64.b64encode(msgspec.msgpack.encode(application)).decode()
    tell({"ended": "profiled", "profile": in_short(application), "application": packed})


def _profile(application: "Application", store: Any, slot: Any, tell: Tell) -> None:
    from peekserve.cli.profile import Session, session_steps
    from peekserve.profiling.measure import Effort

    effort = Effort.quick()
    tell({"stage": "profiling", "total": session_steps(application, effort)})

    def step(what: str) -> None:
        tell({"step": what})

    # The front is at work on its own core already: nobody has to act as if.
    Session(application, store, slot, None, effort, False, step).run()


def _fault(problem: "Problem", folder: Path) -> dict[str, Any]:
    """Without the places of this machine's disk."""
    file = Path(problem.file)
    place = file.relative_to(folder).as_posix() if file.is_relative_to(folder) else file.name
    what = problem.what.replace(f"{folder}/", "").replace(str(folder), "the application's folder")
    severity = problem.severity.value
    return {"file": place, "line": problem.line, "what": what, "hint": problem.hint, "severity": severity}


def _in_short(errors: list[dict[str, Any]]) -> str:
    from peekserve.state.registrations import Fault

    first = str(Fault(**errors[0]))
    return f"{len(errors)} problems were found in it; the first: {first}" if len(errors) > 1 else first


def in_short(application: "Application") -> dict[str, Any]:
    """What a profile says of each variant: accuracy, seconds of one row by device, bytes."""
    told: dict[str, Any] = {}
    for variant in application.variants:
        quality = variant.quality
        told[variant.name] = {
            "accuracy": None if quality is None else quality.accuracy,
            "validated_on": 0 if quality is None else sum(map(sum, quality.confusion)),
            "row_s": {device: t.curve(0).seconds(1) for device, t in variant.timing.items()},
            "bytes": max((t.bytes for t in variant.timing.values()), default=0),
        }
    return told


if __name__ == "__main__":
    sys.exit(main())

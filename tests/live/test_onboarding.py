"""The process that looks at a revision: what it says, and what is made of its end."""

import base64
import json
import sys

import msgspec
import pytest

from peekserve.live.onboarding import OnboardingProcess, decompile
from peekserve.state.registrations import Life
from peekserve.workers.slots import Slot
from tests.live.registered import an_application

FOUND = an_application(max_deadline_s=float("inf"))


def says(*messages, then=""):
    """A process that reads its task, says this and then does that."""
    lines = [json.dumps(message) for message in messages]
    code = f"import sys, os, signal\nsys.stdin.readline()\nfor line in {lines!r}: print(line, flush=True)\n{then}"
    return [sys.executable, "-c", code]


async def looked(tmp_path, command, **more):
    told = []
    process = OnboardingProcess(tmp_path / "s", Slot("cpu-0"), ["cpu"], command, **more)
    return await process(tmp_path, "plain", told.append), told


async def test_all_that_it_finds_comes_back(tmp_path):
    packed = base64.b64encode(msgspec.msgpack.encode(FOUND)).decode()
    fault = {"file": "application.yaml", "line": 3, "what": "odd", "hint": "", "severity": "warning"}
    command = says(
        {"stage": "checking"},
        {"faults": [fault]},
        {"stage": "profiling", "total": 2},
        {"step": "small"},
        {"ended": "profiled", "profile": {"small": {}}, "application": packed},
    )
    found, told = await looked(tmp_path, command)
    assert (found.ended, found.why, found.profile) == (Life.PROFILING, "", {"small": {}})
    assert found.application == FOUND
    assert decompile(found.compiled) == FOUND
    assert [str(one) for one in found.faults] == ["application.yaml:3: odd"]
    assert [(p.stage, p.done, p.total) for p in told] == [
        (Life.CHECKING, 0, 0),
        (Life.PROFILING, 0, 2),
        (Life.PROFILING, 1, 2),
    ]


async def test_how_it_ended_is_said(tmp_path):
    found, _ = await looked(tmp_path, says({"stage": "checking"}, {"ended": "invalid", "why": "no models"}))
    assert (found.ended, found.why, found.application) == (Life.INVALID, "no models", None)


@pytest.mark.parametrize(
    ("then", "why"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "by signal SIGSEGV"),
        ("print('cannot go on', file=sys.stderr); sys.exit(7)", "with 7; its last words: cannot go on"),
        ("sys.exit(0)", "with 0"),
        ("raise MemoryError('too much')", "MemoryError: too much"),
    ],
)
async def test_a_crash_is_a_failure_with_its_last_words(tmp_path, then, why):
    found, _ = await looked(tmp_path, says({"stage": "checking"}, then=then))
    assert found.ended is Life.FAILED
    assert why in found.why


async def test_its_last_words_do_not_tell_where_things_lie(tmp_path):
    crash = "import faulthandler; faulthandler.enable(); os.kill(os.getpid(), signal.SIGSEGV)"
    place = "def run():\n    " + crash + "\n"
    read = "import os, signal, sys\nsys.stdin.readline()\n"
    code = f"{read}exec(compile({place!r}, '/secret/place/model.py', 'exec'))\nrun()"
    found, _ = await looked(tmp_path, [sys.executable, "-c", code])
    assert 'File "model.py"' in found.why
    assert "secret" not in found.why


async def test_one_that_never_reads_its_task_is_no_trouble(tmp_path):
    found, _ = await looked(tmp_path, [sys.executable, "-c", "raise SystemExit(3)"])
    assert found.ended is Life.FAILED


async def test_who_takes_too_long_is_ended(tmp_path):
    command = says({"stage": "checking"}, then="sys.stdin.read()")
    found, _ = await looked(tmp_path, command, patience_s=0.3)
    assert (found.ended, "was not done" in found.why) == (Life.FAILED, True)

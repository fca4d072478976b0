"""Fronts that are killed at random moments under load: what they leave, and what the next one has.

The front gets SIGKILL while requests come and true classes are being confirmed. Its workers must go with it. Before it
is started again, the journal must be read to its end, or to one frame that is broken, and hold every answer that a
client got; every SQLite file must pass its own check. Then, through the API of the next front: the same revisions and
profiles, one of them registered while a server ran, every lesson that was acknowledged, the same keys, and answers.
"""

import asyncio
import io
import os
import re
import signal
import sqlite3
import threading
import time
import zipfile
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from peekserve.cli.assembly import bound_to
from peekserve.cli.launch import ServerProcess
from peekserve.errors import NotReady
from peekserve.experiments.table import Row
from peekserve.experiments.trust.blows import LOAD, request_id
from peekserve.experiments.trust.ledger import read
from peekserve.experiments.trust.watching import alive, workers_of
from peekserve.experiments.trust.yard import (
    NAME,
    SETTINGS,
    Yard,
    ask,
    bearing,
    dearest_s,
    with_key,
    yard_copy,
)
from peekserve.loadgen.arrivals import poisson
from peekserve.loadgen.client import Reply, send
from peekserve.state.keys import FILE, Keys, Scope

FRONTS = "fronts"
FILES = ("state.sqlite", "history.sqlite", FILE)
# Of each life under load.
_LEAST_S, _MOST_S = 0.3, 4.0
# A front whose parent sees it gone leaves no worker behind for longer.
_GONE_S = 5.0
# For the first lesson to be acknowledged.
_PATIENCE_S = 10.0
# A new revision is checked and loaded in the meantime.
_SERVED_S = 120.0
_NOT_OFFERED = 501
_STREAM = 92


@dataclass(frozen=True, slots=True)
class Life:
    """What a front's clients had when it was killed. `answered`: request ids; `taught`: lessons acknowledged;
    `gone_s`: until its last worker was gone."""

    answered: frozenset[str]
    taught: int
    gone_s: float


class Teacher(threading.Thread):
    """Confirms true classes, one request at a time, and counts what was acknowledged."""

    def __init__(self, base: str, headers: Mapping[str, str]) -> None:
        super().__init__(name="teacher", daemon=True)
        self._base, self._headers = base, dict(headers)
        self._waiting: deque[tuple[str, int]] = deque()
        self.over = False
        self.taught = 0

    def tell(self, request: str, label: int) -> None:
        self._waiting.append((request, label))

    def run(self) -> None:
        while not self.over:
            if not self._waiting:
                time.sleep(0.005)
                continue
            request, label = self._waiting.popleft()
            told = {"request_id": request, "label": label}
            try:
                status, said = ask(self._base, "POST", "/api/v1/feedback", told, self._headers)
            except OSError:
                return  # the front is gone, and this was not acknowledged
            if status == 200:
                self.taught += int(said["accepted"])


def lives(where: Yard, count: int, seed: int) -> list[Row]:
    """A row for each of `count` fronts that are killed one after the other."""
    rng = np.random.default_rng([_STREAM, seed])
    rows: list[Row] = []
    with TemporaryDirectory(prefix="peekserve-fronts-") as folder, yard_copy(where) as here:
        state = here.root / ".peekserve"
        with Keys(state / FILE) as keys:
            key = keys.add("everything", list(Scope), 0.0)
        before: Mapping[str, Any] | None = None
        taught, took = 0, False
        for number in range(count):
            journal = Path(folder) / f"{number}.journal"
            with ServerProcess(here.root, {**SETTINGS, "journal": str(journal)}, here.log) as first:
                if before is None:
                    took = register(first.http, key, here.root / NAME)
                    before = registered(first.http, key)
                life = _killed(here, first, float(rng.uniform(_LEAST_S, _MOST_S)), key, rng)
            taught += life.taught
            left = {**_left(journal, life), "damaged": sum(not sound(state / name) for name in FILES)}
            started = time.monotonic()
            with ServerProcess(here.root, SETTINGS, here.log) as next_one:
                ready_s = time.monotonic() - started
                now = registered(next_one.http, key)
            rows.append(
                {
                    "part": FRONTS,
                    "seed": seed,
                    "ready_s": ready_s,
                    "workers_gone_s": life.gone_s,
                    "taught": life.taught,
                    "registrations": float(took),
                    **left,
                    "changed": float(now["what"] != before["what"]),
                    "lessons_lost": max(taught - now["confirmed"], 0),
                    "keys_lost": float(not now["keys"]),
                    "unanswered": float(not now["answers"]),
                }
            )
    return rows


def _killed(where: Yard, server: ServerProcess, after_s: float, key: str, rng: np.random.Generator) -> Life:
    workload, calls = where.calls(poisson(LOAD / dearest_s(where.application), after_s + 0.5, rng), rng)
    teacher, answered = Teacher(server.http, bearing(key)), set[str]()

    def replied(index: int, reply: Reply) -> None:
        if reply.status == 200:
            answered.add(request_id(reply))
            teacher.tell(request_id(reply), workload.label(index))

    workers, asked = workers_of(server.pid), with_key(calls, key)
    teacher.start()
    with bound_to(where.cores):
        load = send(server.http, asked, replied)
        gone_s = asyncio.run(_until_killed(server.pid, workers, load, after_s, lambda: bool(teacher.taught)))
    teacher.over = True
    teacher.join()
    return Life(frozenset(answered), teacher.taught, gone_s)


async def _until_killed(
    front: int,
    workers: Sequence[int],
    load: Coroutine[Any, Any, object],
    after_s: float,
    begun: Callable[[], bool],
) -> float:
    """Kill the front in the middle of its load; seconds until its workers are gone, infinite where they stay. On a slow
    machine not before anything was acknowledged that could be lost (`begun`), which is waited for a while."""
    sending = asyncio.create_task(load)
    await asyncio.sleep(after_s)
    patient_until = time.monotonic() + _PATIENCE_S
    while not begun() and time.monotonic() < patient_until:
        await asyncio.sleep(0.005)
    struck_at = time.monotonic()
    os.kill(front, signal.SIGKILL)
    while alive(workers) and time.monotonic() < struck_at + _GONE_S:
        await asyncio.sleep(0.001)
    gone_s = time.monotonic() - struck_at
    # What it had already handed to its sockets still comes.
    await asyncio.sleep(0.1)
    sending.cancel()
    await asyncio.wait([sending])
    return float("inf") if alive(workers) else gone_s


def _left(journal: Path, life: Life) -> dict[str, float]:
    """What the journal of a killed front is worth."""
    ledger = read(journal)
    return {
        "steps": ledger.steps,
        "broken_frames": float(bool(ledger.broken)),
        # Whoever was told an answer finds it in the journal.
        "unwritten": len(life.answered - ledger.answered),
        "several_outcomes": ledger.several,
    }


def sound(path: Path) -> bool:
    """Does SQLite find nothing wrong with this file, its write-ahead log included?"""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def register(base: str, key: str, folder: Path) -> bool:
    """A new revision of the application, with another deadline, sent and served without a restart. False for a server
    that takes none. Raises NotReady where it is not served in time."""
    packed, admin = io.BytesIO(), bearing(key)
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(one for one in folder.rglob("*") if one.is_file()):
            content = path.read_bytes()
            if path.name == "application.yaml":
                content = re.sub(rb"(?m)^deadline: .*$", b"deadline: 90ms", content)
            archive.writestr(str(path.relative_to(folder)), content)
    place, zipped = f"/api/v1/admin/applications/{NAME}/revisions", {"Content-Type": "application/zip"}
    status, told = ask(base, "POST", f"{place}?shadow=0", packed.getvalue(), {**admin, **zipped})
    if status == _NOT_OFFERED:
        return False
    until_at = time.monotonic() + _SERVED_S
    while status in (200, 202) and told["state"] != "active" and time.monotonic() < until_at:
        time.sleep(0.1)
        status, told = ask(base, "GET", f"{place}/{told['revision']}", None, admin)
    if status != 200 or told["state"] != "active":
        raise NotReady(f"a revision is not served after {_SERVED_S:g} s: {status} {told}")
    return True


def registered(base: str, key: str) -> dict[str, Any]:
    """What a server says that it has, and whether it lets in who it should. `what`: applications, their variants with
    revisions, profiles and accuracies, and the registrations with the one that is served."""
    admin = bearing(key)
    _, index = ask(base, "POST", "/v2/repository/index", {}, admin)
    names = sorted({one["name"] for one in index})
    what = {name: ask(base, "GET", f"/v2/models/{name}", None, admin)[1] for name in names}
    _, kept = ask(base, "GET", f"/api/v1/admin/applications/{NAME}/revisions", None, admin)
    _, drift = ask(base, "GET", f"/api/v1/drift/{NAME}", None, admin)
    image = {"name": "image", "shape": [1, 8, 8], "datatype": "FP32", "data": [0.0] * 64}
    path = f"/v2/models/{NAME}/infer"
    known, _ = ask(base, "POST", path, {"inputs": [image]}, admin)
    unknown, _ = ask(base, "POST", path, {"inputs": [image]}, bearing(f"{key}x"))
    return {
        "what": (sorted((one["name"], one["version"]) for one in index), what, kept),
        "confirmed": drift["confirmed"],
        "keys": known != 401 and unknown == 401,
        "answers": known == 200,
    }

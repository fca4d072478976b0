"""Workers that are killed or hang at random moments under load: what their clients get, and how soon one serves again.

One worker process behind a real server. At seeded moments it gets SIGKILL, or SIGSTOP, which is how a process looks
that hangs. The load goes on: requests with the application's own deadline, which may be answered by the peek while
nobody else can, and some that ask for the dearest variant by name and have seconds, so that they wait for the next
worker. Every request must get one reply, and the front's journal must say the same. How soon a worker serves again is
read from the journal: from the blow (on the machine's one monotonic clock) to the end of the first batch of the worker
that came after.
"""

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from peekserve.cli.assembly import bound_to
from peekserve.cli.launch import ServerProcess
from peekserve.experiments.table import Row
from peekserve.experiments.trust.ledger import read, recovery
from peekserve.experiments.trust.watching import alive, workers_of
from peekserve.experiments.trust.yard import NAME, SETTINGS, Yard, dearest_s
from peekserve.loadgen.arrivals import poisson
from peekserve.loadgen.client import Call, Reply, send

KILLED, HUNG = "killed", "hung"
WORKERS = "workers"
# Of the blows, and of the requests.
HANGS, PINNED = 0.2, 0.25
PINNED_S = 5.0
# Of what the dearest variant alone could do.
LOAD = 0.5
_STREAM = 91
_CALM_S = 1.5
_LEAST_S, _MORE_S = 1.0, 1.5


@dataclass(frozen=True, slots=True)
class Blow:
    """`at`: seconds on the monotonic clock."""

    at: float
    how: str


def planned(count: int, rng: np.random.Generator) -> list[Blow]:
    """Blows at random moments, in seconds from the start: a second apart or more, and every fifth a hang."""
    instants = _CALM_S + np.cumsum(_LEAST_S + rng.exponential(_MORE_S, count))
    hung = set(rng.permutation(count)[: round(HANGS * count)].tolist())
    return [Blow(float(at), HUNG if i in hung else KILLED) for i, at in enumerate(instants)]


class Striker(threading.Thread):
    """Strikes the only worker of a front as planned, as long as there is that front; `struck` says when and how."""

    def __init__(self, front: int, blows: Sequence[Blow]) -> None:
        super().__init__(name="striker", daemon=True)
        self._front = front
        self._blows = blows
        self.struck: list[Blow] = []

    def run(self) -> None:
        start_at = time.monotonic()
        for blow in self._blows:
            time.sleep(max(start_at + blow.at - time.monotonic(), 0.0))
            while not (pids := workers_of(self._front)):
                if not alive([self._front]):
                    return  # nobody will ever come up there
                time.sleep(0.002)
            number = signal.SIGSTOP if blow.how == HUNG else signal.SIGKILL
            self.struck.append(Blow(time.monotonic(), blow.how))
            with suppress(ProcessLookupError):  # it fell by itself: its journal says so
                os.kill(pids[-1], number)


def pinned(
    calls: Sequence[Call],
    variant: str,
    rng: np.random.Generator,
    share: float = PINNED,
    budget_s: float = PINNED_S,
) -> list[Call]:
    """A share of these asks for this variant by name, with this budget."""
    which = rng.random(len(calls)) < share
    path, header = (
        f"/v2/models/{NAME}/versions/{variant}/infer",
        {"x-request-timeout-seconds": f"{budget_s:g}"},
    )
    return [
        replace(call, path=path, headers={**call.headers, **header}) if chosen else call
        for call, chosen in zip(calls, which.tolist(), strict=True)
    ]


def struck(where: Yard, count: int, seed: int, after_s: float = PINNED_S + 5.0) -> list[Row]:
    """One server, `count` blows at its worker: a row for each, and one for the requests. `after_s`: how long the load
    goes on after the last blow, so that there is time to stand up again."""
    rng = np.random.default_rng([_STREAM, seed])
    blows = planned(count, rng)
    length_s = blows[-1].at + after_s
    _, calls = where.calls(poisson(LOAD / dearest_s(where.application), length_s, rng), rng)
    best = max(where.application.variants, key=lambda v: v.quality.accuracy if v.quality else 0.0)
    calls = pinned(calls, best.name, rng)
    with TemporaryDirectory(prefix="peekserve-kills-") as folder:
        journal = Path(folder) / "run.journal"
        with ServerProcess(where.root, {**SETTINGS, "journal": str(journal)}, where.log) as server:
            striker = Striker(server.pid, blows)
            with bound_to(where.cores):
                striker.start()
                replies = asyncio.run(send(server.http, calls))
            striker.join()
            status = server.stop()
        return [*_blow_rows(journal, striker.struck, seed), _requests_row(journal, replies, seed, status)]


def _blow_rows(journal: Path, struck: Sequence[Blow], seed: int) -> list[Row]:
    told = read(journal).told
    rows: list[Row] = []
    for blow in struck:
        found = recovery(blow.at, told)
        rows.append(
            {
                "part": WORKERS,
                "how": blow.how,
                "blow": 1,
                "seed": seed,
                "recovered": float(found.served_s is not None),
                **{
                    name: seconds if seconds is not None else float("inf")
                    for name, seconds in (
                        ("noticed_s", found.noticed_s),
                        ("up_s", found.up_s),
                        ("served_s", found.served_s),
                    )
                },
            }
        )
    return rows


def _requests_row(journal: Path, replies: Sequence[Reply], seed: int, status: int) -> Row:
    ledger = read(journal)
    good = {request_id(one) for one in replies if one.status == 200}
    return {
        "part": WORKERS,
        "how": "requests",
        "seed": seed,
        "requests": len(replies),
        "without_reply": sum(one.status == 0 for one in replies),
        "answered": len(good),
        "failed": sum(one.status == 500 for one in replies),
        "arrived": len(ledger.outcomes),
        "without_outcome": ledger.without + bool(ledger.broken),
        "several_outcomes": ledger.several,
        # Who was told an answer, and who the journal says was: the same, one by one.
        "disagree": len(good ^ ledger.answered),
        "exit_status": status,
    }


def request_id(reply: Reply) -> str:
    """The server's own name for an answered request."""
    return str(json.loads(reply.body)["parameters"]["request_id"])

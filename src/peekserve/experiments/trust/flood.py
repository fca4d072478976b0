"""A paced server under a load, watched from outside: what its clients had, what it holds, what it counts."""

import os
import re
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from peekserve.cli.assembly import lay_out, open_store, read_profiled
from peekserve.cli.launch import ServerProcess
from peekserve.domain.application import Application
from peekserve.experiments.trust.lab import PACE, Curve, keep_pace
from peekserve.experiments.trust.watching import MIB, held, workers_of
from peekserve.experiments.trust.yard import NAME, Yard, yard_copy
from peekserve.experiments.workload import Workload
from peekserve.loadgen.apart import Apart, Sent, send_apart
from peekserve.loadgen.arrivals import poisson
from peekserve.loadgen.client import Call
from peekserve.registry.settings import read_settings
from peekserve.results import Row as Served

MAX_BATCH = 32
# To find what a variant carries alone, it is offered so much of what its pace says.
PRESSED = 1.5
SAMPLED_S = 0.5
_TOTAL = re.compile(rb"^peekserve_requests_total\{[^}]*\} ([0-9.e+]+)$", re.MULTILINE)


def linear_in_rows(row_s: float) -> Curve:
    """Batches that save nothing."""
    return {1: row_s, MAX_BATCH: MAX_BATCH * row_s}


@dataclass(frozen=True, slots=True)
class Memory:
    """Of the front and of its workers together, MiB, one for each sample."""

    front: Sequence[float]
    workers: Sequence[float]
    pss: Sequence[float]


@dataclass(frozen=True, slots=True)
class Stretch:
    """One load for a while. `rows`: what became of each request, as its client saw it. `counted`: outcomes in the
    server's metrics, of these requests alone."""

    rows: Sequence[Served]
    sent: Sent
    calls: Sequence[Call]
    seconds: float
    memory: Memory
    counted: int

    @property
    def told(self) -> int:
        """Requests whose client had an outcome."""
        return sum(reply.status != 0 for reply in self.sent.replies)


def profiled(root: Path) -> Application:
    """The digits of this repository, at the pace of its worker."""
    settings, _ = read_settings(root)
    with open_store(root, settings) as store:
        known = {app.name: app for app in read_profiled(root, store, [PACE], lambda _: None)}
    return known[NAME]


def workload(of: Yard, rate: float, seconds: float, rng: np.random.Generator) -> Workload:
    """Requests of one row each, Poisson, with samples drawn from the test data."""
    drawn, _ = of.calls(poisson(rate, seconds, rng), rng)
    return replace(drawn, applications={NAME: profiled(of.root)})


def cores_of(of: Yard) -> tuple[int, ...]:
    """The front's, on which the client runs too: the worker has its core for itself."""
    return lay_out(read_settings(of.root)[0]).front


def alone(own: Yard, variant: str, row_s: float) -> None:
    """This variant and nothing else, not even a peek; what it would miss is rejected."""
    keep_pace(own.root, {variant: linear_in_rows(row_s)}, peek="", on_miss="reject")


def capacity(of: Yard, variant: str, row_s: float, seconds: float, rng: np.random.Generator) -> float:
    """Answers in time per second of this variant alone, when more is asked of it."""
    with yard_copy(of) as own:
        alone(own, variant, row_s)
        offered = workload(own, PRESSED / row_s, seconds, rng)
        front = cores_of(own)
        with ServerProcess(own.root, {"log": "error"}, own.log) as server:
            replies = send_apart(server.http, offered.calls(), front).replies
    kept = [row for row in offered.rows(replies) if row.in_time]
    return len(kept) / max(row.settled_at for row in kept)


def stretch(server: ServerProcess, offered: Workload, seconds: float, cores: Sequence[int]) -> Stretch:
    """Send it all, and watch the server's memory meanwhile."""
    calls, before = offered.calls(), _counted(server.http)
    front: list[float] = []
    workers: list[float] = []
    pss: list[float] = []
    with Apart(server.http, calls, cores) as client:
        client.go()
        until = time.monotonic() + seconds
        while True:
            own, theirs = held(server.pid), [held(pid) for pid in workers_of(server.pid)]
            front.append(own.rss / MIB)
            workers.append(sum(each.rss for each in theirs) / MIB)
            pss.append((own.pss + sum(each.pss for each in theirs)) / MIB)
            left_s = until - time.monotonic()
            if left_s <= 0.0:
                break
            time.sleep(min(SAMPLED_S, left_s))
        sent = client.sent()
    rows = offered.rows(sent.replies)
    return Stretch(rows, sent, calls, seconds, Memory(front, workers, pss), _counted(server.http) - before)


def _processor_s(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _counted(base: str) -> int:
    """Outcomes of all requests so far, in the server's metrics."""
    with urllib.request.urlopen(f"http://{base}/metrics", timeout=10.0) as reply:
        return round(sum(float(value) for value in _TOTAL.findall(reply.read())))


@dataclass(frozen=True, slots=True)
class Turned:
    """Hopeless requests at the door. `refused`: the share of them that was; `front_s`: processor time of the front."""

    refused: float
    per_s: float
    p99_s: float
    front_s: float
    client_s: float
    many: int


def turned_away(server: ServerProcess, offered: Workload, budget_s: float, cores: Sequence[int]) -> Turned:
    """Every request asks for an answer within `budget_s`, in which nothing can be answered."""
    budget = {"x-request-timeout-seconds": f"{budget_s:g}"}
    calls = [replace(call, headers={**call.headers, **budget}) for call in offered.calls()]
    before_s = _processor_s(server.pid)
    sent = send_apart(server.http, calls, cores)
    took_s = _processor_s(server.pid) - before_s
    refused = sum(reply.status == 503 for reply in sent.replies)
    last_at = max(reply.done_at for reply in sent.replies)
    waits = [reply.done_at - reply.sent_at for reply in sent.replies]
    return Turned(
        refused / len(calls),
        refused / last_at,
        float(np.quantile(waits, 0.99)),
        took_s,
        sent.cpu_s,
        len(calls),
    )

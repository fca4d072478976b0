"""Deadlines that are kept or refused in time: a model of 50 ms, and bursts of more than it can carry.

Each burst is twelve requests at once, three with each of the budgets 20, 60, 120 and 300 ms, in an order drawn by
chance. One worker runs a real model and keeps the stated pace: 50 ms for a row; without batching, or with batches of up
to eight, in which each further row costs half a millisecond more. Nothing answers in the model's place, and what would
be missed is rejected.

What is counted, at the client, from the moment that a request's bytes were handed to the system until its answer came:

- *in time*: answered within its budget. Beside it what a server could have answered that knew all beforehand and paid
  for nothing but its batches, whose times are those measured in this run (clairvoyant.py).
- *refused*: 503 with `deadline_infeasible`, and how long after sending. Of these and of all others without an answer:
  how long after its deadline the client knew (less than nothing: before); and the same at the server, from its journal,
  from the deadline that it reckoned with until the outcome was decided.
- *accepted but late*: everything that was not refused and not answered in time, be it an answer after the deadline or
  an outcome without one (504). To be told at the deadline that there is no answer counts against us, too.

It wants the machine for itself: `peekserve experiment trust-deadlines`, about four minutes.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from peekserve.cli.launch import ServerProcess
from peekserve.domain.messages import Answer, Arrived, BatchDone, RunBatch
from peekserve.domain.request import Outcome, Reason
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Row, Table, Value
from peekserve.experiments.trust.clairvoyant import most_in_time
from peekserve.experiments.trust.flood import cores_of
from peekserve.experiments.trust.lab import Curve, TrustLab, keep_pace
from peekserve.experiments.trust.yard import Yard, yard, yard_copy
from peekserve.loadgen.apart import send_apart
from peekserve.loadgen.client import Call, Reply
from peekserve.state.journal import JournalReader

MODEL_S = 0.050
BUDGETS_S = (0.020, 0.060, 0.120, 0.300)
EACH = 3
# From burst to burst: the longest budget and the time to be idle again.
APART_S = 0.6
BURSTS = 60
# Sent before those that count: connections are opened, and models run for the first time.
WARM = 2
# Taken off every deadline when planning: the server's default.
MARGIN = "5ms"
VARIANT = "cnn"
OFF, ON = "off", "on"
CURVES: Mapping[str, Curve] = {
    OFF: {1: MODEL_S},
    ON: {rows: MODEL_S + 0.0005 * (rows - 1) for rows in range(1, 9)},
}
# A refusal this long after sending is more than the door's own time: its request had waited.
AT_ONCE_S = 0.025
_STREAM = 95


@dataclass(frozen=True, slots=True)
class Burst:
    """Requests that were sent at once. `budgets_s` and `replies`: one for each."""

    budgets_s: Sequence[float]
    replies: Sequence[Reply]

    def in_time(self, i: int) -> bool:
        reply = self.replies[i]
        return reply.status == 200 and reply.done_at - reply.sent_at <= self.budgets_s[i]

    def refused(self, i: int) -> bool:
        reply = self.replies[i]
        return reply.status == 503 and Reason.DEADLINE_INFEASIBLE.value.encode() in reply.body

    def possible(self, takes_s: Sequence[float]) -> int:
        """How many a clairvoyant server could have answered in time."""
        first_at = min(reply.sent_at for reply in self.replies)
        due = [r.sent_at + b - first_at for r, b in zip(self.replies, self.budgets_s, strict=True)]
        return most_in_time(due, takes_s)


@dataclass(frozen=True, slots=True)
class Journalled:
    """What the server's journal says. `takes_s`: by rows of a batch, how long each took on the worker, from its start
    to its end; `refused_s`: of every request without an answer, from its deadline until that was decided."""

    takes_s: Mapping[int, Sequence[float]]
    refused_s: Sequence[float]

    def curve(self, stated: Curve) -> list[float]:
        """Median seconds of a batch of 1, 2, ... rows; where no batch of that size ran, in between, or as stated."""
        sizes = sorted(self.takes_s) or sorted(stated)
        medians = [float(np.median(self.takes_s.get(n, [stated.get(n, MODEL_S)]))) for n in sizes]
        pace = np.interp(sorted(stated), sizes, np.array(medians) - [stated[n] for n in sizes])
        return [stated[n] + float(slower) for n, slower in zip(sorted(stated), pace, strict=True)]


def read(journal: Path) -> Journalled:
    """Everything in it."""
    takes: dict[int, list[float]] = defaultdict(list)
    rows: dict[int, int] = {}
    due: dict[str, float] = {}
    refused = []
    reader = JournalReader(journal)
    for step in reader:
        match step.event:
            case Arrived(request):
                due[request.id] = request.due_at
            case BatchDone(batch_id) if batch_id in rows:
                takes[rows.pop(batch_id)].append(step.event.finished_at - step.event.started_at)
            case _:
                pass
        for command in step.commands:
            if isinstance(command, RunBatch):
                rows[command.batch_id] = len(command.rows)
            elif isinstance(command, Answer) and command.outcome in (Outcome.REFUSED, Outcome.EXPIRED):
                refused.append(step.now - due[command.request_id])
    reader.close()
    return Journalled(takes, refused)


def calls(of: Yard, bursts: int, rng: np.random.Generator) -> tuple[list[Call], list[float]]:
    """Bursts of requests with one image each, and the budget of each request in seconds."""
    budgets = np.concatenate([rng.permutation(np.repeat(BUDGETS_S, EACH)) for _ in range(bursts)])
    size = len(BUDGETS_S) * EACH
    instants = np.repeat(np.arange(bursts) * APART_S, size)
    _, plain = of.calls(instants, rng)
    return [
        Call(call.at, call.path, call.body, {**call.headers, "x-request-timeout-seconds": f"{budget:g}"})
        for call, budget in zip(plain, budgets.tolist(), strict=True)
    ], budgets.tolist()


def served(of: Yard, batching: str, bursts: int, rng: np.random.Generator) -> tuple[list[Burst], Journalled]:
    """A fresh server, and all bursts of a run; those that warm it up are left out of the first."""
    with yard_copy(of) as own:
        curve = CURVES[batching]
        keep_pace(own.root, {VARIANT: curve}, peek="", deadline="10s", penalty="step", on_miss="reject")
        asked, budgets = calls(own, WARM + bursts, rng)
        journal = own.log.with_name("deadlines.journal")
        settings = {"log": "error", "margin": MARGIN, "journal": str(journal)}
        with ServerProcess(own.root, settings, own.log) as server:
            sent = send_apart(server.http, asked, cores_of(own))
        size = len(BUDGETS_S) * EACH
        cut = [slice(first, first + size) for first in range(WARM * size, len(asked), size)]
        return [Burst(budgets[part], sent.replies[part]) for part in cut], read(journal)


def job(batching: str, bursts: int) -> Job:
    def played(seed: int) -> list[Row]:
        rng = np.random.default_rng([_STREAM, seed, batching == ON])
        found, journalled = served(yard(), batching, bursts, rng)
        return told(found, journalled, batching, seed)

    return played


def told(bursts: Sequence[Burst], journalled: Journalled, batching: str, seed: int) -> list[Row]:
    """A row for each burst, and at either end one for each request that was not answered."""
    takes_s = journalled.curve(CURVES[batching])
    rows: list[Row] = []
    for burst in bursts:
        size = len(burst.replies)
        kept = [burst.in_time(i) for i in range(size)]
        refused = [burst.refused(i) for i in range(size)]
        expired = sum(reply.status == 504 for reply in burst.replies)
        rows.append(
            {
                "batching": batching,
                "seed": seed,
                "requests": size,
                "in_time": sum(kept) / size,
                "possible": burst.possible(takes_s) / size,
                "refused": sum(refused) / size,
                "accepted": (size - sum(refused)) / size,
                "late": (size - sum(refused) - sum(kept)) / size,
                "at_deadline": expired / size,
                "model_ms": takes_s[0] * 1e3,
            }
        )
        for i, reply in enumerate(burst.replies):
            if reply.status == 200:
                continue
            after_s = reply.done_at - reply.sent_at
            mine: dict[str, Value] = {"client_over_ms": (after_s - burst.budgets_s[i]) * 1e3}
            if refused[i]:
                mine |= {"told_ms": after_s * 1e3, "waited": float(after_s > AT_ONCE_S)}
            rows.append({"batching": batching, "seed": seed, **mine})
    over = journalled.refused_s
    return rows + [{"batching": batching, "seed": seed, "server_over_ms": s * 1e3} for s in over]


# ---- what is claimed ----


def _share(table: Table, batching: str) -> Floats:
    kept, possible = (table.mean(what, batching=batching) for what in ("in_time", "possible"))
    return np.asarray(kept / possible)


def _measure(table: Table) -> Mapping[str, Floats]:
    late, accepted = table.mean("late"), table.mean("accepted")
    return {
        "trust-deadlines-kept": _share(table, OFF),
        "trust-deadlines-kept-batching": _share(table, ON),
        "trust-deadlines-refused-client": table.quantile("client_over_ms", 0.99),
        "trust-deadlines-refused-server": table.quantile("server_over_ms", 0.99),
        "trust-deadlines-late": np.asarray(late / accepted),
        "trust-deadlines-at-once": 1.0 - table.mean("waited"),
    }


# ---- what is printed and drawn ----

# What NVIDIA Triton Inference Server 2.51.0 answered on a machine of this kind, before this experiment was written:
# identity model of the Python backend that sleeps 50 ms, max_batch_size 8, one CPU instance, max_queue_size 4.
REFERENCE = [
    [
        "Triton 2.51.0",
        "sent at once",
        "budget",
        "answered",
        "refused at once",
        "told that it is too late",
        "when",
    ],
    ["8 rows each", "12", "120 ms", "1, after 72 ms", "7 (queue full)", "4", "after 502 to 515 ms"],
    ["1 row each", "4", "20 ms", "1, after 52 ms", "0", "3", "after 549 ms"],
]


def _tables(table: Table) -> list[list[list[str]]]:
    head = ["peekserve", "bursts", "batch of one", "answered in time", "a clairvoyant", "share", "refused"]
    head += [
        "refused, p99 after the deadline: client",
        "server",
        "told after, p50",
        "p99",
        "accepted but late",
        "504",
    ]
    lines = [head]
    for batching in (OFF, ON):
        size = len(BUDGETS_S) * EACH
        mean = {what: float(table.mean(what, batching=batching)[0]) for what in _SHARES}
        p99, over = (
            float(table.quantile(what, 0.99, batching=batching)[0])
            for what in ("client_over_ms", "server_over_ms")
        )
        p50_ms, p99_ms = (
            float(table.quantile("told_ms", share, batching=batching)[0]) for share in (0.5, 0.99)
        )
        lines.append(
            [
                f"batching {batching}",
                str(sum("in_time" in row and row["batching"] == batching for row in table.rows)),
                f"{mean['model_ms']:.1f} ms",
                f"{mean['in_time'] * size:.2f} of {size}",
                f"{mean['possible'] * size:.2f}",
                str(Interval.of(_share(table, batching))),
                f"{mean['refused'] * size:.2f}",
                f"{p99:.1f} ms",
                f"{over:.1f} ms",
                f"{p50_ms:.1f} ms",
                f"{p99_ms:.1f} ms",
                f"{mean['late'] / mean['accepted']:.4f}",
                f"{mean['at_deadline'] * size:.3f}",
            ]
        )
    return [lines, REFERENCE]


_SHARES = ("in_time", "possible", "refused", "accepted", "late", "at_deadline", "model_ms")


def _panels(table: Table) -> Sequence[Panel]:
    names = [f"batching {batching}" for batching in (OFF, ON)]
    bars = [
        Series(label, range(2), [table.mean(what, batching=b) * len(BUDGETS_S) * EACH for b in (OFF, ON)])
        for label, what in (("in time", "in_time"), ("a clairvoyant", "possible"), ("refused", "refused"))
    ]
    return [Panel("Bursts of twelve over a model of 50 ms", "", "requests of a burst", bars, names)]


def _jobs(lab: TrustLab) -> Sequence[Job]:
    bursts = max(round(BURSTS * lab.share), 2)
    return [job(batching, bursts) for batching in (OFF, ON)]


EXPERIMENTS = (
    Experiment(
        "trust-deadlines",
        "bursts of twelve with budgets of 20 to 300 ms over a model of 50 ms, live",
        _jobs,
        _measure,
        _panels,
        seeds=3,
        small_seeds=1,
        tables=_tables,
        times="one paced worker behind a server over loopback",
    ),
)

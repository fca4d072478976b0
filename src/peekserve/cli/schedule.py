"""`peekserve schedule`: a written window, planned by one policy or by several, and what the plans are worth."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import msgspec
import numpy as np
from rich.table import Table

from peekserve.cli.explained import explained
from peekserve.cli.terminal import console
from peekserve.core.backlog import Backlog
from peekserve.core.beliefs import make as make_beliefs
from peekserve.core.catalogue import Catalogue
from peekserve.core.fleet import Fleet
from peekserve.domain.messages import Plan
from peekserve.domain.request import Request
from peekserve.errors import DataUnavailable, InvalidConfiguration, TooLarge
from peekserve.policies import POLICIES, SWITCHES, Switches, make
from peekserve.policies.base import View
from peekserve.policies.explain import explain
from peekserve.policies.optimal import Optimal
from peekserve.policies.worth import evaluate, loaded
from peekserve.registry.window import WrittenWindow, read_window

# What a row is believed to be worth, whoever plans: policies that believe otherwise are compared by this.
JUDGE = Switches(aware=True, short_circuit=True)
# Rows explained at once: more is more than anybody reads, and each asks for as much as many plans.
MOST_EXPLAINED = 64


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """Times in seconds from now; `start_s` is before the load."""

    worker: str
    application: str
    variant: str
    rows: tuple[int, ...]
    start_s: float
    load_s: float
    finish_s: float
    closed: str


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """`outcome`: batch, instant (the peek's answer), refused, or left (no place; it goes on waiting)."""

    row: int
    application: str
    outcome: str
    variant: str | None
    finish_s: float | None
    due_s: float
    utility: float


@dataclass(frozen=True, slots=True)
class Planned:
    """`utility`: sum over rows, by the belief of each row; `believed`: by what the policy itself believes.
    `proven`, `labels`: only for the optimum. `error`: why there is no plan. `explained`: what else could have been done
    with the rows that were asked about (policies/explain.py), by the policy's own belief; None if none were."""

    policy: str
    switches: Switches
    options: Mapping[str, float]
    utility: float = 0.0
    believed: float = 0.0
    decision_s: float = 0.0
    batches: tuple[PlannedBatch, ...] = ()
    instant: tuple[int, ...] = ()
    refused: tuple[int, ...] = ()
    left: tuple[int, ...] = ()
    rows: tuple[PlannedRow, ...] = ()
    proven: bool | None = None
    labels: int | None = None
    error: str | None = None
    explained: tuple[dict[str, object], ...] | None = None


def schedule(
    path: Path, policy: str, options: Sequence[str], as_json: bool, explaining: Sequence[int] | None = None
) -> int:
    """Plan the window of this file and print the plan. `policy`: a name, several with commas, or `all`. An option
    is NAME=NUMBER, or POLICY.NAME=NUMBER where there are several. `explaining`: the rows to explain, none named for
    all of them, None for nothing.

    A policy whose extra is not installed is left out, with a note, unless it was named. Raises InvalidConfiguration for
    what is wrong in the file or in an option, TooLarge where `optimal` is asked alone and cannot say, DataUnavailable
    where a policy that was named lacks its extra.
    """
    window = read_window(path)
    view = view_of(window)
    rows = None if explaining is None else _rows_to_explain(explaining, view.size)
    names = list(POLICIES if policy == "all" else dict.fromkeys(name.strip() for name in policy.split(",")))
    given = read_options(options, names)
    found = []
    for name in names:
        try:
            found.append(planned(window, view, name, given[name], rows))
        except DataUnavailable as error:
            if policy != "all":
                raise
            print(f"{name} is left out: {error}", file=sys.stderr)
        except TooLarge as error:
            if len(names) == 1:
                raise
            switches = replace(SWITCHES[name], **window.switches)
            found.append(Planned(name, switches, given[name], error=str(error)))
    if as_json:
        document = found[0] if len(found) == 1 else {"policies": found}
        print(msgspec.json.encode(document).decode())
    elif len(found) == 1:
        show(found[0])
    else:
        compare(found)
        for one in found:
            show_explained(one, f"{one.policy}. ")
    return 0


def _rows_to_explain(asked: Sequence[int], size: int) -> Sequence[int]:
    """The rows of the window that were asked about. Raises InvalidConfiguration."""
    rows = list(dict.fromkeys(asked)) or list(range(size))
    for row in rows:
        if not 0 <= row < size:
            raise InvalidConfiguration(f"--explain {row}: the window has rows 0 to {size - 1}")
    if len(rows) > MOST_EXPLAINED:
        raise InvalidConfiguration(
            f"--explain of {len(rows)} rows: name at most {MOST_EXPLAINED} of them, for example --explain 0 1"
        )
    return rows


def read_options(pairs: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """The options of each policy. Raises InvalidConfiguration for one that belongs to none."""
    options: dict[str, dict[str, float]] = {name: {} for name in names}
    for pair in pairs:
        key, _, value = pair.partition("=")
        owner, dot, name = key.strip().rpartition(".")
        if not dot and len(names) == 1:
            owner = names[0]
        try:
            options[owner][name] = float(value)
        except KeyError:
            raise InvalidConfiguration(
                f"--option {pair!r}: of several policies, write POLICY.NAME=NUMBER, POLICY one of {', '.join(names)}"
            ) from None
        except ValueError:
            raise InvalidConfiguration(f"--option {pair!r} is not NAME=NUMBER") from None
    return options


def view_of(window: WrittenWindow) -> View:
    """What a policy would see of this window at second 0: the scheduler's own catalogue, backlog and fleet."""
    catalogue = Catalogue(window.applications)
    fleet = Fleet(catalogue, hang_s=1.0)
    for worker in window.workers:
        fleet.up(worker.name, worker.device, worker.budget_bytes, 0.0)
    backlog = Backlog(catalogue, make_beliefs("dirichlet", catalogue))
    for i, row in enumerate(window.rows):
        request = Request(
            id=f"row{i}",
            application=row.application,
            arrived_at=-row.waited_s,
            due_at=row.deadline_s,
            query=row.query,
            pinned=row.pinned,
        )
        lane = catalogue.lane(catalogue.application(row.application), 0)
        # Late answers count for what their penalty leaves: that is what a window is written to find out.
        offered = np.ones(catalogue.variants, np.bool_)
        slots = backlog.add(request, 0.0, fleet.fastest_s(lane), offered, late_ok=True)
        if row.counts is not None:
            backlog.observe(slots, np.array([row.counts]))
    enabled = np.ones((len(catalogue.lanes), catalogue.variants), np.bool_)
    workers = tuple(
        replace(
            seen,
            free_at=written.free_s,
            resident=tuple(catalogue.weights.index(name) for name in written.resident),
        )
        for seen, written in zip(
            fleet.view([worker.name for worker in window.workers], 0.0), window.workers, strict=True
        )
    )
    return backlog.view(backlog.waiting(), 0.0, workers, enabled)


def planned(
    window: WrittenWindow,
    view: View,
    name: str,
    options: Mapping[str, float],
    explaining: Sequence[int] | None = None,
) -> Planned:
    """One policy's plan of the window, and these rows of it explained. Raises InvalidConfiguration and TooLarge."""
    switches = replace(SWITCHES.get(name, Switches()), **window.switches)
    # A window that is looked at has a place for every row; what serves would only plan a few batches ahead.
    whole = {"ahead": 0.0} if "ahead" in getattr(POLICIES.get(name), "OPTIONS", ()) else {}
    policy = make(name, switches, **{**whole, **options})
    began = perf_counter()
    plan = policy.plan(view)
    took = perf_counter() - began
    if took < 0.05:
        # The first call of a process also pays for what is looked up only once.
        began = perf_counter()
        plan = policy.plan(view)
        took = perf_counter() - began
    utility, finish = evaluate(view, plan, JUDGE)
    batches = _batches(view, plan)
    rows = _rows(window, plan, batches, utility.tolist(), finish.tolist())
    exact = policy if isinstance(policy, Optimal) else None
    return Planned(
        policy=name,
        switches=switches,
        options=options,
        utility=_figure(utility.sum()),
        believed=_figure(evaluate(view, plan, switches)[0].sum()),
        decision_s=took,
        batches=batches,
        instant=tuple(plan.instant),
        refused=tuple(plan.refuse),
        left=tuple(row.row for row in rows if row.outcome == "left"),
        rows=rows,
        proven=None if exact is None else not exact.exhausted,
        labels=None if exact is None else exact.labels,
        explained=None
        if explaining is None
        else tuple(told.as_json() for told in explain(view, plan, switches, explaining)),
    )


def _figure(value: float) -> float:
    """To nine decimals: the last bits of a sum say nothing."""
    return round(float(value), 9)


def _batches(view: View, plan: Plan) -> tuple[PlannedBatch, ...]:
    free = [worker.free_at - view.now for worker in view.workers]
    held = [list(worker.resident) for worker in view.workers]
    made = []
    for batch in plan.batches:
        worker, lane = view.workers[batch.worker], view.lanes[batch.lane]
        load_s = loaded(worker, held[batch.worker], int(lane.weights[batch.variant]))
        start = free[batch.worker]
        free[batch.worker] += load_s + float(worker.latency_s[batch.lane][batch.variant, len(batch.rows)])
        made.append(
            PlannedBatch(
                worker=worker.name,
                application=lane.name,
                variant=lane.variants[batch.variant],
                rows=tuple(batch.rows),
                start_s=_figure(start),
                load_s=_figure(load_s),
                finish_s=_figure(free[batch.worker]),
                closed=batch.closed,
            )
        )
    return tuple(made)


def _rows(
    window: WrittenWindow,
    plan: Plan,
    batches: Sequence[PlannedBatch],
    utility: Sequence[float],
    finish: Sequence[float],
) -> tuple[PlannedRow, ...]:
    variant = {row: batch.variant for batch in batches for row in batch.rows}
    outcome = dict.fromkeys(variant, "batch") | dict.fromkeys(plan.instant, "instant")
    outcome |= dict.fromkeys(plan.refuse, "refused")
    return tuple(
        PlannedRow(
            row=i,
            application=row.application,
            outcome=outcome.get(i, "left"),
            variant=variant.get(i),
            finish_s=None if finish[i] != finish[i] else _figure(finish[i]),
            due_s=row.deadline_s,
            utility=_figure(utility[i]),
        )
        for i, row in enumerate(window.rows)
    )


# ---- for people ------------------------------------------------------------------------------------------------


def show(found: Planned) -> None:
    """One plan: its batches, its rows, and what it is worth."""
    out = console()
    batches = _table("Batches", ("worker", "model", "rows"), ("start", "load", "finish", "closed"))
    for batch in found.batches:
        model = f"{batch.application}/{batch.variant}"
        times = (_ms(batch.start_s), _ms(batch.load_s), _ms(batch.finish_s))
        batches.add_row(batch.worker, model, " ".join(map(str, batch.rows)), *times, batch.closed)
    rows = _table("Rows", ("row", "application", "outcome"), ("due", "finish", "utility"))
    for row in found.rows:
        finish = "" if row.finish_s is None else _ms(row.finish_s)
        late = row.finish_s is not None and row.finish_s > row.due_s
        style = "red" if late or row.utility == 0.0 else None
        who = row.variant or row.outcome
        rows.add_row(
            str(row.row), row.application, who, _ms(row.due_s), finish, f"{row.utility:.4f}", style=style
        )
    out.print(batches)
    out.print(rows)
    out.print(
        f"{found.policy}: expected utility {found.utility:.4f} of {len(found.rows)} rows, "
        f"decided in {found.decision_s * 1e3:.2f} ms"
    )
    if found.proven is not None:
        out.print(f"{'proven' if found.proven else 'NOT proven'}, after {found.labels} labels")
    show_explained(found)


def show_explained(found: Planned, title: str = "") -> None:
    """A table for each row that was asked about."""
    out = console()
    for row in found.explained or ():
        table = explained(row, out.width)
        table.title = f"{title}{table.title}"
        out.print(table)


def compare(found: Sequence[Planned]) -> None:
    """A line for each policy."""
    table = _table(
        "Expected utility",
        ("policy",),
        ("utility", "own belief", "batches", "instant", "refused", "left", "decided in"),
    )
    best = max((one.utility for one in found if one.error is None), default=0.0)
    for one in found:
        if one.error is not None:
            table.add_row(one.policy, "no plan", style="red")
            continue
        counts = (len(one.batches), len(one.instant), len(one.refused), len(one.left))
        table.add_row(
            one.policy + ("" if one.proven is not False else " (not proven)"),
            f"{one.utility:.4f}",
            f"{one.believed:.4f}",
            *map(str, counts),
            f"{one.decision_s * 1e3:.2f} ms",
            style="bold green" if one.utility >= best - 1e-9 else None,
        )
    out = console()
    table.pad_edge = out.width >= 100  # without it the table fits eighty columns
    out.print(table)
    for one in found:
        if one.error is not None:
            out.print(f"{one.policy}: {one.error}", markup=False, soft_wrap=True)


def _table(title: str, words: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold")
    for name in words:
        # Names stay whole in a narrow terminal; a long batch goes on in the next line.
        table.add_column(name, no_wrap=name != "rows")
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"

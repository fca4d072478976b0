"""The yardstick: the best plan that there is for a window (SneakPeek, sections 5.1 and 6; kernel/exact.py).

For small windows and for looking back, not for serving: what it costs grows exponentially with the rows of a
lane and of the window. A dozen rows of the paper's three applications took from 0.2 to 15 seconds on one core, least
with short-circuits and a step penalty, most without and with a linear one (8 rows: 0.03 to 0.4). Any number of workers,
which need not be alike, but each more multiplies the labels.

It plans what the other policies plan with the same switches. `aware` and `short_circuit` say what is believed
and whether a row may take the peek's answer; with `drop`, rows that nothing can finish in time take no place,
and no row goes into a batch in which it is late and worthless; without, all rows are run that can be, at the end
if they are worth nothing. `merge` says how a policy may share batches among neighbours: the optimum chooses
its batches freely. So its plan is worth at least as much as that of any other policy with the same switches,
`merge` and options aside.

Options:

- `max_labels` (3,000,000): how many candidate plans so far may be looked at. When they run out, TooLarge is
  raised, which says so.
- `strict` (1): 0 takes the best plan known instead of raising; `exhausted` counts how often that happened.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from peekserve.domain.messages import Batch, Plan
from peekserve.errors import TooLarge
from peekserve.kernel.exact import Solution, solve
from peekserve.kernel.window import Lane, Machine, Window
from peekserve.policies.base import Switches, View, WorkerView
from peekserve.policies.options import checked
from peekserve.policies.placing import Outlook, look
from peekserve.policies.sneakpeek import Grouped, LoEdf, SneakPeek
from peekserve.policies.worth import evaluate


@dataclass(frozen=True, slots=True)
class Best:
    """The best plan found for a view. `utility`: a sum over its rows. `proven`: no plan is worth more. `labels`: how
    many were looked at."""

    plan: Plan
    utility: float
    proven: bool
    labels: int


class Optimal:
    """The exact optimum. `exhausted`: plans that could not be proven; `labels`: looked at for the last plan."""

    OPTIONS: ClassVar[Mapping[str, float]] = {"max_labels": 3_000_000.0, "strict": 1.0}

    def __init__(self, switches: Switches, **options: float) -> None:
        self.switches = switches
        self.options = checked(self.OPTIONS, options, {})
        self.exhausted = 0
        self.labels = 0

    def plan(self, view: View) -> Plan:
        """Raises TooLarge when the labels run out, unless `strict` is 0."""
        best = self.best(view)
        self.labels = best.labels
        if not best.proven:
            self.exhausted += 1
            if self.options["strict"] > 0.0:
                rows, many = len(look(view, self.switches).open), len(view.workers)
                raise TooLarge(
                    f"the optimum of {rows} rows on {many} worker{'s' * (many != 1)} is not proven after "
                    f"max_labels={self.options['max_labels']:.0f}: allow more, plan fewer rows, or take the best "
                    "plan known with strict=0"
                )
        return best.plan

    def best(self, view: View, known: Sequence[Plan] = ()) -> Best:
        """The optimum, or the best plan known when the labels run out. `known`: plans that somebody has already, with
        the same switches; the better they are, the less is left to look at. Raises InvariantBroken for one of them that
        cannot be carried out."""
        if not view.workers or not view.size:
            return Best(Plan(), 0.0, True, 0)
        outlook = look(view, self.switches)
        plans = [*known, *(maker(self.switches).plan(view) for maker in (Grouped, SneakPeek, LoEdf))]
        worth = [self._worth(view, plan) for plan in plans]
        first = int(np.argmax(worth))
        given_up = float(np.maximum(outlook.worth, 0.0)[outlook.instant].sum())
        solution = solve(_window(outlook), worth[first] - given_up, int(self.options["max_labels"]))
        if solution.batches is None:
            return Best(plans[first], worth[first], solution.proven, solution.labels)
        plan = _to_plan(outlook, solution)
        return Best(plan, self._worth(view, plan), solution.proven, solution.labels)

    def _worth(self, view: View, plan: Plan) -> float:
        return float(evaluate(view, plan, self.switches)[0].sum())


def _window(outlook: Outlook) -> Window:
    view, rows = outlook.view, outlook.open
    lanes = tuple(Lane(tuple(lane.weights.tolist()), tuple(lane.max_batch.tolist())) for lane in view.lanes)
    machines = tuple(
        Machine(w.latency_s, w.load_s, w.bytes, w.budget, w.free_at - view.now, w.resident)
        for w in view.workers
    )
    return Window(
        lanes=lanes,
        machines=machines,
        lane=view.lane[rows].astype(np.int64),
        due_s=outlook.due_s[rows],
        kind=view.penalty[rows].astype(np.int64),
        width_s=view.width_s[rows],
        accuracy=outlook.accuracy[rows],
        allowed=view.allowed[rows],
        without=np.maximum(outlook.worth[rows], 0.0),
        tables=(view.tables.x, view.tables.p, view.tables.start.astype(np.int64)),
        drop=outlook.switches.drop,
    )


def _to_plan(outlook: Outlook, solution: Solution) -> Plan:
    view = outlook.view
    batches = [
        Batch(w, lane, v, tuple(int(outlook.open[r]) for r in rows))
        for w, queue in enumerate(solution.batches or ())
        for lane, v, rows in queue
    ]
    placed = {row for batch in batches for row in batch.rows}
    over = [int(row) for row in outlook.open if int(row) not in placed]
    at_once = {row for row in over if outlook.worth[row] > 0.0} | set(outlook.instant.tolist())
    if not outlook.switches.drop:
        batches += _at_the_end(view, [row for row in over if row not in at_once])
    full = [len(b.rows) == int(view.lanes[b.lane].max_batch[b.variant]) for b in batches]
    return Plan(
        tuple(replace(b, closed="full" if f else "policy") for b, f in zip(batches, full, strict=True)),
        tuple(sorted(at_once)),
        tuple(outlook.refuse.tolist()),
    )


def _at_the_end(view: View, rows: list[int]) -> list[Batch]:
    """Batches of rows that are worth nothing any more but may not be dropped."""
    shared: dict[tuple[int, int, int], list[int]] = {}
    for row in rows:
        i = int(view.lane[row])
        places = [
            (w, i, v)
            for v in range(len(view.lanes[i].variants))
            if view.allowed[row, v]
            for w, worker in enumerate(view.workers)
            if _runs(view, worker, i, v)
        ]
        if places:
            shared.setdefault(places[0], []).append(row)
    batches = []
    for (w, i, v), group in shared.items():
        most = min(int(view.lanes[i].max_batch[v]), view.workers[w].latency_s[i].shape[1] - 1)
        batches += [Batch(w, i, v, tuple(group[at : at + most])) for at in range(0, len(group), most)]
    return batches


def _runs(view: View, worker: WorkerView, lane: int, variant: int) -> bool:
    weights = int(view.lanes[lane].weights[variant])
    fits = worker.bytes[weights] <= worker.budget
    return bool(fits and np.isfinite(worker.load_s[weights] + worker.latency_s[lane][variant, 1]))

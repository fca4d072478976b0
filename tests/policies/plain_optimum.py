"""The optimum by trying every plan, with the rules said once more and nothing clever: the yardstick of the
yardstick."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from peekserve.domain.utility import Penalty
from peekserve.policies.base import Switches, View
from peekserve.policies.placing import look
from tests.policies.views import a_lane, a_random_view, a_row, a_view, a_worker, penalties, takes


@dataclass(frozen=True)
class Queue:
    """What one worker has come to: when it is free, and what it holds, least recently used first."""

    free: float
    held: tuple[int, ...]


def best_of_all(view: View, switches: Switches) -> float:
    """The greatest utility of any plan, by enumeration: every order, every variant, every way to cut batches."""
    outlook = look(view, switches)
    accuracy, open_rows = outlook.accuracy, [int(row) for row in outlook.open]
    without = []
    for row in range(view.size):
        peek = float(view.instant[row])
        overdue = penalties(view, row).at(view.now - float(view.due_at[row]), 1.0)
        without.append(peek * (1.0 - overdue) if switches.short_circuit and peek == peek else 0.0)

    def value(row: int, v: int, finish: float) -> float | None:
        due = float(view.due_at[row] - view.now)
        lost = penalties(view, row).at(finish - due, 1.0)
        if switches.drop and lost >= 1.0 and finish > due:
            return None
        return float(accuracy[row, v]) * (1.0 - lost)

    def best(left: tuple[int, ...], queues: tuple[Queue, ...], first: int) -> float:
        most = sum(without[row] for row in left)
        # Workers one after another: what one does changes nothing for another.
        for w in range(first, len(queues)):
            for i in range(len(view.lanes)):
                mine = [row for row in left if view.lane[row] == i]
                for v in range(len(view.lanes[i].variants)):
                    able = [row for row in mine if view.allowed[row, v]]
                    for size in range(1, min(len(able), int(view.lanes[i].max_batch[v])) + 1):
                        after = run(w, queues[w], i, v, size)
                        if after is None:
                            continue
                        for rows in combinations(able, size):
                            gained = [value(row, v, after.free) for row in rows]
                            if None in gained:
                                continue
                            rest = tuple(row for row in left if row not in rows)
                            changed = (*queues[:w], after, *queues[w + 1 :])
                            most = max(most, sum(g for g in gained if g) + best(rest, changed, w))
        return most

    def run(w: int, queue: Queue, i: int, v: int, size: int) -> Queue | None:
        worker, weights = view.workers[w], int(view.lanes[i].weights[v])
        if worker.bytes[weights] > worker.budget:
            return None
        held = [h for h in queue.held if h != weights]
        load = 0.0
        if weights not in queue.held:
            load = float(worker.load_s[weights])
            while held and sum(worker.bytes[h] for h in held) + worker.bytes[weights] > worker.budget:
                held.pop(0)
        seconds = float(worker.latency_s[i][v, size])
        return Queue(queue.free + load + seconds, (*held, weights))

    start = tuple(Queue(worker.free_at - view.now, tuple(worker.resident)) for worker in view.workers)
    doomed = sum(without[row] for row in range(view.size) if row not in open_rows)
    return best(tuple(open_rows), start, 0) + doomed


def a_tiny_view(seed: int, workers: int = 1) -> tuple[View, Switches]:
    """Two to four rows of one to three applications, with a budget of one to all weights, any penalty and any
    residency; half of them so tight that the order decides."""
    rng = np.random.default_rng([seed, 77])
    aware, short_circuit, drop = bool(rng.random() < 0.7), bool(rng.random() < 0.5), bool(rng.random() < 0.7)
    switches = Switches(aware, short_circuit, drop)
    rows, lanes = int(rng.integers(2, 5)), int(rng.integers(1, 4))
    if rng.random() < 0.5:
        return a_random_view(seed, rows, lanes, workers), switches
    many = [int(rng.integers(1, 3)) for _ in range(lanes)]
    made = [
        a_lane(
            *(
                takes(
                    float(rng.uniform(0.01, 0.06)) * (1 + v),
                    0.5 + 0.2 * v,
                    load_s=float(rng.uniform(0.0, 0.08)),
                    size=float(rng.integers(1, 3)),
                    max_batch=int(rng.integers(1, 5)),
                    name=f"v{v}",
                )
                for v in range(many[i])
            )
        )
        for i in range(lanes)
    ]
    kinds = (Penalty.step(), Penalty.linear(), Penalty.sigmoid(), Penalty.constant(0.1))
    made_rows = []
    for _ in range(rows):
        lane, penalty = int(rng.integers(lanes)), kinds[int(rng.integers(4))]
        made_rows.append(
            a_row(
                lane,
                due=float(rng.uniform(0.02, 0.25)),
                accuracy=tuple(rng.uniform(0.2, 1.0, many[lane])),
                instant=float(rng.uniform(0.2, 0.7)) if rng.random() < 0.7 else float("nan"),
                likely=int(rng.integers(-1, 2)),
                penalty=penalty,
                deadline_s=float(rng.uniform(0.05, 0.2)),
            )
        )
    names = [f"{i}/v{v}" for i in range(lanes) for v in range(many[i])]
    sizes = {f"{i}/{v.name}": v.size for i, lane in enumerate(made) for v in lane.variants}
    fleet = []
    for _ in range(workers):
        budget = float(rng.choice([2.0, 3.0, 4.0, 100.0]))
        held, total = [], 0.0
        for name in rng.permutation(names).tolist():
            if rng.random() < 0.6 and total + sizes[name] <= budget:
                held.append(name)
                total += sizes[name]
        fleet.append(
            a_worker(float(rng.choice([0.0, 0.02])), tuple(held), budget, float(rng.choice([1.0, 1.3])))
        )
    return a_view(made, made_rows, fleet), switches

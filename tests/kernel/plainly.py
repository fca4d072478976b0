"""The kernel's rules once more, as plainly as they can be said and with nothing clever: the yardstick of
its search."""

from dataclasses import dataclass, replace
from itertools import permutations, product

from peekserve.policies.base import View
from peekserve.policies.placing import Items, Outlook
from tests.policies.views import penalties

INSTANT = -1


@dataclass(frozen=True)
class State:
    """One worker: when it is free, what it holds (least recently used first), and its last batch."""

    free: float
    held: tuple[int, ...]
    lane: int = -1
    variant: int = -1
    began: float = 0.0
    aboard: tuple[int, ...] = ()


class Plainly:
    def __init__(self, outlook: Outlook, items: Items, *, rescue: bool) -> None:
        self.outlook, self.view, self.worker = outlook, outlook.view, outlook.view.workers[0]
        self.rescue = rescue and outlook.switches.short_circuit
        self.items = [
            (int(items.lane[k]), [int(r) for r in items.rows[items.start[k] : items.start[k + 1]]])
            for k in range(items.size)
        ]

    def start(self) -> State:
        return State(self.worker.free_at - self.view.now, tuple(self.worker.resident))

    def choices(self, k: int) -> list[int]:
        lane, rows = self.items[k]
        view: View = self.view
        weights = view.lanes[lane].weights
        fits = [
            v
            for v in range(len(view.lanes[lane].variants))
            if view.allowed[rows[0], v] and self.worker.bytes[weights[v]] <= self.worker.budget
        ]
        return fits + ([INSTANT] if self.instant(k) >= 0.0 else [])

    def instant(self, k: int) -> float:
        worth = [float(self.outlook.worth[row]) for row in self.items[k][1]]
        if min(worth) < 0.0 or (self.outlook.switches.drop and sum(worth) <= 0.0):
            return -1.0
        return sum(worth)

    def value(self, row: int, variant: int, finish: float) -> float:
        return float(self.outlook.accuracy[row, variant]) * (1.0 - self.lost(row, finish))

    def lost(self, row: int, finish: float) -> float:
        return penalties(self.view, row).at(finish - float(self.outlook.due_s[row]), 1.0)

    def useful(self, row: int, variant: int, finish: float) -> bool:
        late = finish > float(self.outlook.due_s[row])
        if self.outlook.switches.drop and late and self.lost(row, finish) >= 1.0:
            return False
        return not (self.rescue and self.value(row, variant, finish) < float(self.outlook.worth[row]))

    def chunk(
        self, rows: list[int], lane: int, variant: int, begin: float, aboard: int
    ) -> tuple[list[int], float, float, int]:
        """The rows on board, their finish, what all rows dealt with are worth, and how many those are."""
        seconds = self.worker.latency_s[lane][variant]
        if not (self.outlook.switches.drop or self.rescue):
            finish = begin + float(seconds[aboard + len(rows)])
            return rows, finish, sum(self.value(row, variant, finish) for row in rows), len(rows)
        for size in range(len(rows), 0, -1):
            finish = begin + float(seconds[aboard + size])
            fit = [row for row in rows if self.useful(row, variant, finish)]
            if len(fit) >= size:
                kept = fit[:size]
                break
        else:
            kept = []
        taken = rows.index(kept[-1]) + 1 if kept else len(rows)
        total = sum(self.value(row, variant, finish) for row in kept)
        if self.rescue:
            total += sum(max(float(self.outlook.worth[row]), 0.0) for row in rows[:taken] if row not in kept)
        return kept, finish, total, taken

    def place(self, state: State, k: int, variant: int) -> tuple[float, State]:
        lane, rows = self.items[k]
        lane_view = self.view.lanes[lane]
        most = int(lane_view.max_batch[variant])
        weights = int(lane_view.weights[variant])
        total = 0.0
        room = most - len(state.aboard)
        if self.outlook.switches.merge and (state.lane, state.variant) == (lane, variant) and room > 0:
            kept, finish, gain, taken = self.chunk(rows[:room], lane, variant, state.began, len(state.aboard))
            unharmed = all(
                self.value(row, variant, finish) >= self.value(row, variant, state.free)
                for row in state.aboard
            )
            if kept and unharmed:
                state = replace(state, free=finish, aboard=state.aboard + tuple(kept))
                total, rows = gain, rows[taken:]
        load = 0.0 if weights in state.held else float(self.worker.load_s[weights])
        while rows:
            begin = state.free + load
            kept, finish, gain, taken = self.chunk(rows[:most], lane, variant, begin, 0)
            rows = rows[taken:]
            total += gain
            if kept:
                state = State(finish, self.used(state.held, weights), lane, variant, begin, tuple(kept))
                load = 0.0
        return total, state

    def used(self, held: tuple[int, ...], weights: int) -> tuple[int, ...]:
        if weights in held:
            return (*(h for h in held if h != weights), weights)
        left = list(held)
        while left and sum(self.worker.bytes[left]) + self.worker.bytes[weights] > self.worker.budget:
            left.pop(0)
        return (*left, weights)

    def best(self) -> float:
        """Every order, every choice."""
        best = 0.0
        options = [self.choices(k) or [None] for k in range(len(self.items))]
        for order in permutations(range(len(self.items))):
            for chosen in product(*(options[k] for k in order)):
                total, state = 0.0, self.start()
                for k, variant in zip(order, chosen, strict=True):
                    if variant == INSTANT:
                        total += self.instant(k)
                    elif variant is not None:
                        gain, state = self.place(state, k, variant)
                        total += gain
                best = max(best, total)
        return best

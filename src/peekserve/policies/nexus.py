"""Nexus (SOSP'19): squishy bin packing of sessions into duty cycles, and early drop.

A *session* is a model and a deadline. The worst case waits for one whole batch before its own, so the largest batch is
the largest b with 2 latency(b) <= deadline. A session that asks for more than a worker can do gets whole workers;
what is left over is packed, best fit decreasing, into *duty cycles*: workers that serve several sessions in turn, whose
batches shrink as the cycle gets shorter. On its turn a session looks at its queue through a window of its batch size,
and drops heads that such a batch could not answer in time (early drop).

Otherwise than the paper, and why:

- Nexus takes as few workers as its load needs, and more as it grows. Here the fleet is given: all rates are multiplied
  by the largest factor whose packing fits the workers, above 1 where there is room and below 1 in overload. Sessions
  that fit nowhere even then, and new ones until the next packing, are served by workers with nothing else to do.
- Workers may be unlike: packing believes each batch as long as on the slowest, running goes by each worker's own.
- Sessions share a worker there only if both stay in its memory. Here memory may hold a single model, so they may
  share all the same, and then every turn costs a load.
- Workers that serve one session take from one queue; there the front end deals the rows out beforehand.
- Packing is renewed once every `interval_s` (an epoch), and when workers come or go.
- A turn is not waited for: a worker passes over sessions that have no rows.
- A row that was dropped early stays in the backlog until nothing could save it, and may be taken after all when its
  queue has become shorter.
- As at clockwork, the owner chooses the model (`variant`; by default the most accurate that can be served at all, so
  with 2 latency(1) <= deadline). Sessions are packed with it. With `aware` or `choose` each batch, on its turn, is run
  by whichever variant is best on the mean over its rows, of those that answer its head in time and are done, load
  included, no later than the session's own would be: by what is believed of the rows, or by profile. `choose` alone
  is what awareness must be compared with. By batch and not by row, because every session more is a swap more.

Keeps the demand, the packing and the workers between plans: one policy object for one scheduler. Time that runs
backwards, or other lanes, make it begin anew.

Options: `variant` (-1), `choose` (0): see clockwork. `interval_s` (10): the length of an epoch.
"""

from collections.abc import Mapping, Sequence
from math import inf
from typing import ClassVar

import numpy as np

from peekserve.domain.messages import Plan
from peekserve.policies.base import Floats, Switches, View
from peekserve.policies.demand import Demand, Known
from peekserve.policies.options import checked
from peekserve.policies.packing import Key, Session, fitted, largest
from peekserve.policies.peers import NONE, Draft, Seat, owners_choice, queues
from peekserve.policies.placing import DECIMALS, Grounds, Indices


class Nexus:
    """Sessions in turn on the workers that they were packed onto."""

    OPTIONS: ClassVar[Mapping[str, float]] = {"variant": -1.0, "choose": 0.0, "interval_s": 10.0}

    def __init__(self, switches: Switches, **options: float) -> None:
        self.switches = switches
        self.options = checked(self.OPTIONS, options, {"variant": -1.0, "interval_s": 1e-3})
        self.grounds = Grounds()
        self._reset()

    def _reset(self) -> None:
        self._demand = Demand(self.options["interval_s"])
        self._known = Known(self.options["interval_s"])
        self._cycles: dict[str, tuple[tuple[Key, int], ...]] = {}

    def plan(self, view: View) -> Plan:
        if not view.workers or not view.size:
            return Plan()
        draft = Draft.of(view, self.switches, self.grounds.of(view))
        if not self._demand.follows(view):
            self._reset()
            self._demand.begin(view)
        asked = self._asked(draft)
        draft.short_circuit(self._most(draft, asked))
        keys = (view.lane.astype(np.int64) * draft.ground.own.shape[1] + asked).tolist()
        served = draft.left[asked[draft.left] != NONE]
        self._demand.see(view, served.tolist(), keys, draft.accuracy)
        if self._known.see(view) or self._demand.is_due(view.now):
            self._demand.renew(view.now)
            self._pack(draft)
        while self._next(draft, asked):
            pass
        if not self.switches.drop:
            draft.drop(draft.left.tolist())
        draft.run_last(draft.seats)
        self._known.gave(view, draft.batches)
        return draft.plan()

    @property
    def _chooses(self) -> bool:
        return self.switches.aware or self.options["choose"] > 0.0

    def _asked(self, draft: Draft) -> Indices:
        """The session of each row: the variant that its owner chose."""
        if self.options["variant"] >= 0.0:
            return owners_choice(draft, int(self.options["variant"]))
        view = draft.view
        able = view.allowed & draft.able()[view.lane]
        deadline_s = np.array([self._deadline_s(view, lane) for lane in range(len(view.lanes))])
        quickest_s = draft.ground.first_s.min(axis=0)
        served = able & (2.0 * quickest_s <= deadline_s[:, None])[view.lane]
        best = np.where(served, draft.ground.profiled[view.lane], -1.0).argmax(axis=1)
        quickest = np.where(able, quickest_s[view.lane], inf).argmin(axis=1)
        named = np.where(served.any(axis=1), best, quickest)
        chosen: Indices = np.where(able.any(axis=1), named, NONE)
        return chosen

    def _deadline_s(self, view: View, lane: int) -> float:
        known = self._demand.deadline_s(lane)
        own = view.deadline_s[view.lane == lane]
        return known if known < inf or not len(own) else float(own.mean())

    def _most(self, draft: Draft, asked: Indices) -> Floats:
        most: Floats = draft.accuracy[np.arange(draft.view.size), asked]
        return np.where(draft.view.allowed, draft.accuracy, 0.0).max(axis=1) if self._chooses else most

    # ---- packing ----

    def _pack(self, draft: Draft) -> None:
        workers = self._known.workers
        sessions = self._sessions(draft)
        budget = min(worker.budget for worker in workers.values())
        nodes = fitted(sessions, budget, len(workers)) if sessions else []
        free = list(workers)
        self._cycles = {}
        for node in nodes:
            wanted = {draft.weights(*session.key) for session in node.sessions}
            # Whoever holds most of it already: a new packing costs loads.
            name = max(free, key=lambda n: (len(wanted & set(workers[n].resident)), -free.index(n)))
            free.remove(name)
            self._cycles[name] = tuple(
                (session.key, batch) for session, batch in zip(node.sessions, node.batches, strict=True)
            )

    def _sessions(self, draft: Draft) -> list[Session]:
        width = draft.ground.own.shape[1]
        workers = list(self._known.workers.values())
        found = []
        for key, rate in sorted(self._demand.rates.items()):
            lane, variant = divmod(key, width)
            weights = draft.weights(lane, variant)
            able = [w for w in workers if w.bytes[weights] <= w.budget]
            if not able or rate <= 0.0:
                continue
            most = draft.most(lane, variant)
            latency_s = np.maximum.reduce([w.latency_s[lane][variant, : most + 1] for w in able])
            if not np.isfinite(latency_s[1]):
                continue
            deadline_s = self._demand.deadline_s(lane)
            size = largest(latency_s, deadline_s)
            load_s = max(float(w.load_s[weights]) for w in able)
            size_bytes = max(float(w.bytes[weights]) for w in able)
            found.append(
                Session((lane, variant), rate, deadline_s, latency_s[: size + 1], load_s, size_bytes)
            )
        return found

    # ---- running ----

    def _next(self, draft: Draft, asked: Indices) -> bool:
        """One batch more, or heads less. False when no worker has anything to do."""
        waiting = queues(draft, asked)
        there = self._known.there(draft.view)
        owned = {key for name, cycle in self._cycles.items() if name in there for key, _ in cycle}
        strays = sorted(
            (key for key in waiting if key not in owned), key=lambda k: (draft.due_s[waiting[k][0]], k)
        )
        for seat in sorted(draft.seats, key=lambda s: (s.free_s, s.index)):
            turns = self._turns(draft, seat) + [(k, self._largest(draft, seat, k)) for k in strays]
            for key, batch in turns:
                if key in waiting and self._serve(draft, seat, key, waiting[key], batch):
                    return True
        return False

    def _turns(self, draft: Draft, seat: Seat) -> list[tuple[Key, int]]:
        """The worker's sessions, the one after that which ran last first."""
        cycle = list(self._cycles.get(seat.worker.name, ()))
        last = seat.held[-1] if seat.held else NONE
        for i, (key, _) in enumerate(cycle):
            if last in (draft.weights(key[0], v) for v in self._variants(draft, key)):
                return cycle[i + 1 :] + cycle[: i + 1]
        return cycle

    def _variants(self, draft: Draft, key: Key) -> Sequence[int]:
        """Those that may serve a session."""
        return range(int(draft.ground.own[key[0]].sum())) if self._chooses else (key[1],)

    def _largest(self, draft: Draft, seat: Seat, key: Key) -> int:
        table = seat.worker.latency_s[key[0]][key[1], : draft.most(*key) + 1]
        return largest(table, self._demand.deadline_s(key[0]))

    def _serve(self, draft: Draft, seat: Seat, key: Key, rows: Indices, batch: int) -> bool:
        """Run the first window of at most `batch` rows whose head is answered in time; drop the heads before it. False,
        and nothing done, on a worker that cannot run the session at all."""
        if draft.end_s(seat, *key, 1) == inf:
            return False
        for head in range(len(rows)):
            window = rows[head : head + batch]
            variant = self._variant(draft, seat, key, window, batch)
            if variant is not None:
                draft.drop(rows[:head].tolist())
                draft.run(seat, key[0], variant, window.tolist())
                return True
        draft.drop(rows.tolist())
        return True

    def _variant(self, draft: Draft, seat: Seat, key: Key, window: Indices, batch: int) -> int | None:
        """The best for this window that answers its head in time within the session's turn; None where none does."""
        lane, many = key[0], len(window)
        turn_s = draft.end_s(seat, *key, min(batch, draft.most(*key)))
        found = [
            (-round(float(draft.accuracy[window, v].mean()), DECIMALS), v)
            for v in self._variants(draft, key)
            if many <= draft.most(lane, v)
            and draft.end_s(seat, lane, v, many) <= turn_s
            and draft.end_s(seat, lane, v, many) <= draft.due_s[window[0]]
            and draft.view.allowed[window, v].all()
        ]
        return min(found)[1] if found else None

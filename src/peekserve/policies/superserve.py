"""What SuperServe is compared with in its paper (section 6.1; A.5): one simple rule each, on the same queue.

| policy   | variant                                       | batch                                       |
| -------- | --------------------------------------------- | ------------------------------------------- |
| maxacc   | the most accurate that answers the head alone | then the largest that it answers in time    |
| maxbatch | then the most accurate that answers it        | the largest that the quickest answers first |
| clipper  | one, stated                                   | the largest in time; or learnt              |
| infaas   | the cheapest                                  | the largest in time                         |

No batch is larger than what waits: `maxbatch` looks for its variant after it was cut to the queue.

**clipper** stands for Clipper, Clockwork and TF-Serving, as in the paper: one fixed variant, dynamic batches under the
deadline. Which one is a point on the accuracy range of each lane: six points at equal distances, 0 the least accurate
and 5 the most, and the variant that is nearest to it, of equals the quicker. A row that may not use that variant takes
the most accurate that it may.

With `aimd` the batch is learnt as Clipper learns it (NSDI'17, section 4.3.1), which knows no profile and looks at no
deadline but the one that all share: a worker's largest batch begins at 1, grows by `step` rows after a full batch that
took no longer than the latency objective, and shrinks to `backoff` of itself after one that took longer. The objective
is the shortest relative deadline in the batch. The time that a batch will take is read from the profile: a policy sees
no measurements, and batches begin and end elsewhere.

**infaas** is run without an accuracy constraint, and its authors agreed that it then always takes the cheapest: the
quickest variant of one row on the quickest worker, of equals the more accurate.

Nothing is chosen by accuracy in the last two, so `aware` changes nothing there but what a peek is weighed against.

Options of `clipper`: `point` (5), of `points` (6). `aimd` (0), `step` (1), `backoff` (0.9). With `aimd` it remembers
its largest batches: one policy object for one scheduler.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from peekserve.domain.messages import Plan
from peekserve.errors import InvalidConfiguration
from peekserve.policies.base import Bools, Floats, Switches, View
from peekserve.policies.peers import NONE, Draft
from peekserve.policies.placing import Indices
from peekserve.policies.reactive import Reactive, Turn


class MaxAcc(Reactive):
    """As accurate as the head's slack allows, then as many rows as that leaves time for."""

    def pick(self, turn: Turn) -> tuple[int, int] | None:
        variant = turn.best(turn.fits[:, 0], 1)
        return None if variant is None else (variant, turn.largest(variant))


class MaxBatch(Reactive):
    """As many rows as the quickest variant can take, then as accurate as that leaves time for."""

    def pick(self, turn: Turn) -> tuple[int, int] | None:
        return turn.maxbatch()


class _Fixed(Reactive):
    """One variant for all rows of a lane, whatever the time."""

    @abstractmethod
    def asked(self, draft: Draft) -> Indices:
        """i8[n]: the variant of each row; NONE where no worker can run any that it may use."""

    def usable(self, draft: Draft) -> Bools:
        only: Bools = self.asked(draft)[:, None] == np.arange(draft.view.allowed.shape[1])
        return only

    def pick(self, turn: Turn) -> tuple[int, int] | None:
        variant = int(turn.usable.argmax())
        size = turn.largest(variant)
        return (variant, size) if size else None


class Infaas(_Fixed):
    """Always the cheapest."""

    def asked(self, draft: Draft) -> Indices:
        cost_s = draft.ground.first_s.min(axis=0)
        rank = np.empty(cost_s.shape, np.int64)
        for lane, own in enumerate(cost_s):
            rank[lane, np.lexsort((-draft.ground.profiled[lane], own))] = np.arange(len(own))
        able = draft.view.allowed & draft.able()[draft.view.lane]
        first = np.where(able, rank[draft.view.lane], len(rank[0])).argmin(axis=1)
        return np.where(able.any(axis=1), first, NONE)


class Clipper(_Fixed):
    """One stated variant, in batches that end in time or whose size is learnt."""

    OPTIONS: ClassVar[Mapping[str, float]] = {
        **Reactive.OPTIONS, "point": 5.0, "points": 6.0, "aimd": 0.0, "step": 1.0, "backoff": 0.9,
    }  # fmt: skip
    LOWEST: ClassVar[Mapping[str, float]] = {"points": 1.0, "step": 1.0}

    def __init__(self, switches: Switches, **options: float) -> None:
        super().__init__(switches, **options)
        if self.options["point"] > self.options["points"] - 1.0:
            raise InvalidConfiguration(
                f"policy option 'point' counts from 0 to {self.options['points'] - 1.0:g}, the most accurate; "
                f"it is not {self.options['point']:g}"
            )
        if self.options["backoff"] >= 1.0:
            raise InvalidConfiguration(
                f"policy option 'backoff' is a share below 1, not {self.options['backoff']:g}"
            )
        self._largest: dict[tuple[str, int, int], int] = {}
        self._given: set[str] = set()

    def asked(self, draft: Draft) -> Indices:
        able = draft.able()
        profiled, first_s = draft.ground.profiled, draft.ground.first_s.min(axis=0)
        named = np.array(
            [
                self._named(p[can], s[can], np.flatnonzero(can))
                for p, s, can in zip(profiled, first_s, able, strict=True)
            ]
        )[draft.view.lane]
        may = draft.view.allowed & able[draft.view.lane]
        best = np.where(may, profiled[draft.view.lane], -1.0).argmax(axis=1)
        own = may[np.arange(draft.view.size), np.maximum(named, 0)]
        return np.where(may.any(axis=1), np.where(own, named, best), NONE)

    def _named(self, accuracy: Floats, first_s: Floats, variants: Indices) -> int:
        """Of these variants the one nearest to the point."""
        if not len(variants):
            return NONE
        low, high = float(accuracy.min()), float(accuracy.max())
        steps = self.options["points"] - 1.0
        wanted = low + (high - low) * (self.options["point"] / steps if steps else 1.0)
        # Rounded, so that the last bits do not decide between two that are equally near.
        return int(variants[np.lexsort((first_s, np.round(np.abs(accuracy - wanted), 12)))[0]])

    def plan(self, view: View) -> Plan:
        self._given.clear()
        return super().plan(view)

    def pick(self, turn: Turn) -> tuple[int, int] | None:
        fixed = super().pick(turn)
        if fixed is None or not self.options["aimd"]:
            return fixed
        variant = fixed[0]
        key = (turn.seat.worker.name, turn.lane, variant)
        most = self._largest.get(key, 1)
        size = min(most, int(turn.counts[variant]), int(turn.most[variant]))
        # Rolling planning carries out a worker's first batch; what stands behind it is only listed.
        if size == most and turn.seat.worker.name not in self._given:
            view, rows = turn.draft.view, turn.rows[:size]
            slow = float(turn.latency_s[variant, size]) > float(view.deadline_s[rows].min())
            most = max(int(most * self.options["backoff"]), 1) if slow else most + int(self.options["step"])
            self._largest[key] = min(most, int(turn.most[variant]))
        self._given.add(turn.seat.worker.name)
        return variant, size

"""What CascadeServe is compared with: its own parts, one taken away at a time (papers/notes.md 2.6).

| policy            | cascades | gear            | carries out                                             |
| ----------------- | -------- | --------------- | ------------------------------------------------------- |
| `static`          | yes      | one, stated     | a gear plan                                             |
| `model-switching` | no       | by load         | a gear plan of single models (peekserve plan makes one) |
| `dynba`           | no       | one model       | nothing: it needs no plan                               |

All three are `gears` at work on another plan, with its queues, shares and guard, so that what differs is what is
compared. Where nothing is forwarded, the guard keeps rows out of batches that would answer them too late.

**static** takes one gear of a plan for every load. The one that would have been best for a trace, all of them tried
on it, is the gear chosen in hindsight. Option `gear` (0): its number.

**model-switching** (Zhang et al., HotCloud'20) runs a single model, for each load the most accurate one that keeps up
with it; the paper gives it Clipper's batches. Here the planner chooses models, devices and queue lengths as it does for
cascades, with no cascade longer than one stage. A planner that does not switch either makes a plan of one gear: a
single model, at the places and with the queue length that the planner finds best. Options: those of `gears`.

**dynba**, dynamic batching, runs one model on every device that has a timing and room for it. As soon as `batch` rows
wait, or the first of them has waited for `wait_s` or could only just be in time, all that wait run, in batches as large
as the model takes. Options: `model` (-1: the most accurate by its profile that a device can run; otherwise a number, 0
for the least accurate, and the most accurate where there are fewer), `batch` (0: as many as the model takes), `wait_s`
(0: whatever waits runs as soon as a device is free), `guard` (1).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import ClassVar

import numpy as np

from peekserve.domain.gears import Expected, Gear, GearPlan, Planned, Share
from peekserve.errors import InvalidConfiguration
from peekserve.policies.base import LaneView, Switches, View
from peekserve.policies.gearbox import Gearbox
from peekserve.policies.gears import Gears, Queue
from peekserve.policies.options import checked

# A plan that was never made expects nothing.
_UNKNOWN = Expected((1.0,), 0.0, 0.0, 0.0, inf, 0.0)


class Static(Gears):
    """One gear, whatever the load."""

    NAME = "static"
    OPTIONS: ClassVar[Mapping[str, float]] = {"gear": 0.0, "guard": 1.0}

    def adapted(self, plan: GearPlan) -> GearPlan:
        gear = self.options["gear"]
        if not gear.is_integer():
            raise InvalidConfiguration(
                f"policy option 'gear' is the number of a gear, counted from 0; not {gear:g}"
            )
        return plan.only(int(gear))


class ModelSwitching(Gears):
    """Another model when the load is another."""

    NAME = "model-switching"

    def adapted(self, plan: GearPlan) -> GearPlan:
        longest = max(plan.gears, key=lambda gear: len(gear.stages))
        if len(longest.stages) > 1:
            raise InvalidConfiguration(
                f"the policy 'model-switching' runs single models, and the gear plan of {plan.application!r} has the "
                f"cascade {' -> '.join(longest.stages)}: plan for single models, or run it with the policy 'gears'"
            )
        return plan


class DynBa(Gears):
    """One model, in batches of a size or after a wait."""

    NAME = "dynba"
    OPTIONS: ClassVar[Mapping[str, float]] = {"model": -1.0, "batch": 0.0, "wait_s": 0.0, "guard": 1.0}
    LOWEST: ClassVar[Mapping[str, float]] = {"model": -1.0}

    def __init__(self, switches: Switches, **options: float) -> None:
        """Raises InvalidConfiguration for an unknown option."""
        self.switches = switches
        self.options = {**Gears.OPTIONS, **checked(self.OPTIONS, options, self.LOWEST)}
        for name in ("model", "batch"):
            if not self.options[name].is_integer():
                raise InvalidConfiguration(
                    f"policy option {name!r} is a whole number, not {self.options[name]:g}"
                )
        self._plans = {}
        self._reset()

    def box_of(self, name: str, lane: LaneView) -> Gearbox:
        """The one gear of an application, made when it is first seen, and anew if a device is seen later that can run
        what none could before."""
        model = self._model(lane)
        if name not in self.boxes or self.boxes[name].gear.stages != (lane.variants[model],):
            self.boxes[name] = Gearbox(self._one_gear(name, lane, model))
        return self.boxes[name]

    def queues_of(self, view: View, box: Gearbox, number: int) -> Sequence[Queue]:
        wait_s = self.options["wait_s"]
        return [replace(queue, wait_s=wait_s) for queue in super().queues_of(view, box, number)]

    def _model(self, lane: LaneView) -> int:
        able = self.able[lane.name] if self.able[lane.name].any() else np.ones(len(lane.variants), np.bool_)
        # The least accurate first, of equals the one that is written later: the last is the first of the best.
        ranked = [v for v in np.lexsort((-np.arange(len(able)), lane.profiled)).tolist() if able[v]]
        asked = int(self.options["model"])
        return int(ranked[min(asked, len(ranked) - 1)] if asked >= 0 else ranked[-1])

    def _one_gear(self, name: str, lane: LaneView, variant: int) -> GearPlan:
        model, most = lane.variants[variant], int(lane.max_batch[variant])
        queue = min(int(self.options["batch"]) or most, most)
        # No placement: a device that a plan does not name may run anything.
        shares = ((Share("any", 1.0),),)
        gear = Gear(0.0, inf, (model,), (), (queue,), shares, _UNKNOWN, 1.0)
        return GearPlan(name, "margin", "", "", (Planned(model, "", ""),), (), (gear,))

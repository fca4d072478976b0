"""How long a policy thinks about one window: figures 12b and 13b. Measured here, on whatever machine this is."""

from collections.abc import Callable, Sequence

from peekserve.clock import Clock, WallClock
from peekserve.experiments.sneakpeek.lab import Contender, Lab, Setting, Stage
from peekserve.experiments.standing import Standing
from peekserve.experiments.table import Row, Value
from peekserve.policies import make
from peekserve.policies.base import Policy, View
from peekserve.sim.window import Asked

# As often as the paper's schedulers are asked for each point (6.4.2).
INVOCATIONS = 5
# Of so many goes at one window the quickest counts: what else runs on this machine is not the scheduler's doing.
TIMES = 3


def view_of(stage: Stage, asked: Sequence[Asked], window_s: float) -> View:
    """What a policy sees at the end of a window: all its rows, with their evidence."""
    return Standing(stage.with_penalty(), stage.workers, stage.recorded, asked, window_s).view()


def timed(
    lab: Lab, setting: Setting, who: Sequence[Contender], clock: Clock | None = None, **where: Value
) -> Callable[[int], list[Row]]:
    """The job that measures, for one seed, the mean time of each contender's plans over a few windows."""
    watch = clock or WallClock()

    def job(seed: int) -> list[Row]:
        stage = Stage(lab, setting, seed)
        views = [view_of(stage, asked, lab.device.window_s) for asked in stage.asked[:INVOCATIONS]]
        rows: list[Row] = []
        for one in who:
            policy = make(one.policy, one.switches, **one.options)
            spent_s = [min(_spent_s(policy, view, watch) for _ in range(TIMES)) for view in views]
            mean_ms = 1e3 * sum(spent_s) / len(spent_s)
            rows.append({**where, "policy": one.name, "seed": seed, "decision_ms": mean_ms})
        return rows

    return job


def _spent_s(policy: Policy, view: View, watch: Clock) -> float:
    started_at = watch.now()
    policy.plan(view)
    return watch.now() - started_at

"""A supernet in pretended time: six subnets of one set of weights, bursts of requests, what every policy attains.

Its latencies are those of a device that batches well: a batch of 16 takes four times as long as one row alone.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import Application, OnMiss, Variant
from peekserve.domain.profile import LatencyCurve, Quality, Timing
from peekserve.domain.request import Outcome, Request, TensorRef
from peekserve.loadgen.rates import bursty
from peekserve.policies.base import Switches
from peekserve.sim.driver import Simulation, SimWorker
from peekserve.sim.faults import Faults
from peekserve.sim.world import Recorded, RecordedWorld
from tests.core.stories import an_application

# Seconds for one row, and accuracy: the spread of a measured front.
FRONT = ((0.001, 0.74), (0.0016, 0.765), (0.0025, 0.78), (0.004, 0.79), (0.006, 0.797), (0.008, 0.8))
MOST = 16
GROWS = 0.2
# One and a half times the slowest batch, as the measurements have it.
DEADLINE_S = 1.5 * FRONT[-1][0] * (1.0 + GROWS * (MOST - 1))
# Rows a second that one worker can do with the smallest subnet.
CARRIES = MOST / (FRONT[0][0] * (1.0 + GROWS * (MOST - 1)))


def a_subnet(number: int, seconds: float, accuracy: float, load_s: float = 0.0) -> Variant:
    """With `load_s` it is a model of its own, of which a worker holds one at a time."""
    curve = LatencyCurve((1, MOST), (seconds, seconds * (1.0 + GROWS * (MOST - 1))))
    quality = Quality((accuracy, accuracy), (0.5, 0.5))
    weights = f"model{number}" if load_s else "supernet"
    timing = {"cpu": Timing((curve,), load_s=load_s, bytes=1)}
    return Variant(f"d{number}", f"sha{number}", weights, max_batch=MOST, quality=quality, timing=timing)


@cache
def a_supernet(load_s: float = 0.0) -> Application:
    return an_application(
        *(a_subnet(i, s, a, load_s) for i, (s, a) in enumerate(FRONT)), name="net", on_miss=OnMiss.REJECT
    )


@dataclass(frozen=True)
class Got:
    """`attained`: share of all requests answered by their deadline. `accuracy`: the mean profiled accuracy of those.
    `utility`: the sum of these accuracies. `sizes`: rows of each batch; `used`: the variant of each answer in time."""

    attained: float
    accuracy: float
    utility: float
    sizes: tuple[int, ...]
    used: tuple[str, ...]


def bursts(load: float, cv2: float, seed: int, seconds: float = 2.0, base: float = 0.2) -> np.ndarray:
    """Instants of a fixed beat and a bursty stream over it (SuperServe, section 6): together `load` times what the
    smallest subnet can do, `base` of it in the beat."""
    rng = np.random.default_rng([seed, round(1000 * load), round(cv2)])
    rate = load * CARRIES
    return bursty(base * rate, (1.0 - base) * rate, cv2, seconds, rng)


def serve(
    policy: str,
    instants: np.ndarray,
    *,
    fleet: int = 1,
    deadline_s: float = DEADLINE_S,
    drop: bool = True,
    load_s: float = 0.0,
    app: Application | None = None,
    planning: str = "rolling",
    faults: Faults | None = None,
    **options: float,
) -> Got:
    """These arrivals through the whole scheduler, on workers that hold what they need."""
    app = app or a_supernet(load_s)
    spec = SchedulerSpec(
        policy, Switches(drop=drop), options, planning=planning, peek=False,
        on_miss=OnMiss.REJECT if drop else OnMiss.LATE,
    )  # fmt: skip
    names = [v.name for v in app.variants]
    recorded = Recorded(np.zeros(1, np.int64), {name: np.eye(2)[[0]] for name in names})
    sizes: list[int] = []

    def observe(event, now, commands) -> None:
        sizes.extend(len(c.rows) for c in commands if type(c).__name__ == "RunBatch")

    workers = [SimWorker(f"w{i}", "cpu", 1, (app.variants[0].weights,)) for i in range(fleet)]
    world = RecordedWorld({app.name: app}, {app.name: recorded})
    simulation = Simulation(spec.build([app]), workers, world, faults=faults, observe=observe)
    trace = [
        Request(f"r{i}", app.name, at, at + deadline_s, payload=TensorRef("0"))
        for i, at in enumerate((1.0 + instants).tolist())
    ]
    settled = simulation.run(trace)
    good = [
        s.answer.rows[0]
        for s in settled
        if s.answer.outcome in (Outcome.ANSWERED, Outcome.LATE) and s.at <= s.request.due_at + 1e-9
    ]
    accuracy = {v.name: sum(v.quality.recall) / len(v.quality.recall) for v in app.variants}
    used = tuple(row.variant for row in good)
    values = [accuracy[name] for name in used]
    total = float(np.sum(values))
    return Got(len(good) / len(trace), total / max(len(good), 1), total, tuple(sizes), used)

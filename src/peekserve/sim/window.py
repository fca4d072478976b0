"""One window by itself: the setting of the SneakPeek paper's experiments (section 6.1; notes 5.1).

Requests arrive within a window, the whole window is planned once at its end, the plan is carried out to the end, and
the next window begins afresh: same clock, same weights resident, empty backlog. How to use it:

    windows = Windows(applications, recorded, policy="sneakpeek", penalty=Penalty.sigmoid(),
                      workers=[SimWorker("gpu", "paper", budget_bytes, resident=("sha-of-weights",))])
    rng = np.random.default_rng([7, number])
    asked = a_window({"ecg": samples[:4], "falls": others[:4]}, rng)
    for got in windows.run(asked):
        got.row.utility, got.expected, got.row.believed - got.recall

`Windows` is made once for each policy and setting and run as often as you like; `simulate_window` is both in one call,
and slower, because it indexes the applications anew. Everything that a window needs of chance is in what is asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from peekserve.awareness.estimate import normalised
from peekserve.core.beliefs import BeliefMaker, Floats, make, named
from peekserve.core.spec import SchedulerSpec, windowed
from peekserve.domain.application import Application, OnMiss
from peekserve.domain.request import Request, TensorRef
from peekserve.domain.utility import Penalty
from peekserve.errors import InvalidData
from peekserve.policies import REMEMBERING
from peekserve.policies.base import Switches
from peekserve.results import Row, row
from peekserve.sim.driver import Settled, Simulation, SimWorker
from peekserve.sim.world import Recorded, RecordedWorld


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of one row. `offset_s`: its arrival after the window's start. `deadline_s`: after its arrival."""

    application: str
    sample: int
    offset_s: float
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Got:
    """What became of it. `row.utility` is realised: right or wrong, less the penalty.

    `label`: its true class. `recall`: of whoever answered, for that class: what the paper calls true accuracy; 0
    without an answer. `expected`: the utility at that recall, class-weighted, less the penalty: what the paper's
    figures show. Without class weights `row.believed` - `recall` is the error of the accuracy estimate; with them what
    is believed is in their unit, and `recall` is not. Of an answer put together from more than one voice `recall` is
    that of the variant that spoke last.
    """

    row: Row
    label: int
    recall: float
    expected: float


def a_window(
    samples: Mapping[str, Sequence[int]],
    rng: np.random.Generator,
    length_s: float = 0.1,
    deadline_s: float = 0.15,
    deviation_s: float = 0.0,
) -> list[Asked]:
    """These samples of each application, arriving uniformly in the window (the paper's: 100 ms, 150 ms, four of each).

    `deviation_s`: standard deviation of the deadlines, which are drawn from a normal distribution and never below 1 ms.
    """
    asked = []
    for name, own in samples.items():
        at = rng.uniform(0.0, length_s, len(own))
        due = np.maximum(rng.normal(deadline_s, deviation_s, len(own)), 1e-3)
        asked += [
            Asked(name, int(s), float(t), float(d))
            for s, t, d in zip(own, at.tolist(), due.tolist(), strict=True)
        ]
    return asked


class Windows:
    """One policy in one setting, for any number of windows.

    `switches`: None for the policy's own; the paper's policies drop nothing, Switches(..., drop=False). `penalty`: in
    place of each application's. `on_miss`: late answers are given and penalised, as the paper has it; REJECT and
    DEGRADE are what a server does. `literal`: batches save nothing, in the plan and in the world (eq. 1 at its word;
    Switches(merge=False) belongs to it). `normalise`: accuracies in units of each application's best (footnote 2).
    `beliefs`: a name in core.beliefs, empty for those that go with the policy, or what makes them. What they learn of
    the stream they keep from window to window, in the order in which the windows are run; nothing else is kept.

    Evidence is there on arrival: the paper peeks outside the window's time. Times are the medians of the profiles,
    without jitter. Raises InvalidConfiguration for a policy or option that does not exist.
    """

    def __init__(
        self,
        applications: Sequence[Application],
        recorded: Mapping[str, Recorded],
        policy: str,
        *,
        workers: Sequence[SimWorker] = (SimWorker("cpu"),),
        switches: Switches | None = None,
        options: Mapping[str, float] | None = None,
        penalty: Penalty | None = None,
        length_s: float = 0.1,
        on_miss: OnMiss = OnMiss.LATE,
        literal: bool = False,
        normalise: bool = False,
        beliefs: str | BeliefMaker = "",
    ) -> None:
        self._applications = {a.name: _with(a, penalty, literal) for a in applications}
        self._recorded = recorded
        self._workers = tuple(workers)
        self._length_s = length_s
        self._world = RecordedWorld(self._applications, recorded)
        self._spec = SchedulerSpec(
            policy=policy,
            switches=switches,
            policy_options=dict(options or {}),
            planning=windowed(length_s),
            patience_s=length_s,
            preload=False,
            on_miss=on_miss,
            hang_s=float("inf"),
            normalise=normalise,
            beliefs=beliefs if isinstance(beliefs, str) else "",
        )
        self._catalogue = self._spec.catalogue(self._applications.values())
        # Most policies keep nothing between plans but what follows from the applications: one serves all windows.
        made = self._spec.made()
        self._policy = None if policy in REMEMBERING else made
        self._beliefs = make(named(beliefs, policy) if isinstance(beliefs, str) else beliefs, self._catalogue)

    def saw(self, application: str, counts: Floats) -> None:
        """Evidence of requests that came before the first window, float64 [n, C] in the order of their arrival: what a
        stream's beliefs have learnt by then."""
        self._beliefs[self._catalogue.application(application)].seen(counts)

    def run(self, asked: Sequence[Asked], seed: int = 0, check: bool = False) -> list[Got]:
        """Live through one window; one Got for each request, in the order asked.

        Raises InvalidData for an arrival outside the window.
        """
        order = sorted(range(len(asked)), key=lambda i: asked[i].offset_s)
        trace = [self._request(i, asked[i]) for i in order]
        scheduler = self._spec.over(self._catalogue, self._policy, self._beliefs)
        simulation = Simulation(scheduler, self._workers, self._world, seed, check=check)
        settled = [
            got_of(one, self._applications[one.request.application], self._recorded[one.request.application])
            for one in simulation.run(trace)
        ]
        got = dict(zip(order, settled, strict=True))
        return [got[i] for i in range(len(asked))]

    def _request(self, index: int, asked: Asked) -> Request:
        if not 0.0 <= asked.offset_s < self._length_s:
            raise InvalidData(
                f"a request arrives {asked.offset_s} s after the start of a window of {self._length_s} s; it must "
                "arrive within it"
            )
        due_at = asked.offset_s + asked.deadline_s
        payload = TensorRef(str(asked.sample))
        return Request(f"r{index}", asked.application, asked.offset_s, due_at, payload=payload)


def got_of(settled: Settled, app: Application, recorded: Recorded) -> Got:
    """What became of a request of one row."""
    request, answer = settled.request, settled.answer
    label = int(recorded.labels[recorded.sample(request, 0)])
    made = row(request, app, [label], answer.outcome, answer.reason, answer.rows, settled.at)
    if not answer.rows:
        return Got(made, label, 0.0, 0.0)
    variant = answer.rows[0].variant
    said = app.variant(variant) if variant is not None else app.peek
    recall = said.quality.recall[label] if said is not None and said.quality else 1.0 / len(app.classes)
    kept = 1.0 - app.query().penalty.at(settled.at - request.due_at, request.deadline_s)
    weight = float(normalised(app.weights)[label])
    return Got(made, label, recall, recall * weight * kept)


def simulate_window(
    applications: Sequence[Application],
    recorded: Mapping[str, Recorded],
    asked: Sequence[Asked],
    policy: str,
    *,
    switches: Switches | None = None,
    options: Mapping[str, float] | None = None,
    penalty: Penalty | None = None,
    workers: Sequence[SimWorker] = (SimWorker("cpu"),),
    length_s: float = 0.1,
    seed: int = 0,
) -> list[Got]:
    """One window in one call: see `Windows`, which does the same many times faster for many windows."""
    windows = Windows(
        applications,
        recorded,
        policy,
        workers=workers,
        switches=switches,
        options=options,
        penalty=penalty,
        length_s=length_s,
    )
    return windows.run(asked, seed)


def _with(app: Application, penalty: Penalty | None, literal: bool) -> Application:
    if literal:
        app = app.literal()
    queries = app.queries
    if penalty is not None:
        queries = tuple((name, replace(query, penalty=penalty)) for name, query in queries)
    peek = None if app.peek is None else replace(app.peek, latency=None)
    return replace(app, queries=queries, peek=peek)

"""A dozen lines from stated numbers to a simulated run: for first looks, notebooks and the README."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from peekserve.awareness.estimate import leading
from peekserve.awareness.posterior import posterior_mean
from peekserve.awareness.priors import uninformative
from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import Application, OnMiss, PeekSpec, QueryType, Variant
from peekserve.domain.profile import LatencyCurve, Quality, Timing
from peekserve.domain.request import Request, TensorRef
from peekserve.policies import SWITCHES, Switches
from peekserve.results import Summary, row, summary
from peekserve.sim.drawn import drawn
from peekserve.sim.driver import Simulation, SimWorker
from peekserve.sim.world import Recorded, RecordedWorld

_SAMPLES = 2000


def variant(
    name: str,
    recall: Sequence[float],
    latency_s: Mapping[int, float],
    load_s: float = 0.0,
    megabytes: float = 1.0,
) -> Variant:
    """A variant by its stated numbers: recall per class, seconds by batch size."""
    sizes = tuple(sorted(latency_s))
    curve = LatencyCurve(sizes, tuple(latency_s[b] for b in sizes))
    quality = Quality(tuple(recall), (1.0 / len(recall),) * len(recall))
    timing = Timing((curve,), load_s, int(megabytes * 2**20))
    return Variant(name, name, name, max_batch=sizes[-1], quality=quality, timing={"cpu": timing})


def application(
    name: str,
    classes: Sequence[str],
    variants: Sequence[Variant],
    deadline_s: float,
    peek_recall: Sequence[float] | None = None,
    peek_s: float = 0.0002,
) -> Application:
    """An application by its stated numbers. With `peek_recall`, the share of right votes per class, it has a peek."""
    peek = None
    if peek_recall is not None:
        quality = Quality(tuple(peek_recall), (1.0 / len(classes),) * len(classes))
        peek = PeekSpec((), (), quality=quality, latency=LatencyCurve((1,), (peek_s,)))
    return Application(
        name,
        tuple(classes),
        tuple(variants),
        prior=uninformative(len(classes)),
        queries=(("default", QueryType(deadline_s)),),
        on_miss=OnMiss.DEGRADE if peek else OnMiss.REJECT,
        peek=peek,
    )


def simulate(
    applications: Sequence[Application],
    policy: str,
    rate: float,
    seconds: float,
    seed: int = 0,
    megabytes: float = 1024.0,
) -> Summary:
    """Poisson arrivals at `rate` per second, evenly over the applications, on one worker with this much memory."""
    rng = np.random.default_rng(seed)
    recorded = {app.name: drawn(app, _SAMPLES, rng) for app in applications}
    apps = {app.name: _with_profiled_peek(app, recorded[app.name]) for app in applications}
    # Only a policy that may answer by the peek falls back on it; the others turn away what they cannot do in time.
    short_circuit = SWITCHES.get(policy, Switches()).short_circuit
    spec = SchedulerSpec(
        policy=policy, peek=short_circuit, on_miss=OnMiss.DEGRADE if short_circuit else OnMiss.REJECT
    )
    requests = []
    for i, at in enumerate(np.sort(rng.uniform(0.0, seconds, rng.poisson(rate * seconds))).tolist()):
        app = applications[int(rng.integers(len(applications)))]
        key = TensorRef(str(int(rng.integers(_SAMPLES))))
        requests.append(Request(f"r{i}", app.name, at, at + app.query().deadline_s, payload=key))
    worker = SimWorker("cpu", "cpu", int(megabytes * 2**20))
    settled = Simulation(spec.build(apps.values()), [worker], RecordedWorld(apps, recorded), seed).run(
        requests
    )
    return summary(
        [
            row(
                s.request,
                apps[s.request.application],
                [
                    int(
                        recorded[s.request.application].labels[
                            recorded[s.request.application].sample(s.request, 0)
                        ]
                    )
                ],
                s.answer.outcome,
                s.answer.reason,
                s.answer.rows,
                s.at,
            )
            for s in settled
        ]
    )


def _with_profiled_peek(app: Application, recorded: Recorded) -> Application:
    """The peek's own profile is what its whole evidence is worth, not one vote: the best class of the posterior."""
    if app.peek is None or recorded.counts is None:
        return app
    said = leading(posterior_mean(np.array(app.prior), recorded.counts))
    confusion = np.zeros((len(app.classes), len(app.classes)), np.int64)
    np.add.at(confusion, (recorded.labels, said), 1)
    return replace(app, peek=replace(app.peek, quality=Quality.from_confusion(confusion)))

"""Small worlds for stories about the scheduler: applications with stated numbers, policies that do one plain
thing."""

from collections.abc import Sequence

import numpy as np

from peekserve.core.catalogue import Catalogue
from peekserve.core.options import Options
from peekserve.core.scheduler import Scheduler
from peekserve.domain.application import Application, OnMiss, PeekSpec, QueryType, Variant
from peekserve.domain.messages import Batch, Command, Plan, WorkerUp
from peekserve.domain.profile import LatencyCurve, Quality, Timing
from peekserve.domain.request import Request
from peekserve.policies.base import Policy, View


def takes(
    seconds: float,
    name: str = "only",
    recall: Sequence[float] = (0.9, 0.9),
    load_s: float = 0.0,
    size: int = 1,
    grows: float = 1.000001,
    **kwargs,
) -> Variant:
    """A variant that takes this long for one row on a cpu, and `grows` times as long for 32."""
    curve = LatencyCurve((1, 32), (seconds, seconds * grows))
    return Variant(
        name,
        revision=f"sha-{name}",
        weights=f"sha-{name}",
        quality=Quality(tuple(recall), (1 / len(recall),) * len(recall)),
        timing={"cpu": Timing((curve,), load_s=load_s, bytes=size)},
        **kwargs,
    )


def a_peek(accuracy: float = 0.7, classes: int = 2) -> PeekSpec:
    quality = Quality((accuracy,) * classes, (1 / classes,) * classes)
    return PeekSpec(("x",), (), quality=quality, latency=LatencyCurve((1,), (0.001,)))


def an_application(
    *variants: Variant,
    name: str = "app",
    peek: PeekSpec | None = None,
    on_miss: OnMiss = OnMiss.REJECT,
    **kwargs,
) -> Application:
    classes = kwargs.pop("classes", ("a", "b"))
    return Application(
        name,
        classes,
        variants or (takes(0.1),),
        prior=(0.5,) * len(classes),
        peek=peek,
        on_miss=on_miss,
        queries=(("default", QueryType(1.0)),),
        **kwargs,
    )


class RunAll:
    """Runs everything that waits, one batch for each lane, with the variant of this number, on the first
    worker."""

    def __init__(self, variant: int = 0, max_batch: int = 32) -> None:
        self.variant, self.max_batch = variant, max_batch

    def plan(self, view: View) -> Plan:
        batches = []
        for lane in sorted(set(view.lane.tolist())):
            rows = np.flatnonzero((view.lane == lane) & view.allowed[:, self.variant]).tolist()
            batches += [
                Batch(0, lane, self.variant, rows[i : i + self.max_batch])
                for i in range(0, len(rows), self.max_batch)
            ]
        return Plan(batches)


class AnswerAll:
    """Answers everything by the peek, as soon as there is one."""

    def plan(self, view: View) -> Plan:
        return Plan(instant=np.flatnonzero(~np.isnan(view.instant)).tolist())


def a_scheduler(
    *applications: Application, policy: Policy | None = None, worker: bool = True, **options
) -> Scheduler:
    scheduler = Scheduler(
        policy or RunAll(), Catalogue(applications or (an_application(),)), Options(**options)
    )
    if worker:
        scheduler.handle(WorkerUp("w", "cpu", 1000), now=0.0)
    return scheduler


def a_request(id: str = "r1", due_at: float = 1.0, arrived_at: float = 0.0, **kwargs) -> Request:
    kwargs.setdefault("application", "app")
    return Request(id, arrived_at=arrived_at, due_at=due_at, **kwargs)


def of_kind(commands: Sequence[Command], kind: type) -> list:
    return [c for c in commands if isinstance(c, kind)]

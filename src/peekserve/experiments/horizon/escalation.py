"""What a model said, kept as evidence: a single answer, that answer fused, escalation, and a forced cascade.

One stream, planned again at every event, and four ways to answer a row whose batch has ended.

- *single*: with what the model said.
- *fused*: with what the model and the peek say together; no row runs again.
- *escalation*: fused, and a row that could gain may run again, if the plan has a place for it.
- *cheap first*: a forced cascade. Every row runs the cheapest variant, whatever is believed of it, and may then
  escalate.

The paper's applications answer as real models did, which err on the same rows. In random services every model errs by
itself, which is what Bayes' rule supposes: the most that fusion can bring. `gain` is what an escalation must be
expected to add; other values of it than the default stand in a table of their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from peekserve.awareness.fusion import with_share
from peekserve.core.beliefs import make
from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import Application, OnMiss
from peekserve.domain.messages import Command, Event, Plan, RunBatch
from peekserve.domain.profile import Quality
from peekserve.domain.request import Request
from peekserve.errors import InvalidData
from peekserve.experiments.horizon.profiles import PROFILED, RandomApplication, random_service
from peekserve.experiments.horizon.worlds import (
    Scene,
    a_stream,
    known_of_a_service,
    of_a_service,
    of_the_paper,
    with_calibration,
)
from peekserve.experiments.sneakpeek.lab import Lab, Setting, rows_of
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Row, Table, Value
from peekserve.policies.base import Policy, View
from peekserve.sim.driver import Simulation
from peekserve.sim.window import got_of
from peekserve.sim.world import RecordedWorld

POLICY, BELIEFS = "horizon", "calibrated"
PAPER, RANDOM = "paper", "random"
# Requests in a window, and their mean deadline (the services have their own).
LOADS = (12, 24)
DEADLINE_S = 0.15
RESIDENT = 2
TIMES = 2  # windows' worth of stream for each of the laboratory's windows
DEFAULT = SchedulerSpec().escalate_gain
GAINS = (0.0, 0.005, 0.02, 0.05)
_NEVER = 10.0  # no answer can become better by so much
_SERVICE, _VALIDATION = 71, 72


@dataclass(frozen=True, slots=True)
class Form:
    """A way to answer. `gain`: None where models' answers are taken alone. `forced`: the cheapest variant first."""

    name: str
    gain: float | None
    forced: bool = False


SINGLE = Form("single", None)
FUSED = Form("fused", _NEVER)
ESCALATION = Form("escalation", DEFAULT)
FORCED = Form("cheap first", DEFAULT, forced=True)
FORMS = (SINGLE, FUSED, ESCALATION, FORCED)
BY_GAIN = tuple(Form(f"escalation for {gain:g}", gain) for gain in GAINS if gain != DEFAULT)


class CheapFirst:
    """A cascade: rows that no model has seen may run the cheapest variant of their lane and nothing else, and the peek
    does not answer them."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def plan(self, view: View) -> Plan:
        allowed, instant = view.allowed.copy(), view.instant.copy()
        for i, lane in enumerate(view.lanes):
            alone_s = np.min(
                [worker.latency_s[i][: len(lane.variants), 1] for worker in view.workers], axis=0
            )
            cheapest = int(alone_s.argmin())
            # A row that has run it already is not allowed it again.
            fresh = (view.lane == i) & allowed[:, cheapest]
            allowed[fresh], instant[fresh] = False, np.nan
            allowed[fresh, cheapest] = True
        return self._policy.plan(replace(view, allowed=allowed, instant=instant))


def _jobs(lab: Lab) -> Sequence[Job]:
    return [_paper(lab, rows) for rows in LOADS] + [_random(lab, rows) for rows in LOADS]


def _paper(lab: Lab, rows: int) -> Job:
    def job(seed: int) -> list[Row]:
        windows = TIMES * lab.windows
        scene = of_the_paper(replace(lab, windows=windows), Setting(requests=rows, resident=RESIDENT), seed)
        trace = a_stream(lab, scene, rows, windows * scene.length_s, DEADLINE_S * lab.scale, seed)
        return _rows(scene, trace, seed, part=PAPER, rows=rows)

    return job


def _random(lab: Lab, rows: int) -> Job:
    def job(seed: int) -> list[Row]:
        service = random_service(np.random.default_rng([_SERVICE, seed]))
        windows, known = TIMES * lab.windows, known_of_a_service(service, seed)
        scene = of_a_service(lab, service, known, lab.device.penalty("step"), rows, windows, seed)
        rng = np.random.default_rng([_VALIDATION, seed])
        pairs = zip(scene.applications, service.apps, strict=True)
        scene = replace(scene, applications=tuple(_as_drawn(app, drawn, rng) for app, drawn in pairs))
        trace = a_stream(lab, scene, rows, windows * scene.length_s, service.deadline_s, seed)
        return _rows(scene, trace, seed, part=RANDOM, rows=rows)

    return job


def _as_drawn(app: Application, drawn: RandomApplication, rng: np.random.Generator) -> Application:
    """With profiles counted on validation samples of its own, and the share of weaker voices from the same. Raises
    InvalidData for an application whose peek was never calibrated."""
    labels = np.repeat(np.arange(drawn.classes), PROFILED)
    recorded = drawn.recorded(labels, rng)
    known = app.peek.calibration if app.peek is not None else None
    if known is None or recorded.counts is None:
        raise InvalidData(f"{app.name} has no calibrated peek")
    said = np.stack([recorded.scores[v.name].argmax(axis=1) for v in app.variants])
    variants = []
    for variant, answers in zip(app.variants, said, strict=True):
        confusion = np.zeros((drawn.classes, drawn.classes), np.int64)
        np.add.at(confusion, (labels, answers), 1)
        variants.append(replace(variant, quality=Quality.from_confusion(confusion)))
    worth = with_share(known, recorded.counts, said, labels)
    return with_calibration(replace(app, variants=tuple(variants)), worth)


def _rows(scene: Scene, trace: Sequence[Request], seed: int, **where: Value) -> list[Row]:
    return [row for form in (*FORMS, *BY_GAIN) for row in _served(scene, trace, form, seed, where)]


def _served(
    scene: Scene, trace: Sequence[Request], form: Form, seed: int, where: Mapping[str, Value]
) -> list[Row]:
    """A row for each application, and one for all with the runs of models: `runs` for each request, and `again`, those
    after the first."""
    spec = SchedulerSpec(
        policy=POLICY,
        planning="rolling",
        preload=False,
        on_miss=OnMiss.DEGRADE,
        hang_s=float("inf"),
        beliefs=BELIEFS,
        escalate=form.gain is not None,
        escalate_gain=form.gain or 0.0,
    )
    catalogue = spec.catalogue(scene.applications)
    beliefs = make(BELIEFS, catalogue)
    for name, counts in scene.seen():
        beliefs[catalogue.application(name)].seen(counts)
    policy = CheapFirst(spec.made()) if form.forced else spec.made()
    true = {app.name: app for app in scene.applications}
    ran: list[str] = []

    def observe(event: Event, now: float, commands: Sequence[Command]) -> None:
        ran.extend(ref.request_id for c in commands if isinstance(c, RunBatch) for ref in c.rows)

    settled = Simulation(
        spec.over(catalogue, policy, beliefs),
        scene.workers,
        RecordedWorld(true, scene.recorded),
        observe=observe,
    ).run(trace)
    got = [got_of(s, true[s.request.application], scene.recorded[s.request.application]) for s in settled]
    believed = [g.row.believed - g.row.correct for g in got if not np.isnan(g.row.believed)]
    return [
        *rows_of(got, form.name, seed, **where),
        {
            **where,
            "policy": form.name,
            "seed": seed,
            "requests": len(got),
            "runs": len(ran) / len(got),
            "again": (len(ran) - len(set(ran))) / len(got),
            "overbelieved": float(np.mean(believed)),
            "took_ms": float(np.mean([g.row.settled_at - g.row.arrived_at for g in got]) * 1e3),
        },
    ]


# ---- what is claimed ----


def _at(table: Table, form: Form, part: str, rows: int, metric: str = "utility") -> Floats:
    return table.mean(metric, policy=form.name, part=part, rows=rows)


def _added(table: Table, form: Form, part: str, rows: int) -> Floats:
    """What a form adds to the single answer, on the same streams."""
    return _at(table, form, part, rows) - _at(table, SINGLE, part, rows)


def _measure(table: Table) -> Mapping[str, Floats]:
    found = {}
    for part in (PAPER, RANDOM):
        for rows in LOADS:
            found[f"escalation-{part}-{rows}"] = _added(table, ESCALATION, part, rows)
            found[f"escalation-forced-{part}-{rows}"] = _added(table, FORCED, part, rows) - _added(
                table, ESCALATION, part, rows
            )
        found[f"escalation-fused-{part}"] = _added(table, FUSED, part, LOADS[0])
        found[f"escalation-again-{part}"] = _at(table, ESCALATION, part, LOADS[0], "again")
    return found


# ---- what is printed and drawn ----

_PLACES = tuple((part, rows) for part in (PAPER, RANDOM) for rows in LOADS)


def _tables(table: Table) -> list[list[list[str]]]:
    return [
        _told(table, FORMS),
        _told(table, (ESCALATION, *BY_GAIN)),
        [
            ["", *(form.name for form in FORMS)],
            *(
                [
                    f"{part}, {rows} requests: {what}",
                    *(f"{_at(table, form, part, rows, metric)[0]:.3f}" for form in FORMS),
                ]
                for part, rows in _PLACES
                for what, metric in (
                    ("model runs for each", "runs"),
                    ("after the first", "again"),
                    ("believed less right", "overbelieved"),
                    ("ms to an answer", "took_ms"),
                )
            ),
        ],
    ]


def _told(table: Table, forms: Sequence[Form]) -> list[list[str]]:
    """Utility of the single answer, and what each form adds to it."""
    rows = [
        [
            "requests in a window",
            SINGLE.name,
            *(f"{form.name}, added" for form in forms if form is not SINGLE),
        ]
    ]
    for part, load in _PLACES:
        added = [str(Interval.of(_added(table, f, part, load))) for f in forms if f is not SINGLE]
        rows.append([f"{part}, {load}", str(Interval.of(_at(table, SINGLE, part, load))), *added])
    return rows


def _panels(table: Table) -> Sequence[Panel]:
    shown = [form for form in FORMS if form is not SINGLE]
    bars = [
        Series(form.name, range(len(_PLACES)), [_added(table, form, part, rows) for part, rows in _PLACES])
        for form in shown
    ]
    names = [f"{part}, {rows}" for part, rows in _PLACES]
    return [
        Panel("Applications, requests in a window", "", "utility added to the single answer", bars, names)
    ]


EXPERIMENTS = (
    Experiment(
        "horizon-escalation",
        "what a model said as evidence: fused answers, escalation, a forced cascade",
        _jobs,
        _measure,
        _panels,
        seeds=40,
        tables=_tables,
    ),
)

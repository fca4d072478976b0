"""The paper's headline and what it hangs on: SneakPeek over LO-EDF in its setting, then one factor at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from peekserve.core.spec import SchedulerSpec, windowed
from peekserve.domain.application import OnMiss
from peekserve.domain.request import Request, TensorRef
from peekserve.experiments.sneakpeek.lab import (
    GROUPED,
    LO_EDF,
    SHIPPED,
    SNEAKPEEK,
    Contender,
    Lab,
    Setting,
    Stage,
    played,
    rows_of,
)
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Row, Table
from peekserve.results import row
from peekserve.sim.driver import Simulation
from peekserve.sim.window import Got
from peekserve.sim.world import RecordedWorld

PENALTIES = ("step", "sigmoid", "linear")
ALL = 0
RESIDENT = (1, 2, 3, 4, 6, ALL)
_THREE = (LO_EDF, GROUPED, SNEAKPEEK)

MERGING = replace(LO_EDF, switches=replace(LO_EDF.switches, merge=True))


@dataclass(frozen=True, slots=True)
class Case:
    """One value of one factor; the rest is the base: step penalty, one resident model, isolated windows."""

    factor: str
    value: str
    setting: Setting = field(default_factory=lambda: Setting(penalty="step"))
    who: tuple[Contender, ...] = (LO_EDF, SNEAKPEEK)
    stream: str = ""


def cases() -> list[Case]:
    """All that is varied, one at a time."""
    base = Setting(penalty="step")
    found = [Case("base", "step, 1 resident")]
    found += [Case("penalty", "linear 100 ms", Setting(penalty="linear"))]
    found += [
        Case("penalty", f"sigmoid {w} ms", Setting(penalty="sigmoid", width_s=w / 1e3))
        for w in (5, 10, 20, 50, 1000)
    ]
    found += [Case("resident models", str(k or "all"), replace(base, resident=k)) for k in RESIDENT if k != 1]
    found += [Case("memory at the start", "empty", replace(base, warm=False))]
    found += [Case("swap cost", f"x {f:g}", replace(base, swap=f)) for f in (0.0, 0.5, 2.0)]
    found += [Case("batching of LO-EDF", "neighbours share a batch", who=(MERGING, SNEAKPEEK))]
    found += [Case("deadline spread", f"{s} ms", replace(base, spread_s=s / 1e3)) for s in (0, 30, 60)]
    found += [Case("latencies", f"x {f:g}", replace(base, slower=f)) for f in (0.5, 1.5, 2.0)]
    found += [Case("marginal cost in a batch", f"{f:g} l", replace(base, slope=f)) for f in (0.1, 0.6, 1.0)]
    for tau_s in (0.1, 0.001):
        timed = replace(SNEAKPEEK, options={**SNEAKPEEK.options, "tau_s": tau_s})
        found += [Case("unit of d in exp(-d)", f"{tau_s * 1e3:g} ms", who=(LO_EDF, timed))]
    never = replace(SNEAKPEEK, options={**SNEAKPEEK.options, "tau": 0.0})
    found += [Case("brute-force threshold", "0", who=(LO_EDF, never))]
    for value, options in (
        ("rows are rescued by the peek", {**SNEAKPEEK.options, "rescue": 1.0}),
        ("split only where it pays", {**SNEAKPEEK.options, "min_gain": 0.0}),
        ("never split", {**SNEAKPEEK.options, "split": 0.0}),
    ):
        found += [Case("form of sneakpeek", value, who=(LO_EDF, replace(SNEAKPEEK, options=options)))]
    found += [Case("form of sneakpeek", "as shipped", who=(LO_EDF, replace(SHIPPED, name="sneakpeek")))]
    found += [
        Case("windows", "a stream, all is run", stream="all"),
        Case("windows", "a stream, doomed work is dropped", stream="drop"),
    ]
    return found


def _setting(lab: Lab) -> Sequence[Job]:
    jobs: list[Job] = [
        played(lab, Setting(penalty=p, resident=k), _THREE, part="table", penalty=p, resident=k)
        for p in PENALTIES
        for k in RESIDENT
    ]
    for case in cases():
        where = {"part": "factor", "factor": case.factor, "value": case.value}
        jobs.append(
            _streamed(lab, case, **where) if case.stream else played(lab, case.setting, case.who, **where)
        )
    return jobs


def _streamed(lab: Lab, case: Case, **where: str) -> Job:
    def job(seed: int) -> list[Row]:
        stage = Stage(lab, case.setting, seed)
        return [
            made
            for who in case.who
            for made in rows_of(stream(stage, lab.device.window_s, who, case.stream), who.name, seed, **where)
        ]

    return job


def stream(stage: Stage, window_s: float, who: Contender, how: str) -> list[Got]:
    """The stage's windows one after another on one clock, with what is left of one at the start of the next. `how`:
    `all` is run however late, as eq. 5 has it; or `drop` what nothing can finish in time."""
    apps = {app.name: app for app in stage.with_penalty()}
    drop = how == "drop"
    miss = (OnMiss.DEGRADE if who.switches.short_circuit else OnMiss.REJECT) if drop else OnMiss.LATE
    spec = SchedulerSpec(
        policy=who.policy,
        switches=replace(who.switches, drop=drop),
        policy_options=dict(who.options),
        planning=windowed(window_s),
        patience_s=window_s,
        preload=False,
        on_miss=miss,
        hang_s=float("inf"),
    )
    free = {
        name: replace(app, peek=app.peek and replace(app.peek, latency=None)) for name, app in apps.items()
    }
    trace = [
        Request(
            f"r{w}-{i}",
            one.application,
            w * window_s + one.offset_s,
            w * window_s + one.offset_s + one.deadline_s,
            payload=TensorRef(str(one.sample)),
        )
        for w, asked in enumerate(stage.asked)
        for i, one in enumerate(asked)
    ]
    trace.sort(key=lambda request: request.arrived_at)
    world = RecordedWorld(free, stage.recorded)
    got = []
    for settled in Simulation(spec.build(free.values()), stage.workers, world).run(trace):
        request, answer = settled.request, settled.answer
        recorded = stage.recorded[request.application]
        label = int(recorded.labels[recorded.sample(request, 0)])
        app = free[request.application]
        made = row(request, app, [label], answer.outcome, answer.reason, answer.rows, settled.at)
        got.append(Got(made, label, 0.0, 0.0))
    return got


def ratio(table: Table, **where: str | int) -> Floats:
    """Utility of sneakpeek over that of lo-edf."""
    return table.mean("utility", policy="sneakpeek", **where) / table.mean(
        "utility", policy="lo-edf", **where
    )


def _measure(table: Table) -> Mapping[str, Floats]:
    return {
        "setting-double-step": ratio(table, part="table", penalty="step", resident=1),
        "setting-double-sigmoid": ratio(table, part="table", penalty="sigmoid", resident=1),
        "setting-double-resident": ratio(table, part="table", penalty="sigmoid", resident=ALL),
    }


def _panels(table: Table) -> Sequence[Panel]:
    names = [str(k or "all") for k in RESIDENT]
    series = [
        Series(
            p,
            range(len(RESIDENT)),
            [ratio(table, part="table", penalty=p, resident=k) for k in RESIDENT],
        )
        for p in PENALTIES
    ]
    told = [(c.factor, c.value) for c in cases()]
    factors = [
        Series("step", range(len(told)), [ratio(table, part="factor", factor=f, value=v) for f, v in told])
    ]
    return [
        Panel("Resident models", "models that fit at once", "utility, SneakPeek over LO-EDF", series, names),
        Panel(
            "One factor at a time (step, 1 resident)",
            "",
            "utility, SneakPeek over LO-EDF",
            factors,
            [f"{f}: {v}" for f, v in told],
            log_y=True,
        ),
    ]


def tables(table: Table) -> list[list[list[str]]]:
    """What is printed: the ratio by penalty and resident models, and by factor; the first row of each is its head."""
    whole = [["penalty", "resident", "LO-EDF", "Grouped", "SneakPeek", "SneakPeek / LO-EDF"]]
    for p in PENALTIES:
        for k in RESIDENT:
            where: dict[str, str | int] = {"part": "table", "penalty": p, "resident": k}
            each = [f"{table.mean('utility', policy=c.name, **where)[0]:.3f}" for c in _THREE]
            whole.append([p, str(k or "all"), *each, str(Interval.of(ratio(table, **where)))])
    parts = [["factor", "value", "SneakPeek / LO-EDF"]]
    for case in cases():
        found = ratio(table, part="factor", factor=case.factor, value=case.value)
        parts.append([case.factor, case.value, str(Interval.of(found))])
    return [whole, parts]


EXPERIMENTS = (
    Experiment(
        "sneakpeek-setting",
        "SneakPeek over LO-EDF in the paper's setting, and the factors that decide it",
        _setting,
        _measure,
        _panels,
        tables=tables,
    ),
)

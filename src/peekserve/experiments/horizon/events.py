"""Events instead of windows: one stream without breaks; batches that take other times than their profile says; and the
price of a worker's time. Show 3, second half.

*Per window* is the paper's way: nothing is decided before a window ends, and late answers are given and penalised.
*Event-driven* plans again whenever something changed and a worker is idle, gives away only the first batch, and keeps
the peek's answers back until nothing better can come in time. The peek's answer at the last moment is an event too, so
a third form stands beside the two: windows, with hopeless rows answered in time. And who plans event by event may run a
row again whose answer is in doubt (core/escalation.py), which a window carried out to its end has no turn for: a fourth
form does without that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp

from peekserve.domain.application import Application, OnMiss
from peekserve.experiments.horizon.realised import EDF_DROPS, EQUAL, HORIZON, PUBLISHED, TRUSTED
from peekserve.experiments.horizon.worlds import (
    Entrant,
    Scene,
    a_stream,
    of_the_paper,
    per_window,
)
from peekserve.experiments.sneakpeek.lab import Lab, Setting, rows_of
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Row, Table, Value
from peekserve.sim.window import Got
from peekserve.sim.world import Z_P95

DEADLINES_MS, ROWS = (60, 80, 100, 150), (12, 24)
SHORT_MS, USUAL_MS = (60, 80), 150
RESIDENT = 2
# Windows' worth of stream for each of the laboratory's windows.
TIMES = 2
SIGMAS = (0.0, 0.1, 0.2, 0.3)
PRICES, CROWDS = (0.0, 1.0, 2.0, 5.0, 10.0), (24, 36, 48)


@dataclass(frozen=True, slots=True)
class Served:
    """An entrant and when it plans. `events`: event-driven, else per window. `on_miss`: late answers are given (LATE),
    or the peek answers hopeless rows in time (DEGRADE), or they are dropped (REJECT)."""

    name: str
    who: Entrant
    events: bool
    on_miss: OnMiss

    def planning(self, scene: Scene) -> str:
        return "rolling" if self.events else per_window(scene)


WINDOW = Served("horizon per window", HORIZON, False, OnMiss.LATE)
EVENTS = Served("horizon event-driven", HORIZON, True, OnMiss.DEGRADE)
ONCE = Served("horizon event-driven, no row twice", replace(HORIZON, escalate=False), True, OnMiss.DEGRADE)
RESCUED = Served("horizon per window, peek in time", HORIZON, False, OnMiss.DEGRADE)
OTHER = Served("sneakpeek as shipped, calibrated, event-driven", EQUAL, True, OnMiss.DEGRADE)
SERVED = (
    Served("lo-edf + drop per window", EDF_DROPS, False, OnMiss.REJECT),
    Served("sneakpeek per window", PUBLISHED, False, OnMiss.LATE),
    Served("sneakpeek calibrated per window", TRUSTED, False, OnMiss.LATE),
    WINDOW,
    RESCUED,
    OTHER,
    Served("horizon event-driven, late answers given", HORIZON, True, OnMiss.LATE),
    ONCE,
    EVENTS,
)
NOISED = (WINDOW, EVENTS)


def _jobs(lab: Lab) -> Sequence[Job]:
    return [
        *(_by_deadline(lab, ms, rows) for ms in DEADLINES_MS for rows in ROWS),
        *(_noised(lab, sigma) for sigma in SIGMAS),
        *(_priced(lab, rows) for rows in CROWDS),
    ]


def _by_deadline(lab: Lab, deadline_ms: int, rows: int) -> Job:
    def job(seed: int) -> list[Row]:
        course = Course(lab, rows, deadline_ms, seed)
        return [row for served in SERVED for row in course.rows(served, part="deadline")]

    return job


def _noised(lab: Lab, sigma: float) -> Job:
    def job(seed: int) -> list[Row]:
        course = Course(lab, ROWS[0], USUAL_MS, seed, sigma)
        return [
            row
            for served in NOISED
            for margins in (0, 1)
            for row in course.rows(served, margins, part="noise")
        ]

    return job


def _priced(lab: Lab, rows: int) -> Job:
    def job(seed: int) -> list[Row]:
        course, made = Course(lab, rows, USUAL_MS, seed), []
        for price in PRICES:
            who = replace(EVENTS.who, options={**EVENTS.who.options, "price_per_s": price})
            made += course.rows(replace(EVENTS, who=who), part="price", price=price)
        return made

    return job


class Course:
    """A stream that several entrants are sent through. `sigma`: of the batches' times, lognormal around the medians."""

    def __init__(
        self,
        lab: Lab,
        rows: int,
        deadline_ms: int,
        seed: int,
        sigma: float = 0.0,
    ) -> None:
        windows = TIMES * lab.windows
        setting = Setting(requests=rows, resident=RESIDENT)
        plain = of_the_paper(replace(lab, windows=windows), setting, seed)
        seconds, deadline_s = windows * plain.length_s, deadline_ms / 1e3 * lab.scale
        self._trace = a_stream(lab, plain, rows, seconds, deadline_s, seed)
        self._plain = plain.applications
        self._scene = replace(plain, applications=tuple(spread(app, sigma) for app in plain.applications))
        self._seed = seed
        self._point: dict[str, Value] = {"rows": rows, "deadline_ms": deadline_ms, "sigma": sigma}

    def rows(self, served: Served, margins: int = 1, **where: Value) -> list[Row]:
        """What this one makes of it. `margins`: 1 if the scheduler knows the profile's 95th percentiles, and so plans
        with them."""
        got = self._scene.live(
            served.who,
            self._trace,
            served.planning(self._scene),
            served.on_miss,
            believed=self._scene.applications if margins else self._plain,
            jitter=True,
        )
        made = rows_of(got, served.name, self._seed, margins=margins, **self._point, **where)
        return [{**row, "missed": missed(got, str(row["application"]))} for row in made]


def missed(got: Sequence[Got], application: str) -> float:
    """The share of an application's requests that were answered late, or never."""
    own = [g.row for g in got if g.row.application == application]
    return sum(not row.in_time for row in own) / len(own)


def spread(app: Application, sigma: float) -> Application:
    """The same with 95th percentiles of a lognormal of this sigma around the medians."""
    variants = []
    for variant in app.variants:
        timing = {
            device: replace(
                timed,
                curves=tuple(
                    replace(c, p95_s=tuple(m * exp(Z_P95 * sigma) for m in c.median_s)) for c in timed.curves
                ),
            )
            for device, timed in variant.timing.items()
        }
        variants.append(replace(variant, timing=timing))
    return replace(app, variants=tuple(variants))


# ---- what is claimed ----


def _at(table: Table, served: Served, ms: int, rows: int, metric: str = "utility") -> Floats:
    return table.mean(metric, policy=served.name, part="deadline", deadline_ms=ms, rows=rows)


def _margins(table: Table, served: Served, sigma: float) -> Floats:
    """What margins add at this noise."""
    with_them, without = (
        table.mean("utility", part="noise", policy=served.name, sigma=sigma, margins=m) for m in (1, 0)
    )
    return with_them - without


def _measure(table: Table) -> Mapping[str, Floats]:
    found = {
        f"events-{ms}-{rows}": _at(table, EVENTS, ms, rows) / _at(table, WINDOW, ms, rows)
        for ms in SHORT_MS
        for rows in ROWS
    }
    for sigma in (0.2, 0.3):
        found[f"events-margins-{round(100 * sigma)}"] = _margins(table, EVENTS, sigma)
    found["events-price"] = _price_adds(table, CROWDS[0], 2.0)
    return found


# ---- what is printed and drawn ----


def _tables(table: Table) -> list[list[list[str]]]:
    points = [(ms, rows) for rows in ROWS for ms in DEADLINES_MS]

    def told(metric: str, name: str) -> list[list[str]]:
        lines = [[f"{name}: deadline ms, requests", *(s.name for s in SERVED)]]
        for ms, rows in points:
            values = [str(Interval.of(_at(table, s, ms, rows, metric))) for s in SERVED]
            lines.append([f"{ms}, {rows}", *values])
        return lines

    return [
        _beside(table),
        told("utility", "utility"),
        told("missed", "late or unanswered"),
        told("by_peek", "by the peek"),
        _noise(table),
        _price(table),
    ]


def _beside(table: Table) -> list[list[str]]:
    """What events give, with rows that run again and without; and what the search still gives when both plan by events
    with the same beliefs and run each row once."""
    head = [
        "deadline ms, requests",
        f"{EVENTS.name} / {WINDOW.name}",
        f"/ {RESCUED.name}",
        f"{ONCE.name} / {WINDOW.name}",
        f"{ONCE.name} less {OTHER.name}",
    ]
    lines = [head]
    for rows in ROWS:
        for ms in DEADLINES_MS:
            who = (EVENTS, ONCE, WINDOW, RESCUED, OTHER)
            own, once, window, rescued, other = (_at(table, s, ms, rows) for s in who)
            values = (own / window, own / rescued, once / window, once - other)
            lines.append([f"{ms}, {rows}", *(str(Interval.of(v)) for v in values)])
    return lines


def _noise(table: Table) -> list[list[str]]:
    head = ["sigma of times"]
    head += [f"{s.name}, {which}" for s in NOISED for which in ("no margin", "p95", "what it adds")]
    lines = [head]
    for sigma in SIGMAS:
        line = [f"{sigma:g}"]
        for served in NOISED:
            for margins in (0, 1):
                value = table.mean("utility", part="noise", policy=served.name, sigma=sigma, margins=margins)
                line.append(f"{value[0]:.3f}")
            line.append(str(Interval.of(_margins(table, served, sigma))))
        lines.append(line)
    return lines


def _price(table: Table) -> list[list[str]]:
    """Utility by price, and what the price adds to it."""
    lines = [["price of a worker's second", *(f"{n} requests a window" for n in CROWDS)]]
    for price in PRICES:
        line = [f"{price:g}"]
        for rows in CROWDS:
            own = table.mean("utility", part="price", rows=rows, price=price)[0]
            line.append(f"{own:.3f}, added {Interval.of(_price_adds(table, rows, price))}")
        lines.append(line)
    return lines


def _price_adds(table: Table, rows: int, price: float) -> Floats:
    dear, free = (table.mean("utility", part="price", rows=rows, price=p) for p in (price, 0.0))
    return dear - free


def _panels(table: Table) -> Sequence[Panel]:
    shown = [SERVED[0], SERVED[1], WINDOW, OTHER, EVENTS]
    panels = [
        Panel(
            f"{rows} requests a window",
            "mean deadline, ms",
            "mean realised utility",
            [Series(s.name, DEADLINES_MS, [_at(table, s, ms, rows) for ms in DEADLINES_MS]) for s in shown],
        )
        for rows in ROWS
    ]
    noise = [Series(s.name, SIGMAS, [_margins(table, s, g) for g in SIGMAS]) for s in NOISED]
    price = [
        Series(f"{n} requests a window", PRICES, [_price_adds(table, n, p) for p in PRICES]) for n in CROWDS
    ]
    return [
        *panels,
        Panel("Planning with the profile's p95", "sigma of the batches' times", "added utility", noise),
        Panel("A price of time", "utility per second of a worker", "added utility", price),
    ]


EXPERIMENTS = (
    Experiment(
        "horizon-events",
        "events instead of windows, noise in the times, and the price of time",
        _jobs,
        _measure,
        _panels,
        tables=_tables,
    ),
)

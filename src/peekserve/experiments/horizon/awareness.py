"""What awareness and short-circuit add to each policy that reads an accuracy: the claim that any scheduler gains.

"In all cases, we observe that incorporating data-awareness in the scheduling process improves schedule utility, showing
the benefit of using SneakPeek with any scheduling policy" (6.3.1). There it is said of three simple policies; here of
those and of other papers' schedulers. These need a stream without breaks, because they learn the load from it, and a
fleet, because one of them gives each device one variant. So: the paper's applications and device class, several such
devices, planning whenever something changed, hopeless work dropped.

Four forms of each: plain; aware, where the row's own expected accuracies are believed instead of the profile's; with
short-circuit, where the peek's answer may be taken, and is given to what would be lost; and with both. Aware by the
paper's beliefs, then by calibrated ones.

Clockwork and nexus let the owner of an application choose its variant once and for all, and then there is nothing for
awareness to choose. Their plain form here chooses the best variant by profile of those that would be in time, so that
awareness is compared with a choice by profile, and not with no choice. As published they stand beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from peekserve.domain.application import OnMiss
from peekserve.experiments.horizon.worlds import Entrant, a_stream, of_the_paper
from peekserve.experiments.sneakpeek.lab import Lab, Setting, rows_of
from peekserve.experiments.spec import Experiment, Job, Panel, Series
from peekserve.experiments.table import Floats, Interval, Row, Table, average, worst
from peekserve.policies.base import Switches

# Half of what each of the paper's workers is asked for, as much, and twice as much.
WORKERS, LOADS = 4, (24, 48, 96)
DEADLINE_MS = 150
# Windows' worth of stream for each of the laboratory's windows.
TIMES = 2

_CHOOSES = {"choose": 1.0}
POLICIES: Mapping[str, Mapping[str, float]] = {
    "lo-edf": {},
    "lo-priority": {},
    "grouped": {},
    "clockwork": _CHOOSES,
    "nexus": _CHOOSES,
    "proteus": {},
    "horizon": {},
}
# With the variant that its owner chose.
FIXED = tuple(name for name, options in POLICIES.items() if options)


@dataclass(frozen=True, slots=True)
class Form:
    """What is added to a policy."""

    name: str
    aware: bool = False
    short_circuit: bool = False
    beliefs: str = "dirichlet"

    def of(self, policy: str, options: Mapping[str, float]) -> Entrant:
        switches = Switches(aware=self.aware, short_circuit=self.short_circuit)
        # No row runs again: that goes with one of the policies alone, and with no form that is compared.
        return Entrant(self.name, policy, switches, options, self.beliefs, escalate=False)

    @property
    def on_miss(self) -> OnMiss:
        """What nothing can answer in time gets the peek's answer only where that may be used at all."""
        return OnMiss.DEGRADE if self.short_circuit else OnMiss.REJECT


PLAIN, AWARE = Form("plain"), Form("aware", aware=True)
SHORT, BOTH = Form("short-circuit", short_circuit=True), Form("both", aware=True, short_circuit=True)
TRUSTED = replace(AWARE, name="aware, calibrated", beliefs="calibrated")
BOTH_TRUSTED = replace(BOTH, name="both, calibrated", beliefs="calibrated")
ADDED = (AWARE, TRUSTED, SHORT, BOTH, BOTH_TRUSTED)
FORMS = (PLAIN, *ADDED)
PUBLISHED = Form("as published")


def _jobs(lab: Lab) -> Sequence[Job]:
    return [_served(lab, load) for load in LOADS]


def _served(lab: Lab, load: int) -> Job:
    def job(seed: int) -> list[Row]:
        wide = replace(lab, windows=TIMES * lab.windows)
        scene = of_the_paper(wide, Setting(requests=load, workers=WORKERS), seed)
        seconds, deadline_s = wide.windows * scene.length_s, DEADLINE_MS / 1e3 * lab.scale
        trace = a_stream(lab, scene, load, seconds, deadline_s, seed)
        made: list[Row] = []
        for policy, options in POLICIES.items():
            forms = [(form, options) for form in FORMS]
            forms += [(PUBLISHED, {})] if policy in FIXED else []
            for form, own in forms:
                got = scene.live(form.of(policy, own), trace, "rolling", form.on_miss)
                made += rows_of(got, policy, seed, form=form.name, load=load)
        return made

    return job


# ---- what is claimed ----


def utility(table: Table, policy: str, form: Form, metric: str = "utility") -> Floats:
    """The mean over all loads."""
    return average([table.mean(metric, policy=policy, form=form.name, load=load) for load in LOADS])


def gain(table: Table, policy: str, form: Form, over: Form = PLAIN) -> Floats:
    return utility(table, policy, form) - utility(table, policy, over)


def _measure(table: Table) -> Mapping[str, Floats]:
    found = {"awareness-any": worst([gain(table, policy, AWARE) for policy in POLICIES])}
    for policy in POLICIES:
        found[f"awareness-{policy}"] = gain(table, policy, AWARE)
        found[f"awareness-both-{policy}"] = gain(table, policy, BOTH)
        found[f"awareness-calibrated-{policy}"] = gain(table, policy, TRUSTED)
    for policy in FIXED:
        found[f"awareness-published-{policy}"] = gain(table, policy, AWARE, PUBLISHED)
    adds = [(gain(table, policy, BOTH, AWARE) > 0.0).astype(np.float64) for policy in POLICIES]
    found["awareness-short-circuit"] = average(adds)
    return found


# ---- what is printed and drawn ----


def _tables(table: Table) -> list[list[list[str]]]:
    def of(metric: str, load: int) -> list[list[str]]:
        lines = [[f"{metric}, {load} requests a window", *(form.name for form in (*FORMS, PUBLISHED))]]
        for policy in POLICIES:
            forms = (*FORMS, PUBLISHED) if policy in FIXED else FORMS
            told = [Interval.of(table.mean(metric, policy=policy, form=f.name, load=load)) for f in forms]
            lines.append([policy, *(str(t) for t in told), *[""] * (policy not in FIXED)])
        return lines

    added = [["added to plain, all loads", *(form.name for form in ADDED)]]
    for policy in POLICIES:
        added.append([policy, *(str(Interval.of(gain(table, policy, form))) for form in ADDED)])
    return [added, *(of(metric, load) for metric in ("utility", "accuracy", "by_peek") for load in LOADS)]


def _panels(table: Table) -> Sequence[Panel]:
    names = tuple(POLICIES)

    def at(name: str, form: Form, load: int) -> Floats:
        return table.mean("utility", policy=name, form=form.name, load=load)

    places = range(len(names))
    lost = [Series(f"{n} requests", places, [1.0 - at(name, PLAIN, n) for name in names]) for n in LOADS]
    panels = [Panel("Plain", "", "utility lost: 1 - mean realised utility", lost, names)]
    for load in LOADS:
        added = [
            Series(form.name, places, [at(name, form, load) - at(name, PLAIN, load) for name in names])
            for form in ADDED
        ]
        panels.append(Panel(f"{load} requests a window", "", "utility added to plain", added, names))
    return panels


EXPERIMENTS = (
    Experiment(
        "horizon-awareness",
        "what awareness and short-circuit add to each policy",
        _jobs,
        _measure,
        _panels,
        seeds=12,
        small_seeds=3,
        tables=_tables,
    ),
)

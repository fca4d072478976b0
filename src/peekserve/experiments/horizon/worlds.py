"""What `horizon` is tried on: the paper's applications and random services, by windows and as one long stream.

A *scene* is what one seed sees: applications, the true labels of its samples and what everything says of them, workers,
and the order in which samples come. All entrants meet the same scene. Labels stay on this side of it: a scheduler is
given profiles from validation data, and evidence.

Some samples came before the first one that counts. Nobody serves them, but their evidence was seen: a service that has
been up for a while knows its stream, as far as its beliefs learn from evidence without labels. Beliefs that learn
nothing do not gain by it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from peekserve.awareness.calibrate import fit
from peekserve.awareness.priors import uninformative
from peekserve.core.beliefs import BeliefMaker, make
from peekserve.core.spec import SchedulerSpec, windowed
from peekserve.domain.application import Application, OnMiss
from peekserve.domain.profile import Calibration, Quality
from peekserve.domain.request import Request, TensorRef
from peekserve.domain.utility import Penalty
from peekserve.errors import InvalidData
from peekserve.experiments.horizon.profiles import PROFILED, RandomApplication, Service
from peekserve.experiments.sneakpeek.lab import DEVICE, Contender, Lab, Setting, Stage
from peekserve.experiments.sneakpeek.recording import Floats, Recording
from peekserve.loadgen.arrivals import mixed, poisson, shares_of
from peekserve.policies.base import Switches
from peekserve.sim.driver import Simulation, SimWorker
from peekserve.sim.window import Asked, Got, Windows, a_window, got_of
from peekserve.sim.world import Recorded, RecordedWorld

# Windows of samples whose evidence was seen before the first window that counts.
PAST = 40
# So many of an application's rows came together then.
_AT_ONCE = 4
# Parts of a random service's validation samples, each left out when its own votes are judged.
_FOLDS = 20
# Generators of their own: what one use draws more does not move the others.
_SERVICE, _VALIDATION, _WINDOW, _STREAM = 51, 52, 53, 54


@dataclass(frozen=True, slots=True)
class Entrant:
    """A scheduler as it stands in a table. `switches`: None for the policy's own. `beliefs`: a name in core.beliefs, or
    what makes them. `escalate`: may rows run again, planned event by event? None for what goes with the policy."""

    name: str
    policy: str
    switches: Switches | None
    options: Mapping[str, float]
    beliefs: str | BeliefMaker = "dirichlet"
    escalate: bool | None = None

    @classmethod
    def of(cls, who: Contender, name: str = "", beliefs: str = "dirichlet") -> "Entrant":
        """A contender of the paper's figures, maybe with other beliefs."""
        return cls(name or who.name, who.policy, who.switches, who.options, beliefs)


@dataclass(frozen=True, slots=True)
class Scene:
    """`past`, `samples`: for each application how many samples came before, and how many there are in all: the past
    ones are the first. `length_s`: of a window."""

    applications: tuple[Application, ...]
    recorded: Mapping[str, Recorded]
    workers: tuple[SimWorker, ...]
    windows: tuple[Sequence[Asked], ...]
    past: Mapping[str, int]
    length_s: float

    def play(self, who: Entrant) -> list[list[Got]]:
        """Each window by itself, one after another: one list for each."""
        windows = Windows(
            self.applications,
            self.recorded,
            who.policy,
            workers=self.workers,
            switches=who.switches,
            options=who.options,
            length_s=self.length_s,
            beliefs=who.beliefs,
        )
        for name, counts in self.seen():
            windows.saw(name, counts)
        return [windows.run(asked) for asked in self.windows]

    def live(
        self,
        who: Entrant,
        trace: Sequence[Request],
        planning: str,
        on_miss: OnMiss,
        believed: Sequence[Application] | None = None,
        jitter: bool = False,
    ) -> list[Got]:
        """A stream without breaks. `believed`: the applications as the scheduler has them, None for what is true.
        `jitter`: batches take times around the median with the spread of the true profile's p95."""
        spec = SchedulerSpec(
            policy=who.policy,
            switches=who.switches,
            policy_options=dict(who.options),
            planning=planning,
            preload=False,
            on_miss=on_miss,
            hang_s=float("inf"),
            beliefs=who.beliefs if isinstance(who.beliefs, str) else "",
            escalate=who.escalate,
        )
        catalogue = spec.catalogue(believed or self.applications)
        beliefs = make(who.beliefs, catalogue)
        for name, counts in self.seen():
            beliefs[catalogue.application(name)].seen(counts)
        true = {app.name: app for app in self.applications}
        world = RecordedWorld(true, self.recorded, jitter)
        settled = Simulation(spec.over(catalogue, beliefs=beliefs), self.workers, world).run(trace)
        return [got_of(s, true[s.request.application], self.recorded[s.request.application]) for s in settled]

    def seen(self) -> Iterator[tuple[str, Floats]]:
        """The evidence that came before, a few samples at a time and the applications in turn."""
        most = max(self.past.values(), default=0)
        for first in range(0, most, _AT_ONCE):
            for name, many in self.past.items():
                counts = self.recorded[name].counts
                if counts is not None and first < many:
                    yield name, counts[first : min(first + _AT_ONCE, many)]


# ---- what beliefs are calibrated by ----


@dataclass(frozen=True, slots=True)
class Known:
    """What validation samples tell of one application beyond its profile. `qualities`: by variant, recalls by how far
    the votes agree; empty where that was not measured."""

    calibration: Calibration
    qualities: Mapping[str, Quality]

    def given_to(self, app: Application) -> Application:
        """Raises InvalidData for an application without a peek."""
        variants = tuple(replace(v, quality=self.qualities.get(v.name, v.quality)) for v in app.variants)
        return with_calibration(replace(app, variants=variants), self.calibration)


def with_calibration(app: Application, worth: Calibration) -> Application:
    """The same, its peek's votes being worth that much. Raises InvalidData for an application without a peek."""
    if app.peek is None:
        raise InvalidData(f"{app.name} has no peek to calibrate")
    return replace(app, peek=replace(app.peek, calibration=worth))


def known_of_the_paper(lab: Lab) -> dict[str, Known]:
    """By application, from the recorded validation samples alone."""
    return {name: _known_of(_Same(base), lab.device.neighbours) for name, base in lab.recordings.items()}


class _Same:
    """A recording that equals itself alone: what is kept of it is found again without looking at its arrays."""

    def __init__(self, base: Recording) -> None:
        self.base = base

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.base is self.base

    def __hash__(self) -> int:
        return id(self.base)


@lru_cache(maxsize=16)
def _known_of(recording: _Same, k: int) -> Known:
    # It takes a second, and is the same for all seeds.
    base = recording.base
    calibration = base.calibration(k, uninformative(len(base.classes)))
    return Known(calibration, {v: base.quality_by_agreement(v, k) for v in base.variants})


def known_of_a_service(service: Service, seed: int) -> dict[str, Known]:
    """By application, from as many validation samples of each class as the profile of its peek has."""
    rng = np.random.default_rng([_VALIDATION, seed])
    return {app.name: _known(app, rng) for app in service.apps}


def _known(app: RandomApplication, rng: np.random.Generator) -> Known:
    labels = np.repeat(np.arange(app.classes), PROFILED)
    # Profiles are of equally frequent classes, and never of the streamed mix.
    even = [1.0 / app.classes] * app.classes
    groups = np.arange(len(labels)) % _FOLDS
    return Known(fit(app.counts(labels, rng), labels, groups, uninformative(app.classes), even), {})


# ---- the paper's applications ----


def of_the_paper(lab: Lab, setting: Setting, seed: int) -> Scene:
    """As its figures stage them (sneakpeek/lab.py), on the answers recorded of real samples. With stated votes or other
    variants the calibration is not theirs: `with_calibration`."""
    stage, known = Stage(replace(lab, windows=PAST + lab.windows), setting, seed), known_of_the_paper(lab)
    if setting.believed is not None or setting.variants is not None:
        known = {name: replace(one, qualities={}) for name, one in known.items()}
    past = {
        app.name: sum(one.application == app.name for asked in stage.asked[:PAST] for one in asked)
        for app in stage.applications
    }
    return Scene(
        # Copies of an application stand on its recording, in turn.
        tuple(
            known[lab.names[i % len(lab.names)]].given_to(app) for i, app in enumerate(stage.with_penalty())
        ),
        stage.recorded,
        tuple(stage.workers),
        tuple(stage.asked[PAST:]),
        past,
        lab.device.window_s,
    )


# ---- random services ----


def of_a_service(
    lab: Lab,
    service: Service,
    known: Mapping[str, Known],
    penalty: Penalty,
    rows: int,
    windows: int,
    seed: int,
) -> Scene:
    """A service's own stream. The memory is full when a window begins, with the best variants of the applications in
    turn, as in the paper's."""
    rng = np.random.default_rng([_SERVICE, seed])
    of = rng.integers(len(service.apps), size=(PAST + windows, rows))
    recorded: dict[str, Recorded] = {}
    for i, app in enumerate(service.apps):
        recorded[app.name] = app.recorded(app.labels(int((of == i).sum()), rng), rng)
    next_of = {app.name: int((of[:PAST] == i).sum()) for i, app in enumerate(service.apps)}
    past = dict(next_of)
    asked = []
    for number in range(windows):
        samples = {}
        for i, app in enumerate(service.apps):
            many = int((of[PAST + number] == i).sum())
            samples[app.name] = list(range(next_of[app.name], next_of[app.name] + many))
            next_of[app.name] += many
        chance = np.random.default_rng([_WINDOW, seed, number])
        asked.append(a_window(samples, chance, lab.device.window_s, service.deadline_s, service.spread_s))
    applications = tuple(known[app.name].given_to(app) for app in service.applications(penalty))
    worker = SimWorker("gpu-0", DEVICE, service.budget_bytes, resident=_held(applications, service))
    return Scene(applications, recorded, (worker,), tuple(asked), past, lab.device.window_s)


def _held(applications: Sequence[Application], service: Service) -> tuple[str, ...]:
    """The best variants of the applications in turn, then the second best, while they fit."""
    ranked = [
        sorted(app.variants, key=lambda v: -(v.quality.accuracy if v.quality else 0.0))
        for app in applications
    ]
    held: list[str] = []
    room = service.budget_bytes
    for rank in range(max(len(variants) for variants in ranked)):
        for variants in ranked:
            if rank < len(variants) and service.weights[variants[rank].weights] <= room:
                held.append(variants[rank].weights)
                room -= service.weights[variants[rank].weights]
    return tuple(held)


# ---- streams ----


def a_stream(
    lab: Lab, scene: Scene, rows: int, seconds: float, deadline_s: float, seed: int
) -> list[Request]:
    """Poisson arrivals of the applications evenly, `rows` of them in a window on the mean, deadlines normal with the
    device class's deviation. Of the scene's samples those that came before are left out."""
    rng = np.random.default_rng([_STREAM, seed])
    names = [app.name for app in scene.applications]
    left = {name: len(scene.recorded[name].labels) - scene.past[name] for name in names}
    instants = poisson(rows / scene.length_s, seconds, rng)
    due = np.maximum(rng.normal(deadline_s, lab.device.spread_s, len(instants)), 1e-3).tolist()
    return [
        Request(
            f"r{i}",
            one.application,
            one.at,
            one.at + due[i],
            payload=TensorRef(str(scene.past[one.application] + one.sample)),
        )
        for i, one in enumerate(mixed(instants, shares_of(names), left, rng))
    ]


def per_window(scene: Scene) -> str:
    """Planning at the end of each of the scene's windows."""
    return windowed(scene.length_s)

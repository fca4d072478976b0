"""Fault campaigns: stories drawn from seeds, one after the other, until one goes wrong.

A story is small (15 to 50 requests within half a second or so, one to three workers) and unkind: each kind of trouble
is in some share of the stories, so that some have many at once and some only one. The same seed is the same story, on
any machine.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import OnMiss
from peekserve.domain.messages import Command, Event
from peekserve.domain.request import Request, TensorRef
from peekserve.policies import PLANNED, POLICIES, SWITCHES, YARDSTICKS
from peekserve.policies.base import Switches
from peekserve.sim.driver import SimWorker
from peekserve.sim.faults import Kill, Mishap, Pause, Slow, Thing, What
from peekserve.sim.setting import DEVICES, JOINING, SAMPLES, WEIGHT_BYTES, reachable
from peekserve.sim.story import Change, Failure, Pace, Plant, Story, Stray, Whim, live

T = TypeVar("T")

POLICY_NAMES = tuple(sorted({*POLICIES, *PLANNED} - YARDSTICKS))
PLANNINGS = ("rolling", "rolling", "window(20ms)", "window(50ms, rebalance=10ms)")
# What may go wrong with each kind of thing, and which ordinals it strikes.
MISHAPS: tuple[tuple[Thing, tuple[What, ...], int], ...] = (
    ("batch", ("slow", "fails", "lost", "twice", "late", "misshapen"), 25),
    ("load", ("slow", "fails", "lost"), 8),
    ("peek", ("slow", "fails", "lost", "twice"), 25),
    ("alarm", ("late",), 120),
)
# A worker that never comes back does so when everything else is over.
NEVER_S = 1e6
LONGEST_PAUSE_S = 0.1
SAME_AGAIN = 20  # of so many seeds one is lived twice and compared


@dataclass(frozen=True, slots=True)
class Found:
    """The story of this seed went wrong."""

    seed: int
    story: Story
    failure: Failure


def campaign(seeds: Iterable[int], plant: Plant | None = None) -> Iterator[Found | None]:
    """Live through the stories of these seeds; what each came to. Of some the second life is compared with the
    first."""
    for seed in seeds:
        story = drawn(seed)
        first: list[tuple[Event, float, Sequence[Command]]] = []
        twice = plant is None and seed % SAME_AGAIN == 0
        failure = live(story, plant, (lambda *seen, into=first: into.append(seen)) if twice else None)
        if twice and failure is None:
            failure = _same(story, first)
        yield None if failure is None else Found(seed, story, failure)


def _same(story: Story, first: Sequence[tuple[Event, float, Sequence[Command]]]) -> Failure | None:
    again: list[tuple[Event, float, Sequence[Command]]] = []
    live(story, look=lambda *seen: again.append(seen))
    for one, other in zip(first, again, strict=False):
        if repr(one) != repr(other):
            return Failure("the same seed is another run", f"{one} and then {other}", one[1])
    return (
        None if len(first) == len(again) else Failure("the same seed is another run", "one ends sooner", 0.0)
    )


def drawn(seed: int) -> Story:
    """The story of a seed."""
    rng = np.random.default_rng([seed, 6])
    # Of its own: what came later leaves the stories as they were.
    pace_rng = np.random.default_rng([seed, 7])
    spec = replace(_spec(rng), follow_pace=bool(pace_rng.random() < 0.6))
    devices = _chosen(rng, tuple(DEVICES), 3) if rng.random() < 0.4 else ("cpu",) * 3
    budget = WEIGHT_BYTES * int(rng.integers(1, 7))
    workers = tuple(
        SimWorker(f"w{i}", devices[i], budget) for i in range(int(rng.choice((1, 2, 3), p=(0.3, 0.5, 0.2))))
    )
    length_s = float(rng.uniform(0.1, 0.8))
    crowd_rng = np.random.default_rng([seed, 8])
    requests = _requests(rng, length_s)
    if crowd_rng.random() < 0.5:
        spec, requests = _crowded(crowd_rng, spec, requests)
    change_rng = np.random.default_rng([seed, 9])
    spec = replace(spec, admit=bool(change_rng.random() < 0.5))
    changes, requests = _changes(change_rng, spec, requests, length_s)
    ids = [request.id for request in requests]
    return Story(
        seed,
        spec,
        _one(rng, (OnMiss.DEGRADE, OnMiss.DEGRADE, OnMiss.REJECT, OnMiss.LATE)),
        _one(rng, (OnMiss.REJECT, OnMiss.REJECT, OnMiss.LATE)),
        workers,
        requests,
        strays=_strays(rng, requests, ids, length_s) if rng.random() < 0.6 else (),
        kills=_kills(rng, workers, length_s) if rng.random() < 0.5 else (),
        mishaps=_mishaps(rng, "rebalance" in spec.planning) if rng.random() < 0.8 else (),
        pauses=_pauses(rng, length_s) if rng.random() < 0.2 else (),
        paces=_paces(rng) if rng.random() < 0.4 else (),
        slows=_slows(pace_rng, workers, length_s) if pace_rng.random() < 0.3 else (),
        changes=changes,
        uneven=_one(rng, (0.0, 0.1, 0.7)),
        confirm=_one(rng, (0.0, 0.0, 0.5, 1.0)),
        wire_s=_one(rng, (0.0, 0.0, 0.0003)),
        wake_s=_one(rng, (0.0, 0.0, 0.0002)),
        restart_s=_one(rng, (0.0, 0.02)),
    )


def _spec(rng: np.random.Generator) -> SchedulerSpec:
    policy = _one(rng, POLICY_NAMES) if rng.random() < 0.7 else _one(rng, ("horizon", "sneakpeek"))
    planning = _one(rng, PLANNINGS)
    weighs = SWITCHES.get(policy, Switches()).aware
    switches = (
        None if weighs or rng.random() < 0.5 else Switches(aware=True, short_circuit=rng.random() < 0.5)
    )
    escalate = None
    if weighs and planning == "rolling" and rng.random() < 0.6:
        escalate = True
    return SchedulerSpec(
        policy=policy,
        switches=switches,
        planning=planning,
        lead_s=_one(rng, (0.0, 0.001, 0.005)),
        hold=bool(rng.random() < 0.7),
        margin_s=_one(rng, (0.0, 0.002, 0.01)),
        patience_s=_one(rng, (0.0, 0.003, 0.01, 0.05)),
        peek=bool(rng.random() < 0.9),
        beliefs=_one(rng, ("calibrated", "dirichlet")),
        preload=bool(rng.random() < 0.5),
        max_rows=_one(rng, (4096, 4096, 20, 60)),
        hang_s=_one(rng, (0.05, 1.0)),
        remember_rows=_one(rng, (65_536, 16)),
        normalise=bool(rng.random() < 0.2),
        escalate=escalate,
        escalate_gain=_one(rng, (0.0, 0.02)),
    )


def _requests(rng: np.random.Generator, length_s: float) -> tuple[Request, ...]:
    count = int(rng.integers(15, 51))
    at = np.sort(rng.uniform(0.0, length_s, count))
    if rng.random() < 0.5:  # bursts: some come all at once
        at[rng.random(count) < 0.5] = float(rng.uniform(0.0, length_s))
        at = np.sort(at)
    deadline_s = rng.uniform(*_one(rng, ((0.002, 0.05), (0.02, 0.25), (0.002, 0.25))), count)
    many = _one(rng, (1, 2, 4, 12))
    both = rng.random()
    out = []
    for i, arrived_at in enumerate(at.tolist()):
        app = "x" if rng.random() < both else "y"
        rows = int(rng.integers(1, many + 1))
        kind = rng.random(5)
        counts = None
        if app == "x" and kind[0] < 0.1:
            votes = rng.integers(0, 4, (rows, 4)).astype(float)
            counts = tuple(tuple(row) for row in votes.tolist())
        pinned = _one(rng, ("v0", "v1", "v2") if app == "x" else ("v0", "v1")) if kind[1] < 0.1 else None
        inputs = ("x",) if app == "x" and kind[2] < 0.3 else None
        out.append(
            Request(
                f"r{i}",
                app,
                arrived_at,
                arrived_at + float(deadline_s[i]),
                rows,
                query="soft" if app == "y" and kind[3] < 0.5 else "default",
                pinned=pinned,
                inputs=inputs,
                counts=counts,
                bucket=int(app == "x" and kind[4] < 0.3),
                payload=TensorRef(str(rng.integers(SAMPLES))),
                explain=bool(kind[3] < 0.03),
            )
        )
    return tuple(out)


def _crowded(
    rng: np.random.Generator, spec: SchedulerSpec, requests: Sequence[Request]
) -> tuple[SchedulerSpec, tuple[Request, ...]]:
    """Some ask to go first, some for no less than an accuracy that something they may use has, and all bring bytes;
    and often there is not room enough."""
    each = int(rng.integers(1, 50))
    most_rows, most_bytes = max(one.rows for one in requests), max(one.rows for one in requests) * each
    spec = replace(
        spec,
        max_rows=_one(rng, (spec.max_rows, 3, 8, 16, most_rows, 2 * most_rows)),
        max_bytes=_one(rng, (spec.max_bytes, 3 * each, 10 * each, 2 * most_bytes)),
    )
    levels = _one(rng, ((0,), (0, 0, 0, 1), (1, 2), (0, 1, 9, 16)))
    share = _one(rng, (0.0, 0.3, 0.8))
    out = []
    for request in requests:
        floor = _one(rng, reachable(request)) if rng.random() < share else 0.0
        size = request.rows * each if rng.random() < 0.9 else 0
        out.append(replace(request, priority=_one(rng, levels), min_accuracy=floor, bytes=size))
    return spec, tuple(out)


def _changes(
    rng: np.random.Generator, spec: SchedulerSpec, requests: Sequence[Request], length_s: float
) -> tuple[tuple[Change, ...], tuple[Request, ...]]:
    """In some, a revision of x joins, and from then on some requests are for it; in some, variants are unloaded and
    loaded by hand."""
    changes, keys = [], {"x": ("v0", "v1", "v2", "v3"), "y": ("v0", "v1")}
    if spec.policy not in PLANNED and rng.random() < 0.25:  # a gear plan is made before
        at = float(rng.uniform(0.0, 0.5 * length_s))
        changes.append(Change(at, JOINING))
        keys[JOINING] = keys["x"]
        share, heard_at = _one(rng, (0.3, 1.0)), at + 2.0 * LONGEST_PAUSE_S
        requests = [
            replace(one, application=JOINING)
            if one.application == "x" and one.arrived_at > heard_at and rng.random() < share
            else one
            for one in requests
        ]
    if rng.random() < 0.3:
        begin = changes[0].at if changes else 0.0
        for at in np.sort(rng.uniform(begin, length_s, int(rng.integers(1, 6)))).tolist():
            key = _one(rng, tuple(keys))
            left = _one(rng, ((), keys[key], keys[key][:1], keys[key][1:]))
            changes.append(Change(at, key, left))
    return tuple(changes), tuple(requests)


def _strays(
    rng: np.random.Generator, requests: Sequence[Request], ids: Sequence[str], length_s: float
) -> tuple[Stray, ...]:
    strays = []
    for _ in range(int(rng.integers(1, 10))):
        request = requests[int(rng.integers(len(requests)))]
        what: Whim = _one(rng, ("cancel", "cancel", "cancel", "confirm", "confirm", "peek", "batch", "alarm"))
        at = request.arrived_at + float(rng.uniform(0.0, 0.1 if what != "confirm" else 0.5))
        strays.append(Stray(at, what, request.id if what not in ("batch", "alarm") else ""))
    return tuple(sorted(strays, key=lambda one: one.at))


def _kills(rng: np.random.Generator, workers: Sequence[SimWorker], length_s: float) -> tuple[Kill, ...]:
    kills = []
    for at in np.sort(rng.uniform(0.0, length_s, int(rng.integers(1, 5)))).tolist():
        back_s = NEVER_S if rng.random() < 0.15 else float(rng.uniform(0.0, 0.3))
        unnoticed_s = float(rng.uniform(0.0, 0.03)) if rng.random() < 0.3 else 0.0
        kills.append(Kill(_one(rng, workers).name, at, back_s, unnoticed_s, bool(rng.random() < 0.4)))
    return tuple(kills)


def _mishaps(rng: np.random.Generator, thinks_again: bool) -> tuple[Mishap, ...]:
    struck: dict[tuple[Thing, int, What], Mishap] = {}
    for _ in range(int(rng.integers(1, 9))):
        of, whats, most = _one(rng, MISHAPS)
        what, nth = _one(rng, whats), int(rng.integers(1, most + 1))
        seconds = float(rng.choice((0.0, 0.001, 0.01, 0.05, 0.3)))
        if (of, what) == ("load", "lost") and thinks_again:
            continue  # a minute of planning the same rows a hundred times a second shows nothing new
        struck[of, nth, what] = Mishap(of, nth, what, seconds)
    return tuple(struck[key] for key in sorted(struck))


def _pauses(rng: np.random.Generator, length_s: float) -> tuple[Pause, ...]:
    count = int(rng.integers(1, 3))
    at = np.sort(rng.uniform(0.0, length_s, count)).tolist()
    return tuple(Pause(one, float(rng.uniform(0.005, LONGEST_PAUSE_S))) for one in at)


def _paces(rng: np.random.Generator) -> tuple[Pace, ...]:
    known = (("x", "v0"), ("x", "v1"), ("x", "v2"), ("x", "v3"), ("y", "v0"), ("y", "v1"))
    return tuple(
        Pace(app, variant, float(10.0 ** rng.uniform(-0.5, 1.0)), _one(rng, (1.0, 1.0, 3.0, 0.3)))
        for app, variant in known
        if rng.random() < 0.5
    )


def _slows(rng: np.random.Generator, workers: Sequence[SimWorker], length_s: float) -> tuple[Slow, ...]:
    return tuple(
        Slow(
            _one(rng, workers).name,
            float(rng.uniform(0.0, length_s)),
            float(rng.uniform(0.05, length_s)),
            float(2.0 ** rng.uniform(-1.0, 4.0)),
        )
        for _ in range(int(rng.integers(1, 4)))
    )


def _one(rng: np.random.Generator, of: Sequence[T]) -> T:
    return of[int(rng.integers(len(of)))]


def _chosen(rng: np.random.Generator, of: Sequence[T], many: int) -> tuple[T, ...]:
    return tuple(_one(rng, of) for _ in range(many))

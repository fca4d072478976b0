"""How a machine differs from its profiles is read back from the journal of a run on it."""

from dataclasses import replace

import numpy as np
import pytest

from peekserve.core.spec import SchedulerSpec
from peekserve.experiments.service import ENOUGH, Seen, seen_in, service_of
from peekserve.sim.driver import Simulation, SimWorker
from peekserve.sim.world import Series, Service
from peekserve.state.journal import JournalWriter
from tests.sim.runs import a_trace, applications, world

APPS = {app.name: app for app in applications()}
KEYS = [(app.name, variant.name) for app in APPS.values() for variant in app.variants]
SLOW = Service(
    paces=dict.fromkeys(KEYS, Series((1.7,))),
    loads_s=dict.fromkeys(KEYS, Series((0.025,))),
    peeks_s=dict.fromkeys(APPS, Series((0.004,))),
    wire_s=0.0015,
)


def later(trace):
    """When the worker has loaded what it loads of its own accord."""
    return [replace(r, arrived_at=r.arrived_at + 1.0, due_at=r.due_at + 1.0) for r in trace]


@pytest.fixture
def seen(tmp_path):
    spec = SchedulerSpec(policy="lo-edf", lead_s=0.0)
    with JournalWriter(tmp_path / "run.journal", spec, list(APPS.values())) as writer:
        Simulation(
            spec.build(list(APPS.values())),
            [SimWorker("w", "cpu", 700)],  # room for one model: it swaps
            replace(world(list(APPS.values())), service=SLOW),
            observe=lambda event, now, commands: writer.step(event, now, commands),
        ).run(later(a_trace(list(APPS.values()), rate=40, seconds=4.0)))
    return seen_in(tmp_path / "run.journal")


def test_paces_loads_peeks_and_ways_are_read_back(seen):
    assert sum(map(len, seen.paces.values())) > 20
    assert sum(map(len, seen.loads_s.values())) > 20
    for key, timed in seen.paces.items():
        paces = [pace for _, pace in timed]
        assert paces == pytest.approx([1.7] * len(paces)), key
    # Loads hold the wire once where two commands travel one behind the other: within a wire of what they took.
    for key, timed in seen.loads_s.items():
        loads = [load for _, load in timed]
        assert loads == pytest.approx([0.025] * len(loads), abs=0.0016), key
    for name, timed in seen.peeks_s.items():
        took = [seconds for _, seconds in timed]
        assert took == pytest.approx([0.004] * len(took)), name
    assert seen.ways_s == pytest.approx([0.0015] * len(seen.ways_s))


def test_what_a_run_saw_rarely_is_taken_from_all_of_them():
    often, rare = Seen(), Seen()
    often.loads_s["a", "big"] = [(i / 10, 0.02) for i in range(ENOUGH)]
    rare.loads_s["a", "big"] = [(0.5, 0.14)]
    rare.paces["a", "big"] = [(i / 10, 1.2) for i in range(ENOUGH)]
    often.paces["a", "big"] = [(i / 10, 0.9) for i in range(ENOUGH)]
    service = service_of(rare, [often, rare])
    assert sorted(service.loads_s["a", "big"].values) == [0.02] * ENOUGH + [0.14]
    assert not service.loads_s["a", "big"].at, "values of several runs have no common time"
    assert set(service.paces["a", "big"].values) == {1.2}


def test_a_slow_while_stays_a_while():
    slow = Series(tuple(5.0 if 40 <= i < 60 else 1.0 for i in range(100)), tuple(i / 10 for i in range(100)))
    rng = np.random.default_rng(0)
    assert {slow.draw(5.0, rng) for _ in range(50)} == {5.0}
    assert {slow.draw(1.0, rng) for _ in range(50)} == {1.0}
    assert {slow.draw(1e9, rng) for _ in range(50)} == {1.0}

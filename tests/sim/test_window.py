"""Single windows: planned once at their end, from a stated residency, and begun afresh each time."""

from dataclasses import replace

import numpy as np
import pytest

from peekserve.domain.utility import Penalty
from peekserve.errors import InvalidConfiguration, InvalidData
from peekserve.policies import POLICIES
from peekserve.policies.base import Switches
from peekserve.sim.driver import SimWorker
from peekserve.sim.window import Asked, Windows, a_window, simulate_window
from tests.core.stories import an_application, takes
from tests.sim.runs import applications, world


def asked(seed: int = 0, each: int = 6) -> list[Asked]:
    rng = np.random.default_rng(seed)
    return a_window({app.name: rng.integers(0, 200, each).tolist() for app in applications()}, rng)


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_a_window_is_planned_once_at_its_end_and_every_request_has_one_row(policy):
    apps = applications()
    windows = Windows(apps, world(apps).recorded, policy, penalty=Penalty.sigmoid())
    got = windows.run(asked(), check=True)
    assert [g.row.request_id for g in got] == [f"r{i}" for i in range(12)]
    assert all(g.row.settled_at >= 0.1 for g in got)
    assert all(0.0 <= g.expected <= g.recall <= 1.0 for g in got)


def test_windows_know_nothing_of_each_other():
    apps = applications()
    windows = Windows(apps, world(apps).recorded, "sneakpeek", workers=[SimWorker("w", budget_bytes=500)])
    first = windows.run(asked(1))
    windows.run(asked(2))
    assert windows.run(asked(1)) == first
    workers = [SimWorker("w", budget_bytes=500)]
    assert simulate_window(apps, world(apps).recorded, asked(1), "sneakpeek", workers=workers) == first


def test_weights_that_are_resident_from_the_start_need_no_load():
    app = an_application(takes(0.010, load_s=0.050))
    one = [Asked("app", 0, 0.0, 0.250)]
    recorded = {"app": replace(world(applications()).recorded["y"], scores={"only": np.eye(2)[[0] * 200]})}

    def settled_at(*resident: str) -> float:
        worker = SimWorker("w", budget_bytes=10, resident=resident)
        return Windows([app], recorded, "lo-edf", workers=[worker]).run(one, check=True)[0].row.settled_at

    assert settled_at("sha-only") == pytest.approx(0.110)
    assert settled_at() == pytest.approx(0.160)


def test_a_late_answer_is_given_and_penalised():
    app = an_application(takes(0.200))
    recorded = {"app": replace(world(applications()).recorded["y"], scores={"only": np.eye(2)[[0] * 200]})}
    for penalty, kept in ((Penalty.step(), 0.0), (Penalty.linear(1.0), 0.85)):
        windows = Windows([app], recorded, "grouped", penalty=penalty, switches=Switches(drop=False))
        got = windows.run([Asked("app", 0, 0.0, 0.150)])[0]
        assert got.row.settled_at == pytest.approx(0.300)
        assert got.expected == pytest.approx(0.9 * kept)


def test_what_cannot_be_run_is_said():
    apps = applications()
    recorded = world(apps).recorded
    with pytest.raises(InvalidData, match="must arrive within it"):
        Windows(apps, recorded, "grouped").run([Asked("x", 0, 0.1, 0.1)])
    with pytest.raises(InvalidConfiguration, match="no policy 'groupd'"):
        Windows(apps, recorded, "groupd")

"""The windows that plans are compared on, how far from the best they are, and what nobody can pass."""

import numpy as np
import pytest

from peekserve.domain.utility import Penalty
from peekserve.errors import InvalidData
from peekserve.experiments.horizon import deciding, gap, guard, remains
from peekserve.experiments.horizon.bound import above
from peekserve.experiments.horizon.gap import CASES, NAMES, SHARED, Case, gaps
from peekserve.experiments.horizon.instances import KINDS, Instance, Shape, instances
from peekserve.experiments.horizon.profiles import MAX_BATCH, NEIGHBOURS, overdispersed, random_service
from peekserve.experiments.table import Table
from peekserve.policies import make
from peekserve.policies.base import Switches, View
from peekserve.policies.optimal import Optimal
from peekserve.policies.worth import evaluate
from tests.experiments.stand_ins import a_lab
from tests.policies.views import a_random_view

pytestmark = pytest.mark.core


def a_few(windows: int = 4, seed: int = 3, **shape) -> list[Instance]:
    return instances(a_lab(windows), Shape(**{"rows": (4, 8), **shape}), seed)


def same(one: View, two: View) -> bool:
    """Field by field, penalties excepted."""
    columns = ("lane", "arrived_at", "due_at", "accuracy", "allowed", "instant", "likely")
    return all(np.array_equal(getattr(one, c), getattr(two, c), equal_nan=c == "instant") for c in columns)


def worth(view: View, name: str, switches: Switches) -> float:
    return float(evaluate(view, make(name, switches).plan(view), switches)[0].sum())


# ---- services and instances ----


def test_a_random_service_is_as_its_page_says():
    for seed in range(40):
        service = random_service(np.random.default_rng(seed))
        assert 2 <= len(service.apps) <= 5
        for app in service.apps:
            assert sum(app.frequencies) == pytest.approx(1.0)
            assert np.array(app.votes).sum(axis=1) == pytest.approx(np.ones(app.classes))
            for v in app.variants:
                assert 0.005 <= v.one_s <= 0.090
                assert 0.005 <= v.load_s <= 0.040
                assert v.bytes <= service.budget_bytes
                assert v.timing(2.0).curves[0].seconds(3) == pytest.approx(2 * v.one_s * (1 + 2 * v.slope))
        assert len(set(service.weights.values())) > 1
        held = sum(sorted(service.weights.values())[: len(service.weights)])
        assert service.budget_bytes < held or len(service.weights) < 4


def test_a_service_can_be_simulated():
    rng = np.random.default_rng(2)
    service = random_service(rng)
    for app, declared in zip(service.apps, service.applications(Penalty.step()), strict=True):
        labels = app.labels(300, rng)
        recorded = app.recorded(labels, rng)
        assert declared.name == app.name
        assert set(recorded.scores) == {v.name for v in declared.variants}
        assert recorded.counts.shape == (300, len(declared.classes))
        for v in declared.variants:
            said = recorded.scores[v.name].argmax(axis=1)
            believed = np.array(v.quality.recall)[labels].mean()
            assert (said == labels).mean() == pytest.approx(believed, abs=0.09)


def test_neighbours_agree_more_than_independent_votes_would():
    votes = np.array([[0.7, 0.3], [0.3, 0.7]])
    counts = overdispersed(votes, np.zeros(4000, np.int64), np.random.default_rng(0))
    assert counts.sum(axis=1).tolist() == [NEIGHBOURS] * 4000
    assert counts[:, 0].mean() / NEIGHBOURS == pytest.approx(0.7, abs=0.02)
    assert counts[:, 0].var() > 1.5 * NEIGHBOURS * 0.7 * 0.3


def test_a_seed_gives_the_same_windows_whatever_the_penalty():
    first, again, step = a_few(), a_few(), a_few(penalty="step")
    for one, two, other in zip(first, again, step, strict=True):
        assert same(one.view, two.view)
        assert same(one.view, other.view)
        assert one.view.workers[0].resident == other.view.workers[0].resident
        assert one.view.penalty[0] != other.view.penalty[0]
    assert not same(first[0].view, a_few(seed=4)[0].view)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_window_can_be_planned(workers: int):
    for one, kind in zip(a_few(8, rows=(4, 12), workers=workers), KINDS * 4, strict=True):
        view = one.view
        assert one.kind == kind
        assert 4 <= view.size <= 12
        assert len(view.workers) == workers
        assert not np.isnan(view.instant).any()
        assert (view.accuracy <= 1.0).all()
        assert (view.accuracy[view.allowed] > 0.0).all()
        for slower, worker in zip((1.0, 1.6, 2.5), view.workers, strict=False):
            assert view.now <= worker.free_at <= view.now + 0.03
            assert worker.bytes[list(worker.resident)].sum() <= worker.budget
            assert (worker.bytes <= worker.budget).all()
            assert worker.latency_s[0][0, MAX_BATCH] == pytest.approx(
                slower * view.workers[0].latency_s[0][0, MAX_BATCH]
            )


def test_the_memory_holds_one_model_or_several_of_unequal_size():
    views = [one.view for one in a_few(40)]
    fit = [
        int(np.searchsorted(np.cumsum(np.sort(v.workers[0].bytes)[::-1]), v.workers[0].budget, "right"))
        for v in views
    ]
    assert set(fit) >= {1, 2, 3}
    assert any(len(set(v.workers[0].bytes.tolist())) > 1 for v in views[1::2])
    assert any(not v.workers[0].resident for v in views)


# ---- the gap ----


def test_nobody_is_above_a_proven_optimum():
    for case in (*CASES[:6:2], *CASES[1:6:4], *SHARED[6::3]):
        for one in instances(a_lab(2), case.shape, 1):
            for row in gaps(one, case):
                assert row["proven"] == 1
                assert row["gap"] >= -1e-9, (case, row)
                assert row["gap"] == pytest.approx(row["at_least"], abs=1e-9)
                assert row["exact"] == (row["gap"] < 1e-6)


def test_windows_that_were_not_solved_are_counted_and_not_averaged():
    case = Case("4-8", "no", "linear")
    rows = [row for one in instances(a_lab(4), case.shape, 0) for row in gaps(one, case, labels=100.0)]
    cut = [row for row in rows if not row["proven"]]
    assert cut
    assert all("gap" not in row and row["at_least"] >= 0.0 for row in cut)
    # What is reported of them is below what is true.
    sure = [row for one in instances(a_lab(4), case.shape, 0) for row in gaps(one, case)]
    assert all(low["at_least"] <= true["gap"] + 1e-9 for low, true in zip(rows, sure, strict=True))
    others = [row for c in (*CASES, *SHARED) if c != case for row in _like(sure, c)]
    line = next(r for r in gap._ours(Table([*rows, *others])) if r[:4] == ["1", "4-8", "no", "linear"])
    many = len({(row["seed"], row["number"]) for row in cut})
    assert line[-3:-1] == ["4", str(many)]


def _like(rows, case):
    return [{**row, **case.where} for row in rows]


def test_a_plan_that_is_known_saves_the_solver_work_and_changes_nothing():
    case = Case("4-8", "no", "sigmoid")
    for one in instances(a_lab(4), case.shape, 5):
        view, optimal = one.view, Optimal(case.switches)
        best = optimal.best(view)
        again = optimal.best(view, [best.plan])
        assert again.proven
        assert again.utility == pytest.approx(best.utility, abs=1e-9)
        assert again.labels <= best.labels


def test_the_gap_is_the_same_again():
    case = CASES[0]
    runs = [[row for one in a_few(2) for row in gaps(one, case)] for _ in range(2)]
    assert runs[0] == runs[1]
    assert {row["policy"] for row in runs[0]} == set(NAMES)


def test_every_case_has_its_line_and_its_claim():
    lab = a_lab(2)
    rows = [row for job in gap.EXPERIMENTS[0].jobs(lab)[:1] for seed in (0, 1) for row in job(seed)]
    table = Table([row for case in (*CASES, *SHARED) for row in _like(rows, case)])
    measured = gap.EXPERIMENTS[0].measure(table)
    assert len(measured) == 18
    ours, everyone, _ = gap.EXPERIMENTS[0].tables(table)
    assert len(ours) == len(everyone) == 1 + len(CASES) + len(SHARED)
    assert all(len(line) == len(ours[0]) for line in ours)
    assert len(gap.EXPERIMENTS[0].panels(table)) == 4


# ---- beyond the solver ----


@pytest.mark.parametrize("case", CASES[:6], ids=str)
def test_the_bound_is_never_below_the_optimum(case: Case):
    for one in instances(a_lab(6), case.shape, 2):
        view = one.view
        best = Optimal(case.switches).best(view).utility
        alone, bound = above(view, case.switches, steps=0), above(view, case.switches, best)
        assert best - 1e-7 <= bound <= alone


def test_nor_is_it_on_windows_of_any_kind():
    for seed in range(25):
        view = a_random_view(seed, rows=5, lanes=3)
        for switches in (Switches(True, True), Switches(True, False), Switches(True, False, drop=False)):
            best = Optimal(switches).best(view).utility
            assert above(view, switches, best) >= best - 1e-7, (seed, switches)


def test_the_bound_is_for_one_worker():
    with pytest.raises(InvalidData, match="one worker, not for 2"):
        above(a_few(1, workers=2)[0].view, Switches())


def test_what_remains_lies_between_the_plan_and_the_bound():
    case = remains.CASES[0]
    for one in a_few(2, rows=(30, 30), penalty=case.penalty):
        row = remains.remains(one, case)
        assert row["rows"] == 30
        assert row["utility"] <= row["found"] <= row["most"] + 1e-9
        assert 0.0 <= row["remains"] <= row["between"] + 1e-9


# ---- beside SneakPeek ----


@pytest.mark.parametrize(("rows", "workers"), guard.SHAPES, ids=str)
def test_a_plan_is_never_believed_worse_than_sneakpeeks(rows: tuple[int, int], workers: int):
    for one in a_few(6, rows=rows, workers=workers, penalty="step"):
        for switches in (Switches(True, True), Switches(True, False, drop=False)):
            ours, theirs = guard.compared(one, switches)
            assert ours >= theirs - 1e-9, (one.number, switches)


def test_the_guard_looks_at_ten_thousand_states():
    lab = a_lab(12)
    assert len(guard.EXPERIMENTS[0].jobs(lab)) * guard.EXPERIMENTS[0].seeds * lab.windows >= 10_000


# ---- decisions ----


def test_a_decision_is_timed_and_never_believed_worse_than_sneakpeek():
    for one in a_few(2, rows=(24, 24), deadline_s=0.2):
        rows = deciding.decisions(one, 24, 1)
        assert [row["policy"] for row in rows] == list(deciding.NAMES)
        assert all(row["decision_ms"] > 0.0 and row["plan_ms"] > 0.0 for row in rows)
        assert rows[0]["ahead"] >= 0.0


def test_the_slope_is_that_of_the_line_through_the_medians():
    rows = [
        {
            "seed": seed,
            "rows": n,
            "workers": 1,
            "policy": "horizon",
            "decision_ms": 0.02 * n**0.3 * (1 + seed),
        }
        for seed in range(3)
        for n in deciding.SIZES
    ]
    found = deciding.slope(Table(rows), "decision_ms", policy="horizon", workers=1)
    assert found[0] == pytest.approx(0.3)


def test_a_quantile_counts_every_row_once():
    rows = [{"seed": s, "gap": float(g)} for s in range(4) for g in range(5 * s, 5 * s + 5)]
    found = Table(rows).quantile("gap", 0.95)
    assert found[0] == 18.0
    assert found.min() >= 4.0
    assert found.max() == 19.0
    assert Table(rows).quantile("gap", 0.0)[0] == 0.0
    lacking = [replace_seed(row) for row in rows]
    assert np.isfinite(Table(lacking).quantile("gap", 0.5, kind="x")[0])


def replace_seed(row):
    return {**row, "kind": "x" if row["seed"] == 0 else "y"}

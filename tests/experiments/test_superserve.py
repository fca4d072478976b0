"""A small version of each experiment over a supernet, on one that was drawn: what they measure is what they claim."""

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from peekserve.clock import ManualClock
from peekserve.domain.application import Variant
from peekserve.errors import DataUnavailable, InvalidData
from peekserve.experiments.claims import judge, read_claims
from peekserve.experiments.plot import draw
from peekserve.experiments.run import find, laboratory_of, over_a_supernet, run
from peekserve.experiments.spec import Experiment
from peekserve.experiments.superserve import delay, fleets, grid, loads, ours, tiny
from peekserve.experiments.superserve.entrants import (
    DRAIN,
    INFAAS,
    POLICIES,
    SLACKFIT,
    SMALL_SEPARATE,
    everyone,
    fixed,
)
from peekserve.experiments.superserve.grid import LARGEST, SMALLEST, Bursty, Functions, Ramp
from peekserve.experiments.superserve.lab import Timings, read_timings, super_laboratory
from peekserve.experiments.superserve.live import slowed
from peekserve.experiments.superserve.serving import CARRIED, carried, served, tables
from peekserve.experiments.superserve.timing import alternated
from peekserve.experiments.superserve.versus import points_gained, times_attained
from peekserve.experiments.superserve.worlds import (
    DEADLINE_S,
    MAX_BATCH,
    WORKERS,
    curve_of,
    knowing,
    met_of,
    play,
    pool,
    profiled,
    requests,
    world_of,
)
from peekserve.experiments.table import Table
from peekserve.loadgen.rates import bursty
from peekserve.runtimes.scripted import DrawnAnswers, ScriptedRuntime
from tests.experiments.supernets import NOT_OFFERED, SUBNETS, a_super_lab, some_timings

pytestmark = pytest.mark.core

LAB = a_super_lab(0.05)


def some_rows(experiment: Experiment, jobs: Sequence[int], seeds: int = 1, lab=LAB) -> Table:
    made = experiment.jobs(lab)
    return Table([row for i in jobs for seed in range(seeds) for row in made[i](seed)])


def whole(table: Table, experiment: Experiment) -> dict[str, float]:
    """Everything that is told of an experiment; its claims, measured."""
    findings = judge(experiment.name, experiment.measure(table))
    assert len(findings) == sum(c.experiment == experiment.name for c in read_claims())
    for one in experiment.tables(table) if experiment.tables else ():
        assert len({len(line) for line in one}) == 1
    panels = experiment.panels(table)
    assert panels
    assert all(len(s.x) == len(s.values) for panel in panels for s in panel.series)
    return {f.claim.id: f.interval.measured for f in findings}


# ---- the world ----


def test_a_supernet_is_one_application_whose_variants_share_their_weights():
    world = world_of(LAB, "ecg")
    app = world.application
    assert [v.name for v in app.variants] == [name for name, _ in SUBNETS if name != NOT_OFFERED]
    assert len({v.weights for v in app.variants}) == 1
    assert curve_of(world.largest).seconds(MAX_BATCH) * 1.5 == pytest.approx(DEADLINE_S)
    assert world.capacity(world.smallest) > world.capacity() == pytest.approx(WORKERS * MAX_BATCH / 0.024)
    alone = world.as_asked(replace(SLACKFIT, only="separate.d1-1-1.w25"))
    assert [v.name for v in alone.variants] == ["separate.d1-1-1.w25"]
    apart = world.as_asked(SLACKFIT, switch_s=0.02)
    assert len({v.weights for v in apart.variants}) == len(app.variants)


def test_fixed_points_are_spread_over_the_accuracies_with_both_ends():
    world = world_of(LAB, "ecg")
    points = world.points()
    worth = [profiled(world.application.variant(name)) for name in points]
    assert len(set(points)) == 6
    assert worth == sorted(worth)
    assert worth[-1] - worth[0] == pytest.approx(world.span)
    assert len(world.points(100)) == len(world.application.variants)


def test_profiles_are_of_validation_and_answers_of_test_samples():
    scored, world = LAB.scored["ecg"], world_of(LAB, "ecg")
    for variant in world.application.variants:
        assert profiled(variant) == pytest.approx(scored.accuracies()[variant.name])
        said = world.recorded.scores[variant.name].argmax(axis=1)
        assert (said == world.recorded.labels).mean() == pytest.approx(
            scored.accuracies("test")[variant.name]
        )


def test_without_a_peek_what_is_believed_of_a_row_is_the_profile():
    """The prior is that of the validation labels: so `horizon`, which believes of rows, knows what slackfit does."""
    for name in ("ecg", "keywords"):
        app = world_of(LAB, name).application
        belief = np.array(app.prior) / sum(app.prior)
        for variant in app.variants:
            assert belief @ variant.quality.recall == pytest.approx(profiled(variant), abs=0.005)


def test_who_is_told_knows_of_each_subnet_what_it_attains_on_the_samples_that_are_drawn():
    world = world_of(LAB, "ecg")
    told, own = knowing(world, 3), pool(world, 3)
    for variant in (*told.application.variants, told.alone["separate.d1-1-1.w25"]):
        right = world.recorded.scores[variant.name].argmax(axis=1) == world.recorded.labels
        assert profiled(variant) == pytest.approx(right[own].mean())
    at = np.linspace(0.0, 0.1, 30)
    assert requests(told, at, 3) == requests(world, at, 3)


def test_every_seed_draws_its_own_requests_and_the_same_ones_again():
    world = world_of(LAB, "ecg")
    at = np.linspace(0.0, 0.1, 30)
    one, again, other = requests(world, at, 3), requests(world, at, 3), requests(world, at, 4)
    assert one == again
    assert [r.payload for r in one] != [r.payload for r in other]
    assert all(r.deadline_s == pytest.approx(DEADLINE_S) for r in one)


def test_under_a_light_load_nearly_all_are_answered_by_the_largest_and_every_request_is_in_the_means():
    world = world_of(LAB, "ecg")
    at = bursty(0.1 * world.capacity(), 0.1 * world.capacity(), 1.0, 0.2, np.random.default_rng(0))
    trace = requests(world, at, 0)
    served = play(world, SLACKFIT, trace)
    met = met_of(world, served)
    assert met["requests"] == len(trace)
    assert met["attainment"] == 1.0
    assert met["worth"] == pytest.approx(profiled(world.largest), abs=0.01)
    assert met["utility"] == pytest.approx(np.mean([one.correct for one in served]))


def test_a_switch_that_takes_a_deadline_is_felt_and_more_so_by_whoever_does_not_know_of_it():
    world = world_of(LAB, "ecg")
    full = world.capacity()
    trace = requests(world, bursty(0.5 * full, 1.5 * full, 8.0, 0.2, np.random.default_rng(0)), 0)
    met = {
        (ms, told): met_of(world, play(world, SLACKFIT, trace, switch_s=ms / 1e3, told=told))["attainment"]
        for ms, told in ((0.0, False), (100.0, False), (100.0, True))
    }
    free = met_of(world, play(world, SLACKFIT, trace))["attainment"]
    assert met[0.0, False] == pytest.approx(free, abs=0.01)
    assert met[100.0, False] < 0.5 * free
    assert met[100.0, True] < free


def test_rates_are_shares_of_a_capacity():
    world, rng = world_of(LAB, "ecg"), np.random.default_rng(0)
    for cell in (Bursty(LARGEST, 0.75, 1.475, 2.0), Bursty(SMALLEST, 0.1875, 0.69375, 2.0)):
        full = grid.capacity_of(world, cell.over)
        many = len(cell.instants(world, 0.5, rng))
        assert many == pytest.approx(0.5 * cell.seconds * full * (cell.base + cell.varying), rel=0.15)
    ramp = Ramp(LARGEST, 1.25, 2.4, 2.5)
    at = ramp.instants(world, 0.5, rng)
    first, last = (at < 0.25).sum(), (at > at[-1] - 0.25).sum()
    assert last / first == pytest.approx(2.4 / 1.25, rel=0.3)
    short = Functions(LARGEST, 1.0, 4).instants(world, 1.0, rng)
    assert 0.0 < short[-1] < 4 * grid.MINUTE_S
    assert len({c.name for c in (*grid.BURSTY, *grid.RAMPS, *grid.TRACES)}) == 15 + 5 + 2


def test_live_runs_are_the_same_world_slowed():
    world = world_of(LAB, "ecg")
    slow = slowed(world, 8.0)
    assert slow.capacity() == pytest.approx(world.capacity() / 8.0)
    assert slow.application.query().deadline_s == pytest.approx(8.0 * DEADLINE_S)
    assert all(v.needs == ("sample",) for v in slow.application.variants)


# ---- the paper's comparison ----


def a_table(**met: tuple[float, float]) -> Table:
    """Policy -> (attainment, accuracy of what is in time)."""
    rows = [
        {
            "policy": name,
            "seed": seed,
            "requests": 10,
            "attainment": a,
            "worth": a * right,
            "could": min(2 * a, 1.0),
        }
        for name, (a, right) in met.items()
        for seed in (0, 1)
    ]
    return Table(rows)


def test_accuracy_is_compared_at_equal_attainment_and_attainment_at_equal_accuracy():
    table = a_table(ours=(1.0, 0.9), quick=(1.0, 0.8), exact=(0.4, 0.95), middle=(0.9, 0.88))
    fixed = ("quick", "exact", "middle")
    assert points_gained(table, "ours", fixed)[0] == pytest.approx(0.1)
    assert times_attained(table, "ours", fixed)[0] == pytest.approx(2.5)
    assert times_attained(table, "ours", fixed, at_best=True)[0] == pytest.approx(1.0 / 0.8)


def test_where_no_fixed_model_attains_as_much_the_one_that_attains_most_stands_for_them():
    table = a_table(ours=(1.0, 0.7), quick=(0.8, 0.8), exact=(0.0, 0.0))
    assert points_gained(table, "ours", ("quick", "exact"))[0] == pytest.approx(-0.1)
    assert times_attained(table, "ours", ("quick", "exact"))[0] == pytest.approx(1.0 / 0.8)


# ---- each experiment ----


@pytest.mark.parametrize("name", ["superserve-front", "superserve-properties", "superserve-norm"])
def test_what_is_read_off_the_recordings(name):
    result = run(find(name), LAB, seeds=3)
    measured = whole(result.table, result.experiment)
    assert result.summary["device"].startswith("no machine, measured while others used it")
    if name == "superserve-front":
        assert measured["front-many"] == len(SUBNETS)
        assert measured["front-smallest"] < 0.0
    elif name == "superserve-norm":
        assert measured["norm-lost"] > 0.5
    else:
        assert measured["properties-p1"] == 1.0


@pytest.mark.parametrize(
    ("experiment", "cells"),
    [
        (loads.EXPERIMENTS[0], [c.name for c in grid.TRACES]),
        (loads.EXPERIMENTS[1], [c.name for c in grid.BURSTY if c.cv2 == 8.0]),
        (loads.EXPERIMENTS[2], [r.name for r in grid.RAMPS[:3]]),
        (loads.EXPERIMENTS[3], [c.name for c in grid.POLICIES[:3]]),
        (ours.EXPERIMENTS[0], [c.name for c in grid.BURSTY if c.cv2 == 8.0]),
    ],
    ids=lambda value: value.name if isinstance(value, Experiment) else "",
)
def test_what_is_told_of_loads(experiment, cells):
    """Of one short trace, told as if it were every cell's: the traces themselves are the other tests' matter."""
    light = Bursty(LARGEST, 0.2, 0.6, 2.0)
    rows = served(LAB, "ecg", light, lambda world: [*everyone(world), *ours.WHO[2:]])(0)
    table = Table([{**row, "cell": cell} for cell in cells for row in rows])
    measured = whole(table, experiment)
    if experiment.name == "superserve-bursty":
        assert measured["bursty-in-time-drain"] >= 0.99
        assert {len(line) for line in tables(table)[1]} == {9}


def test_what_the_smallest_subnet_can_carry_is_known_before_anybody_serves():
    light, heavy = Bursty(LARGEST, 0.2, 0.6, 2.0), Bursty(SMALLEST, 1.0, 2.0, 2.0)
    rows = [row for cell in (light, heavy) for row in served(LAB, "ecg", cell, lambda world: [SLACKFIT])(0)]
    by_cell = {row["cell"]: row for row in rows}
    assert by_cell[heavy.name]["at_least"] <= by_cell[heavy.name]["at_most"] < CARRIED
    assert by_cell[light.name]["at_least"] == 1.0
    assert carried(Table(rows)) == [{"application": "ecg", "cell": light.name}]


def test_everybody_serves_the_same_requests():
    rows = served(LAB, "keywords", Bursty(LARGEST, 0.2, 0.6, 2.0), everyone)(1)
    world = world_of(LAB, "keywords")
    assert [row["policy"] for row in rows] == [w.name for w in (*POLICIES, *fixed(world))] + [SMALL_SEPARATE]
    assert len({row["requests"] for row in rows}) == 1
    by_name = {row["policy"]: row for row in rows}
    # The cheapest subnet always: its own accuracy, and nothing late.
    assert by_name[INFAAS.name]["worth"] == pytest.approx(profiled(world.smallest))
    assert by_name[INFAAS.name]["attainment"] == 1.0


def test_delays_of_switches_and_times_of_loads():
    jobs = delay.EXPERIMENTS[0].jobs(LAB)
    first = range(len(delay.AS))
    table = some_rows(delay.EXPERIMENTS[0], [*first, len(jobs) - 1])
    measured = whole(table, delay.EXPERIMENTS[0])
    assert measured["delay-100-ms"] > 0.1
    assert measured["delay-load"] == pytest.approx(1e-3 / 3e-5)


def test_half_of_the_workers_killed():
    table = some_rows(fleets.EXPERIMENTS[0], [0], lab=a_super_lab(0.03))
    measured = whole(table, fleets.EXPERIMENTS[0])
    assert measured["faults-in-time"] > 0.97
    assert measured["faults-accuracy-paid"] > 0.0
    assert measured["faults-largest"] < 0.7


def test_more_workers_answer_more():
    """One and eight of them; what is told of two and four is made up."""
    experiment = fleets.EXPERIMENTS[1]
    first, last = some_rows(experiment, [0, len(fleets.SCALED) - 1], lab=a_super_lab(0.01)).rows
    table = Table([first, *({**last, "workers": w} for w in fleets.SCALED[1:])])
    measured = whole(table, experiment)
    assert measured["scaling-efficiency"] > 0.5
    assert table.mean("rate", workers=8)[0] > table.mean("rate", workers=1)[0]


def test_no_policy_passes_the_optimum():
    pytest.importorskip("scipy")
    rows = [row for row in tiny.EXPERIMENTS[0].jobs(LAB)[1](0) if row["number"] == 0]
    table = Table(rows)
    measured = whole(table, tiny.EXPERIMENTS[0])
    assert measured["oracle-proven"] == 1.0
    assert all(float(row["of"]) <= 1.0 + 1e-6 for row in rows if "of" in row)
    assert {DRAIN.name, "optimum"} <= set(table.values("policy"))


def test_what_was_measured_of_a_machine_is_told_from_its_data():
    lines = [
        {"mode": f"{kind}, ONNX Runtime", "models": n, "weights_bytes": w << 20, "growth_bytes": w << 20,
         "own_bytes": 1 << 20, "empty_bytes": 50 << 20, "one_more_bytes": None if n == 6 else 2e6}
        for kind, n, w in (("subnets", 6, 50), ("subnets", 36, 60), ("separate models", 6, 180),
                           ("separate models", 36, 900))
    ]  # fmt: skip
    cell = dict.fromkeys(
        ("stay_us", "switch_us", "added_us", "added_p99_us", "alone_us", "first_us", "second_us"), 10.0
    )
    apart = {"bytes": 4e6, "load_us": 5000.0, "first_us": 1000.0, "loads_per_batch": 6.0}
    switching = {"ways": {"in place": {"a": cell, "b": cell}}, "separate": {"a": apart, "b": apart}}
    lab = replace(LAB, measured={"memory": {"lines": lines}, "switching": switching})
    measured = whole(run(find("superserve-memory"), lab).table, find("superserve-memory"))
    assert measured["memory-growth"] == pytest.approx(3.0)
    assert measured["memory-growth-all"] == pytest.approx(15.0)
    measured = whole(run(find("superserve-switching"), lab).table, find("superserve-switching"))
    assert measured["switching-load"] == pytest.approx(600.0)
    with pytest.raises(DataUnavailable, match=r"machine memory makes it"):
        run(find("superserve-memory"), LAB)


def test_a_live_run_is_an_experiment_with_claims():
    experiment = find("superserve-live")
    world = world_of(LAB, "ecg")
    trace = requests(world, np.linspace(0.0, 0.1, 50), 0)
    met = met_of(world, play(world, DRAIN, trace))
    table = Table(
        [
            {**met, "seed": 0, "part": part, "which": which, "outcomes": 1.0}
            for part in ("half killed", "functions")
            for which in ("live", "simulated")
        ]
    )
    assert whole(table, experiment)["live-outcomes"] == 1.0


def test_a_picture_can_be_drawn(tmp_path):
    result = run(find("superserve-front"), LAB, seeds=2)
    path = tmp_path / "front.svg"
    if draw(result.experiment.panels(result.table), "a front", [path]):
        assert "offered subnets" in path.read_text()


# ---- data ----


def test_timings_come_back_as_they_were_written(tmp_path):
    timings = some_timings()
    timings.write(tmp_path / "t.json")
    back = read_timings(tmp_path / "t.json")
    assert isinstance(back, Timings)
    assert back.subnets["ecg"]["d1-1-1.w25"].curve.seconds(4) == pytest.approx(
        timings.subnets["ecg"]["d1-1-1.w25"].curve.seconds(4)
    )
    (tmp_path / "t.json").write_text(json.dumps({"version": 0}))
    with pytest.raises(InvalidData, match="version 0"):
        read_timings(tmp_path / "t.json")


def test_a_laboratory_needs_answers_and_times_of_the_same_subnets(tmp_path):
    with pytest.raises(DataUnavailable, match=r"superserve\.timing"):
        super_laboratory(recordings=tmp_path)
    some_timings().write(tmp_path / "superserve-timing.json")
    with pytest.raises(DataUnavailable, match=r"superserve-ecg\.npz"):
        super_laboratory(recordings=tmp_path)
    for name, scored in LAB.scored.items():
        scored.save(tmp_path / f"superserve-{name}.npz")
    lab = laboratory_of(find("superserve-front"), small=True, recordings=tmp_path)
    assert lab.names == ["ecg", "keywords"]
    assert lab.share < 1.0
    few = some_timings()
    few = replace(few, subnets={**few.subnets, "ecg": {}})
    few.write(tmp_path / "superserve-timing.json")
    with pytest.raises(DataUnavailable, match="no times of ecg"):
        super_laboratory(recordings=tmp_path)
    assert over_a_supernet(find("superserve-front"))
    assert not over_a_supernet(find("horizon-gap"))


def test_times_are_taken_in_turn_by_the_runtime_that_serves():
    """Every subnet at every batch size as often, each by its own stated time."""
    world = slowed(world_of(LAB, "ecg"))
    clock = ManualClock()
    runtime = ScriptedRuntime(
        DrawnAnswers(0),
        "stretched",
        clock,
        wait_until=lambda at: clock.advance(max(at - clock.now(), 0.0)),
    )
    variants: Sequence[Variant] = world.application.variants
    runtime.load(variants[0], 4)
    spent = alternated(variants, 4, (1,), runtime, clock, rounds=2, batches=(1, 16))
    for variant in variants:
        assert spent[variant.name][16] == pytest.approx([curve_of(variant).seconds(16)] * 2)

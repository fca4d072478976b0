"""What horizon realises: scenes that keep test data away from schedulers, streams, and the whole experiments, small."""

from dataclasses import replace

import numpy as np
import pytest

from peekserve.domain.application import OnMiss
from peekserve.domain.utility import Penalty
from peekserve.experiments.horizon.events import EVENTS, SERVED, WINDOW, Course, spread
from peekserve.experiments.horizon.profiles import random_service
from peekserve.experiments.horizon.realised import EDF_DROPS, ENTRANTS, HORIZON, PUBLISHED, beside
from peekserve.experiments.horizon.worlds import (
    PAST,
    Scene,
    a_stream,
    known_of_a_service,
    of_a_service,
    of_the_paper,
)
from peekserve.experiments.run import find, run, write
from peekserve.experiments.sneakpeek.lab import SNEAKPEEK, Lab, Setting, Stage
from peekserve.sim.window import Got
from tests.experiments.stand_ins import a_lab

pytestmark = pytest.mark.core


def of_paper(lab: Lab, seed: int) -> Scene:
    return of_the_paper(lab, Setting(), seed)


def of_service(seed: int, rows: int = 12, windows: int = 2) -> Scene:
    service = random_service(np.random.default_rng(seed))
    known = known_of_a_service(service, seed)
    return of_a_service(a_lab(), service, known, Penalty.step(), rows, windows, seed)


def a_course() -> Course:
    lab = a_lab()
    return Course(lab, 12, 60, 0)


def utilities(windows: list[list[Got]]) -> list[float]:
    return [one.row.utility for window in windows for one in window]


# ---- scenes ----


def test_what_came_before_is_not_served():
    for scene in (of_paper(a_lab(), 3), of_service(3)):
        served = [one for asked in scene.windows for one in asked]
        assert len(served) == 24
        assert sum(scene.past.values()) == 12 * PAST
        assert all(one.sample >= scene.past[one.application] for one in served)
        assert len({(one.application, one.sample) for one in served}) == 24


def test_profiles_and_calibrations_know_nothing_of_the_test_samples():
    lab = a_lab()
    shuffled = {
        name: replace(base, labels=base.labels[::-1].copy(), nearest=base.nearest[::-1].copy())
        for name, base in lab.recordings.items()
    }
    one, two = (of_paper(each, 0) for each in (lab, replace(lab, recordings=shuffled)))
    assert one.applications == two.applications
    assert (one.recorded["ecg"].counts != two.recorded["ecg"].counts).any()


def test_a_service_is_calibrated_on_samples_that_are_never_streamed():
    one, two = (of_service(0, rows) for rows in (12, 24))
    assert one.applications == two.applications
    assert all(app.peek is not None and app.peek.calibration is not None for app in one.applications)


def test_the_memory_of_a_service_holds_what_fits():
    for seed in range(4):
        service = random_service(np.random.default_rng(seed))
        worker = of_service(seed, windows=1).workers[0]
        assert worker.resident
        assert sum(service.weights[name] for name in worker.resident) <= worker.budget_bytes


def test_sneakpeek_as_published_does_here_what_it_does_in_the_papers_figures():
    lab = a_lab()
    scene, stage = of_paper(lab, 1), Stage(replace(lab, windows=PAST + 2), Setting(), 1)
    windows = stage.windows(SNEAKPEEK)
    assert utilities(scene.play(PUBLISHED)) == [
        got.row.utility for asked in stage.asked[PAST:] for got in windows.run(asked)
    ]


def test_the_past_teaches_calibrated_beliefs_and_no_others():
    scene = of_paper(a_lab(), 1)
    unknown = replace(scene, past={})
    believed = [
        [[one.row.believed for one in window] for window in each.play(who)]
        for who in (PUBLISHED, HORIZON)
        for each in (scene, unknown)
    ]
    assert believed[0] == believed[1]
    assert believed[2] != believed[3]


def test_the_same_seed_gives_the_same_run():
    once, again = (of_service(5).play(HORIZON) for _ in range(2))
    assert once == again


# ---- one service beside another ----


def test_a_service_is_worse_only_when_its_interval_says_so():
    scene = of_service(0, windows=8)
    got = scene.play(HORIZON)
    same = beside(got, got, {})
    assert (same["difference"], same["worse"], same["negative"]) == (0.0, 0.0, 0.0)

    def lowered(windows: list[list[Got]], every: int) -> list[list[Got]]:
        return [
            [replace(g, row=replace(g.row, utility=g.row.utility - 0.3 * (w % every == 0))) for g in window]
            for w, window in enumerate(windows)
        ]

    by_chance, always = beside(lowered(got, 8), got, {}), beside(lowered(got, 1), got, {})
    assert (by_chance["worse"], by_chance["negative"]) == (0.0, 1.0)
    assert (always["worse"], always["negative"]) == (1.0, 1.0)


# ---- streams ----


def test_a_stream_has_its_rate_and_its_deadlines():
    lab = a_lab(40)
    scene = of_paper(lab, 0)
    trace = a_stream(lab, scene, 12, 4.0, 0.08, 0)
    assert len(trace) == pytest.approx(480, abs=3 * 480**0.5)
    assert [r.arrived_at for r in trace] == sorted(r.arrived_at for r in trace)
    assert np.mean([r.due_at - r.arrived_at for r in trace]) == pytest.approx(0.08, abs=0.003)
    assert all(int(r.payload.key) >= scene.past[r.application] for r in trace)


def test_events_are_in_time_where_windows_are_late():
    course = a_course()
    windows, events = (course.rows(served) for served in (WINDOW, EVENTS))
    assert sum(row["missed"] * row["requests"] for row in windows) > 5
    assert sum(row["missed"] for row in events) == 0.0
    assert [row["requests"] for row in windows] == [row["requests"] for row in events]


def test_lo_edf_drops_what_it_cannot_do_in_time():
    dropping = SERVED[0]
    assert (dropping.who, dropping.on_miss) == (EDF_DROPS, OnMiss.REJECT)
    rows = a_course().rows(dropping)
    assert all(row["late"] == 0.0 for row in rows)
    assert any(row["missed"] > 0.0 for row in rows)


def test_noise_is_what_the_profile_says_of_it():
    app = of_paper(a_lab(), 0).applications[0]
    curve = spread(app, 0.2).variants[0].timing["paper"].curves[0]
    assert curve.cautious_s(5) / curve.seconds(5) == pytest.approx(np.exp(0.2 * 1.6449))


# ---- whole experiments ----


@pytest.mark.parametrize("name", ["horizon-realised", "horizon-events"])
def test_the_whole_experiment_small(name, tmp_path):
    result = write(run(find(name), a_lab(1), seeds=1), tmp_path, png=False)
    assert len(result.findings) == len({f.claim.id for f in result.findings}) > 5
    assert all(np.isfinite(f.interval.measured) for f in result.findings)
    assert all(len(line) == len(rows[0]) for rows in result.summary["tables"] for line in rows)
    assert (tmp_path / "rows.csv").exists()


def test_every_entrant_serves_every_request():
    rows = find("horizon-realised").jobs(a_lab(1))[0](0)
    served = {who.name: sum(row["requests"] for row in rows if row["policy"] == who.name) for who in ENTRANTS}
    assert set(served.values()) == {12}

"""The paper's setting: streams as it describes them, contenders as it has them, and whole small experiments."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from peekserve.errors import DataUnavailable, InvalidConfiguration
from peekserve.experiments.run import EXPERIMENTS, find, run, write
from peekserve.experiments.sneakpeek.decisions import view_of
from peekserve.experiments.sneakpeek.device import read_class
from peekserve.experiments.sneakpeek.estimates import alpha_of, errors
from peekserve.experiments.sneakpeek.lab import (
    FIVE,
    GROUPED,
    LO_EDF,
    SNEAKPEEK,
    Setting,
    Stage,
    aware,
    stated_votes,
    stream,
)
from peekserve.experiments.sneakpeek.optima import form_of
from peekserve.experiments.sneakpeek.recording import load
from peekserve.experiments.sneakpeek.unlike import three
from peekserve.policies import make
from peekserve.policies.worth import evaluate
from tests.experiments.stand_ins import a_lab, a_recording

pytestmark = pytest.mark.core


# ---- the device class and the recordings ----


def test_the_papers_device_is_as_its_file_says():
    device = read_class()
    falls = device.applications["falls"]
    assert [round(c.seconds(1) * 1e3) for c in falls.curves] == [5, 20, 35, 70, 90]
    assert falls.curves[0].seconds(3) == pytest.approx(0.005 * 1.6)
    assert (device.window_s, device.requests, device.deadline_s, device.neighbours) == (0.1, 12, 0.15, 5)


def test_a_measured_device_gives_its_latencies_by_batch_size(tmp_path):
    text = read_class.__defaults__[0].read_text().replace("[6ms, 15ms]", "[{1: 2ms, 8: 9ms}, 15ms]")
    (tmp_path / "class.yaml").write_text(text)
    assert read_class(tmp_path / "class.yaml").applications["keywords"].curves[0].seconds(8) == 0.009
    (tmp_path / "class.yaml").write_text(text.replace("load: [8ms, 12ms]", "load: [8ms]"))
    with pytest.raises(InvalidConfiguration, match="2 latencies and 1 loads"):
        read_class(tmp_path / "class.yaml")


def test_a_recording_comes_back_as_it_was_saved(tmp_path):
    made = a_recording("ecg")
    made.save(tmp_path / "ecg.npz")
    again = load("ecg", tmp_path)
    assert again.classes == made.classes
    assert (again.nearest == made.nearest).all()
    assert (again.scores["v1"].argmax(1) == made.scores["v1"].argmax(1)).all()
    assert again.quality("v0") == made.quality("v0")


def test_a_recording_that_is_not_there_says_how_to_make_it(tmp_path):
    with pytest.raises(DataUnavailable, match=r"python -m peekserve\.experiments\.sneakpeek\.record"):
        load("ecg", tmp_path)


def test_k_is_at_most_what_was_recorded():
    assert a_recording("ecg").counts(15).sum(axis=1).tolist() == [15.0] * 700
    with pytest.raises(InvalidConfiguration, match="k is 1 to 15"):
        a_recording("ecg").counts(16)


def test_profiles_believe_in_equal_classes_whatever_is_streamed():
    quality = a_recording("falls").quality("v0")
    assert quality.frequencies == (0.5, 0.5)
    assert quality.accuracy == pytest.approx(np.mean(quality.recall))


# ---- the stream ----


@pytest.mark.parametrize(
    ("name", "usual", "share"), [("falls", 0.95, 0.95), ("ecg", 0.8, 0.8), ("keywords", None, 1 / 6)]
)
def test_the_stream_has_the_papers_mix_of_labels(name, usual, share):
    base = a_recording(name)
    drawn = stream(base, usual, 6000, np.random.default_rng(0))
    frequencies = np.bincount(base.labels[drawn], minlength=len(base.classes)) / 6000
    assert frequencies[0] == pytest.approx(share, abs=0.02)
    assert frequencies[1:] == pytest.approx((1 - share) / (len(base.classes) - 1), abs=0.02)


def test_a_seed_sees_a_resample_of_the_groups():
    base = a_recording("keywords")
    seen = [set(base.groups[stream(base, None, 3000, np.random.default_rng(s))].tolist()) for s in range(3)]
    assert all(len(groups) < len(set(base.groups.tolist())) for groups in seen)
    assert seen[0] != seen[1]


def test_all_contenders_of_a_seed_serve_the_same_requests():
    lab = a_lab()
    one, two = Stage(lab, Setting(), 3), Stage(lab, Setting(deadline_s=0.3), 3)
    assert (one.recorded["ecg"].labels == two.recorded["ecg"].labels).all()
    assert [a.offset_s for a in one.asked[0]] == [a.offset_s for a in two.asked[0]]
    assert two.asked[0][0].deadline_s - one.asked[0][0].deadline_s == pytest.approx(0.15)


def test_a_quicker_device_has_shorter_deadlines():
    lab = a_lab()
    quick = replace(lab, device=replace(lab.device, window_s=0.01))
    assert Stage(quick, Setting(deadline_s=0.3, spread_s=0.0), 0).asked[0][0].deadline_s == pytest.approx(
        0.03
    )


def test_copies_have_weights_of_their_own():
    stage = Stage(a_lab(), Setting(applications=7, requests=24), 0)
    weights = [v.weights for app in stage.applications for v in app.variants]
    assert len(set(weights)) == len(weights) == 5 * 3 + 2 * 4
    assert [len(asked) for asked in stage.asked] == [24, 24]


# ---- contenders ----


def test_everything_is_run_however_late():
    stage = Stage(a_lab(), Setting(deadline_s=0.02), 0)
    for who in FIVE:
        assert len(stage.play(who)) == 24
        assert all(g.row.variants for g in stage.play(who))


def test_only_who_may_short_circuit_does():
    stage = Stage(a_lab(4), Setting(deadline_s=0.06), 0)
    assert not any(g.row.by_peek for g in stage.play(aware(LO_EDF)))
    assert any(g.row.by_peek for g in stage.play(aware(LO_EDF, short_circuit=True)))
    assert any(g.row.by_peek for g in stage.play(SNEAKPEEK))


def test_memory_is_full_at_the_start_unless_it_is_empty():
    lab = a_lab()
    assert Stage(lab, Setting(resident=2), 0).workers[0].resident == ("falls/v4", "keywords/v1")
    assert len(Stage(lab, Setting(resident=0), 0).workers[0].resident) == 9
    assert Stage(lab, Setting(warm=False), 0).workers[0].resident == ()


def test_the_view_of_a_window_is_what_the_simulated_scheduler_sees():
    """A plan made from the view is worth on paper what the simulation made of the same window."""
    lab = a_lab(1)
    stage = Stage(lab, Setting(), 5)
    for who in (LO_EDF, GROUPED, SNEAKPEEK):
        view = view_of(stage, stage.asked[0], lab.device.window_s)
        plan = make(who.policy, who.switches, **who.options).plan(view)
        finish_at = lab.device.window_s + evaluate(view, plan, who.switches)[1]
        order = np.argsort([a.offset_s for a in stage.asked[0]], kind="stable")
        settled_at = [stage.play(who)[i].row.settled_at for i in order]
        assert settled_at == pytest.approx(finish_at.tolist())


# ---- estimates ----


def test_knowing_the_class_leaves_no_error():
    base = a_recording("ecg")
    rows = np.arange(100)
    assert errors(base, rows, np.eye(7)[base.labels[rows]]) == pytest.approx(0.0)
    assert errors(base, rows, None) > 0.02


def test_priors_are_as_the_paper_has_them():
    assert alpha_of("uninformative", "true", 2, 0.95, 4) == (0.5, 0.5)
    assert alpha_of("weak", "true", 2, 0.95, 4) == pytest.approx((0.95, 0.05))
    assert alpha_of("strong", "true", 2, 0.95, 4) == pytest.approx((3.8, 0.2))
    assert alpha_of("strong", "test", 4, 0.95, 4) == (1.0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize("accuracy", [0.0, 0.3, 1.0])
def test_stated_votes_are_as_right_as_stated(accuracy):
    labels = np.repeat(np.arange(4), 500)
    votes = stated_votes(labels, accuracy, 5, 4, np.random.default_rng(0))
    assert (votes.sum(axis=1) == 5).all()
    assert votes[np.arange(2000), labels].mean() / 5 == pytest.approx(accuracy, abs=0.02)


def test_unlike_variants_lie_around_the_mean():
    base, costs = a_recording("keywords"), read_class().applications["keywords"]
    made = three(0.1)(costs, base, np.random.default_rng(0))
    low, middle, high = (q.accuracy for q in made.qualities.values())
    assert (low / middle, high / middle) == pytest.approx((0.9, 1.1))
    assert [c.seconds(1) for c in made.costs.curves] == pytest.approx([0.00945, 0.0105, 0.01155])
    right = [(s.argmax(axis=1) == base.labels).mean() for s in made.scores.values()]
    assert right == pytest.approx([low, middle, high], abs=0.05)


# ---- optima ----


def test_an_optimum_is_told_by_its_form():
    lab = a_lab(1)
    stage = Stage(lab, Setting(requests=6, deadline_s=5.0), 0)
    view = view_of(stage, stage.asked[0], lab.device.window_s)
    # With all the time in the world and beliefs that agree, one batch of the best variant each is an optimum.
    believed = replace(view, accuracy=np.tile(np.linspace(0.5, 0.9, view.accuracy.shape[1]), (6, 1)))
    plan = make("grouped", GROUPED.switches).plan(believed)
    assert form_of(believed, plan) == "application"


# ---- whole experiments ----


@pytest.mark.parametrize("name", ["sneakpeek-fig3", "sneakpeek-fig5", "sneakpeek-fig7", "sneakpeek-fig12"])
def test_a_small_experiment_writes_rows_and_a_summary_of_its_claims(name, tmp_path):
    seen: list[tuple[int, int]] = []
    result = run(find(name), a_lab(1), seeds=2, progress=lambda done, whole: seen.append((done, whole)))
    result = write(result, tmp_path, png=False)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["name"], summary["seeds"]) == (name, 2)
    assert all(
        set(claim) == {"id", "claim", "paper", "measured", "low", "high", "holds"}
        for claim in summary["claims"]
    )
    assert all(claim["low"] <= claim["measured"] <= claim["high"] for claim in summary["claims"])
    with (tmp_path / "rows.csv").open() as stream_of_rows:
        assert len(list(csv.DictReader(stream_of_rows))) == len(result.table.rows)
    assert seen[-1] == (len(seen) - 1, len(seen) - 1)


# Those on supernets and on zoos have laboratories of their own, and test_superserve.py and test_cascadeserve_*.py; the
# live one serves real models, in whole/test_horizon_live.py; so do those on trust, in test_trust_*.py there.
_ELSEWHERE = ("superserve-", "cascadeserve-", "horizon-live", "trust-")


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if not name.startswith(_ELSEWHERE)])
def test_every_experiment_measures_all_its_claims_and_can_be_drawn(name):
    experiment = EXPERIMENTS[name]
    result = run(experiment, a_lab(1), seeds=1)
    assert len(result.findings) > 0
    for panel in experiment.panels(result.table):
        for series in panel.series:
            assert len(series.x) == len(series.values) > 0
            assert all(np.isfinite(value[0]) for value in series.values)


def test_the_same_seeds_give_the_same_rows():
    one, two = (run(find("sneakpeek-fig5"), a_lab(1), seeds=1).table.rows for _ in range(2))
    assert one == two


def test_an_unknown_experiment_names_the_nearest():
    with pytest.raises(InvalidConfiguration, match="nearest is 'sneakpeek-fig5'"):
        find("sneakpeek-fi5")

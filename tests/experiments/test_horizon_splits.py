"""The demo's applications divided anew: whole groups, profiles from one side alone, everybody on the same arrivals."""

from dataclasses import replace

import numpy as np
import pytest

from peekserve.errors import DataUnavailable
from peekserve.experiments.horizon.answered import NAMES, load, load_box
from peekserve.experiments.horizon.splits import (
    DEMO,
    ENTRANTS,
    REVERSE,
    SPLIT,
    a_division,
    carried,
    halves,
    play,
    shipped,
)
from peekserve.experiments.run import find, run, write
from tests.experiments.stand_ins import a_lab

pytestmark = pytest.mark.core


def sides(labels, groups, seed):
    profiled = halves(np.array(labels), np.array(groups), np.random.default_rng(seed))
    return set(np.array(groups)[profiled].tolist()), set(np.array(groups)[~profiled].tolist())


def test_groups_are_divided_whole_and_in_half():
    groups = np.repeat(np.arange(5), 4)
    found = [sides(np.arange(20) % 2, groups, seed) for seed in range(20)]
    assert all(not mine & theirs for mine, theirs in found)
    assert {len(mine) for mine, _ in found} == {2, 3}
    assert len({frozenset(mine) for mine, _ in found}) > 5


def test_every_class_with_two_groups_is_on_both_sides_and_neighbours_stay_together():
    labels, groups = np.repeat([0, 1], [4, 16]), np.arange(20) // 2
    for seed in range(20):
        mine, theirs = sides(labels, groups, seed)
        assert len(mine & {0, 1}) == len(theirs & {0, 1}) == 1
        of_class_1 = [group in mine for group in range(2, 10)]
        assert sum(a != b for a, b in zip(of_class_1, of_class_1[1:] + of_class_1[:1], strict=True)) == 2


@pytest.mark.parametrize("which", [SPLIT, DEMO, REVERSE])
def test_what_is_served_is_not_profiled(which):
    box, answered = shipped()
    own = answered["watch"]
    division = a_division(box, answered, which, 0)
    served = division.served["watch"]
    quality = division.applications["watch"].variants[0].quality
    assert np.sum(quality.confusion) + len(served.labels) == len(own.labels)
    if which != SPLIT:
        here = own.test if which == DEMO else ~own.test
        assert (served.labels == own.labels[here]).all()
        # What was answered on that side changes nothing of what is believed.
        wrong = replace(own, scores=np.where(here[None, :, None], own.scores[:, :, ::-1], own.scores))
        again = a_division(box, {**answered, "watch": wrong}, which, 0)
        assert again.applications == division.applications
        assert (again.served["watch"].scores["fusion"] != served.scores["fusion"]).any()


def test_no_group_of_the_reference_is_served_or_profiled():
    for own in shipped()[1].values():
        assert not set(own.groups.tolist()) & set(own.reference_groups.tolist())
        assert not set(own.groups[own.test].tolist()) & set(own.groups[~own.test].tolist())


def test_everybody_serves_the_same_arrivals_at_the_load_that_is_asked_for():
    box, answered = shipped()
    division = a_division(box, answered, DEMO, 0)
    rate = carried(division)
    rows = play(box, division, rate, 1.0, 3, part=DEMO)
    many = {who.name: sum(r["requests"] for r in rows if r["policy"] == who.name) for who in ENTRANTS}
    assert len(set(many.values())) == 1
    assert many["horizon"] == pytest.approx(rate, abs=4 * rate**0.5)
    assert rows == play(box, division, rate, 1.0, 3, part=DEMO)


def test_the_whole_experiment_small(tmp_path):
    result = write(run(find("horizon-splits"), a_lab(1), seeds=1), tmp_path, png=False)
    assert all(np.isfinite(f.interval.measured) for f in result.findings)
    assert all(len(line) == len(rows[0]) for rows in result.summary["tables"] for line in rows)
    assert (result.summary["windows"], "paper" in result.summary["device"]) == (0, False)


def test_what_is_not_there_says_how_to_make_it(tmp_path):
    for missing in (lambda: load(NAMES[0], tmp_path), lambda: load_box(tmp_path)):
        with pytest.raises(DataUnavailable, match=r"horizon\.record"):
            missing()
    box, answered = shipped()
    box.save(tmp_path / "demo-timing.json")
    answered["digits"].save(tmp_path)
    assert load_box(tmp_path) == box
    assert (load("digits", tmp_path).nearest == answered["digits"].nearest).all()

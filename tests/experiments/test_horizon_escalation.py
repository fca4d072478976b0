"""Escalation: what the experiment is made of, and that a small run of it can be judged."""

from dataclasses import replace

import numpy as np
import pytest

from peekserve.core.escalation import fusion_of
from peekserve.experiments.horizon import escalation
from peekserve.experiments.horizon.escalation import ESCALATION, FORCED, FUSED, SINGLE, CheapFirst
from peekserve.experiments.horizon.profiles import random_service
from peekserve.experiments.horizon.worlds import known_of_a_service, of_a_service, of_the_paper
from peekserve.experiments.run import laboratory, run
from peekserve.experiments.sneakpeek.lab import Lab, Setting
from peekserve.experiments.table import Table
from peekserve.policies import make
from tests.policies.views import a_lane, a_row, a_view, a_worker, takes


@pytest.fixture(scope="module")
def lab() -> Lab:
    return replace(laboratory(small=True), windows=1)


@pytest.fixture(scope="module")
def table(lab: Lab) -> Table:
    return run(escalation.EXPERIMENTS[0], lab, seeds=2).table


def test_a_small_run_is_judged_and_tells_forms_apart(lab: Lab, table: Table):
    assert set(escalation._measure(table))
    for part, rows in escalation._PLACES:
        runs, again = (
            {
                form: float(table.mean(metric, policy=form.name, part=part, rows=rows)[0])
                for form in escalation.FORMS
            }
            for metric in ("runs", "again")
        )
        assert again[SINGLE] == again[FUSED] == 0.0
        assert runs[SINGLE] == runs[FUSED]  # only what is said differs, not what is run
        assert runs[FORCED] > runs[ESCALATION] - again[ESCALATION]


def test_models_that_err_on_the_same_rows_answer_by_themselves_and_others_take_part(lab: Lab):
    assert not any(fusion_of(app) for app in of_the_paper(lab, Setting(), seed=0).applications)
    service, rng = random_service(np.random.default_rng(1)), np.random.default_rng(0)
    scene = of_a_service(lab, service, known_of_a_service(service, 1), lab.device.penalty("step"), 6, 1, 1)
    found = [
        fusion_of(escalation._as_drawn(app, drawn, rng))
        for app, drawn in zip(scene.applications, service.apps, strict=True)
    ]
    shares = [fusion.share for fusion in found if fusion is not None]
    assert shares
    assert min(shares) > 0.5  # their models err each by itself


def test_the_cascade_begins_with_the_cheapest_and_ends_with_whatever_gains():
    lane = a_lane(takes(0.05, 0.9), takes(0.01, 0.7), takes(0.2, 0.95))
    fresh = a_row(instant=0.8)
    in_hand = a_row(instant=0.75, allowed=(True, False, True))
    plan = CheapFirst(make("sneakpeek")).plan(a_view([lane], [fresh, in_hand], [a_worker()]))
    chosen = {row: batch.variant for batch in plan.batches for row in batch.rows}
    assert chosen == {0: 1, 1: 2}
    assert not plan.instant

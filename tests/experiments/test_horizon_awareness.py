"""What awareness adds to each policy: every form is run on the same stream, and every claim is measured."""

import pytest

from peekserve.domain.application import OnMiss
from peekserve.experiments.claims import judge
from peekserve.experiments.horizon.awareness import (
    ADDED,
    BOTH,
    EXPERIMENTS,
    FIXED,
    FORMS,
    LOADS,
    PLAIN,
    POLICIES,
    PUBLISHED,
    gain,
)
from peekserve.experiments.table import Table
from peekserve.policies import POLICIES as KNOWN
from peekserve.policies import Switches
from tests.experiments.stand_ins import a_lab

pytestmark = pytest.mark.core


@pytest.fixture(scope="module")
def table() -> Table:
    """The lightest load, which stands for the others, too."""
    [experiment] = EXPERIMENTS
    jobs = experiment.jobs(a_lab(windows=1))
    assert len(jobs) == len(LOADS)
    rows = jobs[0](0)
    return Table([{**row, "load": load} for load in LOADS for row in rows], draws=20)


def test_every_form_of_every_policy_serves_the_same_requests(table: Table):
    asked = {(row["policy"], row["form"], row["application"]): row["requests"] for row in table.rows}
    assert len({many for (_, _, app), many in asked.items() if app == "ecg"}) == 1
    forms = {(policy, form) for policy, form, _ in asked}
    assert forms == {(p, f.name) for p in POLICIES for f in FORMS} | {(p, PUBLISHED.name) for p in FIXED}


def test_nobody_answers_by_the_peek_unless_that_is_allowed(table: Table):
    for row in table.rows:
        assert row["by_peek"] == 0.0 or row["form"] in [f.name for f in ADDED if f.short_circuit]


def test_all_claims_are_measured_and_all_is_shown(table: Table):
    [experiment] = EXPERIMENTS
    found = judge(experiment.name, experiment.measure(table))
    assert len(found) == 4 + 3 * len(POLICIES)
    added = gain(table, "lo-edf", BOTH)[0]
    assert next(f for f in found if f.claim.id == "awareness-both-lo-edf").interval.measured == added
    assert len(experiment.panels(table)) == 1 + len(LOADS)
    assert all(len({len(line) for line in lines}) == 1 for lines in experiment.tables(table))


def test_the_forms_are_what_they_are_called():
    assert set(POLICIES) < set(KNOWN)
    plain, both = PLAIN.of("lo-edf", {}), BOTH.of("lo-edf", {})
    assert (plain.switches, both.switches) == (Switches(), Switches(aware=True, short_circuit=True))
    assert (PLAIN.on_miss, BOTH.on_miss) == (OnMiss.REJECT, OnMiss.DEGRADE)

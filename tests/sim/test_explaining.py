"""Whole runs in which some ask why: all goes as without them, to the last bit, and every answer to them has words."""

import json
from dataclasses import replace

import numpy as np
import pytest

from peekserve.core.spec import SchedulerSpec
from peekserve.policies.explain import Why
from peekserve.sim.faults import Faults
from tests.sim.runs import a_trace, applications, run


@pytest.mark.parametrize(
    ("policy", "planning"),
    [
        ("lo-edf", "window(50ms)"),
        ("sneakpeek", "window(50ms, rebalance=10ms)"),
        ("horizon", "rolling"),
    ],
)
def test_asking_why_changes_nothing_but_the_answer(policy, planning):
    spec = SchedulerSpec(policy=policy, planning=planning)
    trace = a_trace(applications(), rate=150.0, seconds=0.5, seed=4, rows=3)
    faults = Faults.drawn(["w0", "w1"], 0.6, 1, np.random.default_rng(4))
    plain, asked = (
        run(spec, [replace(r, explain=explain and i % 3 == 0) for i, r in enumerate(trace)], 2, 2, faults)
        for explain in (False, True)
    )
    assert [(s.at, replace(s.answer, explanation="")) for s in asked] == [(s.at, s.answer) for s in plain]
    words = []
    for settled in asked:
        assert bool(settled.answer.explanation) is (settled.request.explain and bool(settled.answer.rows))
        if settled.answer.explanation:
            rows = json.loads(settled.answer.explanation)["rows"]
            assert len(rows) == settled.request.rows
            words += [row["chosen"]["why"] for row in rows]
    assert set(words) <= {Why.CHOSEN.value, Why.ALL_THERE_WAS.value, Why.NOT_LOOKED_AT.value}
    assert words.count(Why.CHOSEN.value) > 10

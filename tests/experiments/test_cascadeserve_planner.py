"""Small versions of the planner's experiments: what becomes of the rows, and of a plane that is known."""

from dataclasses import replace

import numpy as np
import pytest

from peekserve.experiments.cascadeserve import devices, exhaustive
from peekserve.experiments.cascadeserve.devices import GEARS, ONE, SINGLES, cells, ratios
from peekserve.experiments.cascadeserve.lab import CascadeLab, zoo
from peekserve.experiments.claims import judge
from peekserve.experiments.table import Row, Table


def row(who: str, needed: int, level: float = 0.5, ms: int = 100) -> Row:
    return {
        "application": "ecg", "p95_ms": ms, "level": level, "seed": 0, "who": who, "devices": needed,
        "accuracy": 0.9, "most": 16, "highest": 0.95,
    }  # fmt: skip


def test_a_cell_that_one_side_alone_reaches_counts_at_its_least_ratio():
    """Eight devices against none of sixteen is at least 17 over 8."""
    rows = [row(GEARS, 2), row(SINGLES, 4), row(ONE, 6)]
    rows += [row(GEARS, 8, 0.7), row(SINGLES, 0, 0.7), row(ONE, 0, 0.7)]
    rows += [row(GEARS, 0, 1.0), row(SINGLES, 0, 1.0), row(ONE, 0, 1.0)]
    rows += [row(GEARS, 0, 0.9), row(SINGLES, 16, 0.9), row(ONE, 16, 0.9)]
    found = cells(Table(rows), 0)
    assert ratios(found, 16) == pytest.approx([2.0, 17 / 8, 16 / 17])
    measured = devices.EXPERIMENTS[0].measure(Table(rows))
    assert measured["devices-nobody"][0] == pytest.approx(1 / 4)
    assert measured["devices-twice"][0] == pytest.approx(2 / 3)
    assert measured["devices-more"][0] == pytest.approx(1 / 3)


def a_lab() -> CascadeLab:
    return CascadeLab({"keywords": zoo("keywords")}, {}, {}, "no machine", share=0.25)


def test_the_plane_of_a_small_run():
    lab = a_lab()
    job = devices._column(lab.zoos["keywords"], 100, 3, 2)
    rows = [r for seed in (0, 1) for r in job(seed)]
    table = Table(rows)
    assert len(rows) == 2 * 3 * len(devices.LEVELS)
    experiment = devices.EXPERIMENTS[0]
    assert {f.claim.id for f in judge(experiment.name, experiment.measure(table))} >= {"devices-median"}
    got = cells(table, 0)
    for who in (GEARS, SINGLES, ONE):
        each = [c[who] or 4 for c in got.values()]
        assert each == sorted(each)  # more accuracy, more devices
    assert experiment.panels(table)
    head, *plane = experiment.tables(table)[1]
    assert len(plane) == len(devices.LEVELS)
    assert len(head) == 3


def test_plans_beside_the_best_of_all_plans():
    lab = a_lab()
    of = lab.zoos["keywords"]
    rows = exhaustive._beside(of, "1 device", 1, False, True)(0)
    whole = [{"space": exhaustive.WHOLE, "application": "keywords", "goal": "p95=100ms", "seed": 0, "devices": 2,
              "ranges": 3, "plan_s": 1.0, "met": 1, "accuracy": 0.9}]  # fmt: skip
    table = Table(rows + whole)
    measured = exhaustive.EXPERIMENTS[0].measure(table)
    assert measured["exhaustive-score"][0] <= 1.0 + 1e-9
    assert measured["exhaustive-score"][0] > 0.97
    assert measured["exhaustive-met"][0] <= 1.0
    assert len(judge("cascadeserve-exhaustive", measured)) == len(measured)
    goals, wholes = exhaustive.EXPERIMENTS[0].tables(table)
    assert len(goals) == len(rows) + 1
    assert len(wholes) == 2
    assert all(len(line) == len(wholes[0]) for line in wholes)
    assert exhaustive.EXPERIMENTS[0].panels(replace_setting(table))


def replace_setting(table: Table) -> Table:
    return Table([{**r, "setting": exhaustive.SETTINGS[1][0]} for r in table.rows])


def test_the_small_space_is_tight_where_it_is_said_to_be():
    of = zoo("ecg")
    roomy, tight = exhaustive.reduced(of, 2, False), exhaustive.reduced(of, 2, True)
    sizes = sorted(m.bytes for m in roomy.models)
    assert roomy.devices[0].budget_bytes == sum(sizes)
    assert tight.devices[0].budget_bytes == sizes[0] + sizes[-1]
    assert [m.name for m in tight.models] == list(exhaustive.KEPT)
    twice = replace(roomy, devices=roomy.devices[:1])
    assert np.isclose(exhaustive.carried(roomy, "small"), 2 * exhaustive.carried(twice, "small"))

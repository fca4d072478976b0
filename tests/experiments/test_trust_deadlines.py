"""Deadlines and overload: what is counted, and against what."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.errors import InvalidData
from peekserve.experiments.run import find
from peekserve.experiments.table import Table
from peekserve.experiments.trust import deadlines, overload
from peekserve.experiments.trust.clairvoyant import most_in_time
from peekserve.experiments.trust.deadlines import OFF, ON, Burst, Journalled
from peekserve.experiments.trust.lab import keep_pace
from peekserve.loadgen.client import Reply

pytestmark = pytest.mark.core

REFUSED = b'{"error":"no","code":"deadline_infeasible"}'


def a_reply(status: int = 200, done_at: float = 0.055, sent_at: float = 0.0, body: bytes = b"{}") -> Reply:
    return Reply(sent_at, done_at, status, body)


# ---- the clairvoyant ----


def test_by_hand():
    due = [0.02] * 3 + [0.06] * 3 + [0.12] * 3 + [0.3] * 3
    assert most_in_time(due, [0.05]) == 5  # one by 60 ms, one by 120, three by 300
    assert most_in_time(due, [0.05 + 0.0005 * n for n in range(8)]) == 9  # all that have 50 ms at all
    assert most_in_time(due, [0.07] * 8) == 6
    assert most_in_time([0.01], [0.05]) == 0


def every_order(due: list[float], takes: list[float]) -> int:
    """Every subset, in every order, cut into batches in every way."""
    most = 0
    for many in range(1, len(due) + 1):
        for served in combinations(due, many):
            for order in permutations(served):
                for cuts in range(1 << (many - 1)):
                    at, first, kept = 0.0, 0, True
                    for i in range(1, many + 1):
                        if i == many or cuts >> (i - 1) & 1:
                            if i - first > len(takes):
                                kept = False
                                break
                            at += takes[i - first - 1]
                            kept &= all(at <= d for d in order[first:i])
                            first = i
                    most = max(most, many if kept else 0)
    return most


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=5),
    st.integers(1, 4),
    st.lists(st.integers(0, 3), min_size=0, max_size=3),
)
def test_no_order_serves_more(due, first, more):
    takes = np.cumsum([first, *more]).tolist()
    assert most_in_time(due, takes) == every_order(due, takes)


# ---- what is counted ----


def test_in_time_refused_and_accepted_but_late_are_told_apart():
    burst = Burst(
        [0.06, 0.06, 0.06, 0.02, 0.06],
        [
            a_reply(done_at=0.061, sent_at=0.002),
            a_reply(done_at=0.0625, sent_at=0.002),
            a_reply(504, 0.05),
            a_reply(503, 0.004, body=REFUSED),
            a_reply(503, 0.004, body=b'{"error":"no","code":"overloaded"}'),
        ],
    )
    assert [burst.in_time(i) for i in range(5)] == [True, False, False, False, False]
    assert [burst.refused(i) for i in range(5)] == [False, False, False, True, False]
    row, *refusals, server = deadlines.told([burst], Journalled({1: [0.05]}, [-0.016]), OFF, 7)
    assert (row["in_time"], row["refused"], row["late"]) == (0.2, 0.2, pytest.approx(0.6))
    assert row["at_deadline"] == 0.2
    # Whoever had no answer, however that was told.
    assert [one["client_over_ms"] for one in refusals] == [pytest.approx(ms) for ms in (-10.0, -16.0, -56.0)]
    assert [one["told_ms"] for one in refusals if "told_ms" in one] == [pytest.approx(4.0)]
    assert server["server_over_ms"] == pytest.approx(-16.0)
    assert row["possible"] == 0.2  # one of them fits before 60 ms


def test_a_batch_is_known_to_take_what_it_took_here():
    seen = Journalled({1: [0.051, 0.051, 0.060], 8: [0.0565]}, [])
    assert seen.curve(deadlines.CURVES[ON])[0] == pytest.approx(0.051)
    assert seen.curve(deadlines.CURVES[ON])[7] == pytest.approx(0.0565)
    assert Journalled({}, []).curve(deadlines.CURVES[OFF]) == [0.05]


def test_every_claim_on_deadlines_is_measured():
    burst = Burst([0.06, 0.02], [a_reply(), a_reply(503, 0.004, body=REFUSED)])
    rows = [
        row
        for batching in (OFF, ON)
        for row in deadlines.told([burst] * 2, Journalled({1: [0.05]}, [-0.02]), batching, 0)
    ]
    found = deadlines._measure(Table(rows))
    assert {name: value[0] for name, value in found.items()} == {
        "trust-deadlines-kept": 1.0,
        "trust-deadlines-kept-batching": 1.0,
        "trust-deadlines-refused-client": pytest.approx(-16.0),
        "trust-deadlines-refused-server": pytest.approx(-20.0),
        "trust-deadlines-at-once": 1.0,
        "trust-deadlines-late": 0.0,
    }
    shown, reference = find("trust-deadlines").tables(Table(rows))
    assert shown[1][0] == "batching off"
    assert len({len(line) for line in shown}) == len({len(line) for line in reference}) == 1


# ---- overload ----


def a_load(load, utility, way=overload.UP, **more):
    named = {metric: 1.0 for _, metric, _ in overload._COLUMNS}
    found = {
        "part": "load",
        "load": load,
        "way": way,
        "seed": 0,
        "requests": 10,
        "capacity": 30.0,
        "pss_mib": 100.0,
    }
    return {**named, **found, "utility_per_s": utility, **more}


def test_utility_may_rise_with_the_load_and_must_not_fall_from_the_highest_before():
    rows = [
        a_load(load, u) for load, u in ((1.0, 20.0), (2.0, 40.0), (5.0, 36.0), (10.0, 50.0), (20.0, 49.0))
    ]
    assert overload.kept(Table(rows), "utility_per_s")[0] == pytest.approx(0.9)


def test_every_claim_on_overload_is_measured():
    rows = [a_load(load, load, pss_mib=100.0 + load) for load in overload.LOADS] + [
        a_load(1.0, 1.0, overload.BACK)
    ]
    rows.append({"part": "journal", "seed": 0, "one": 1.0})
    door = {metric: 1.0 for _, metric, _ in overload._DOOR}
    rows.append({"part": "door", "seed": 0, "requests": 5, "asked_per_s": 500.0, **door})
    found = overload._measure(Table(rows))
    assert {name: value[0] for name, value in found.items()} == {
        "trust-overload-utility": 1.0,
        "trust-overload-right": 1.0,
        "trust-overload-memory": pytest.approx(120.0 / 101.0),
        "trust-overload-outcomes": 1.0,
        "trust-overload-journal": 1.0,
    }
    tables = find("trust-overload").tables(Table(rows))
    assert [len({len(line) for line in table}) for table in tables] == [1, 1, 1]


# ---- the repository ----

DIGITS = """application: digits
deadline: 80ms
on_miss: degrade
peek:
  features: [{kind: pca, components: 24}]
  reference: reference.npz
variants:
  linear:                       # small
    model: linear/model.onnx
    max_batch: 32
  cnn:
    model: cnn/model.onnx
    max_batch: 32
validation: validation.npz
"""


def test_a_repository_at_a_stated_pace(tmp_path):
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "application.yaml").write_text(DIGITS)
    (tmp_path / "peekserve.yaml").write_text("policy: horizon\nworkers: [{device: 'cpu:0'}]\nmargin: 8ms\n")
    keep_pace(tmp_path, {"cnn": {1: 0.05, 8: 0.0535}}, peek="", deadline="10s")
    text = (folder / "application.yaml").read_text()
    assert "deadline: 10s\non_miss: degrade\nvariants:\n  cnn:\n" in text
    assert "max_batch: 8" in text
    assert "profile: {devices: {stated: {latency: {1: 50ms, 8: 53.5ms}}}}\nvalidation" in text
    assert "linear" not in text
    assert "peek:" not in text
    assert "margin: 8ms" in (tmp_path / "peekserve.yaml").read_text()
    with pytest.raises(InvalidData, match="no variant large"):
        keep_pace(tmp_path, {"large": {1: 0.05}})

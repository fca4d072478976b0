"""What the experiment on streams plans to send, and how it tells what came of it."""

import json

import numpy as np
import pytest

from peekserve.experiments.pushing import AFTER_S, START_S, expected, planned
from peekserve.experiments.raw import Event, Source
from peekserve.experiments.streams import told_of
from peekserve.loadgen.client import Reply
from tests.peeking.stage_child import applications
from tests.peeking.test_streams import a_heart

HEART = applications()["heart"]


def a_source():
    signal, peaks = a_heart(20, np.random.default_rng(9))
    events = tuple(Event(peak - 72, i % 2) for i, peak in enumerate(peaks) if peak >= 72)
    return Source("heart", "one", {"x": signal[:, None]}, events, 0.05, 9, "made up")


def test_every_sample_is_pushed_once_when_it_was_taken():
    source = a_source()
    chunks = [p.call for p in planned(0, source, HEART, []) if p.kind == "chunk"]
    values = np.concatenate([np.frombuffer(call.body, "<f4") for call in chunks])
    assert values.tolist() == source.samples["x"][:, 0].tolist()
    ends = np.cumsum([len(call.body) // 4 for call in chunks])
    assert [call.at for call in chunks] == pytest.approx(START_S + ends / 180.0)


def test_queries_and_cut_windows_come_after_the_event():
    source = a_source()
    windows = expected(source, HEART)
    plan = list(planned(0, source, HEART, windows))
    queries = {p.about: p.call.at for p in plan if p.kind == "query"}
    assert set(queries) == {window.first for window in windows}
    for window in windows:
        # The chunk that holds the window's last sample, and 50 ms.
        last = (window.first + 180) / 180.0
        assert last - 1e-9 <= queries[window.first] - START_S - AFTER_S < last + 0.05
    cut = next(p.call for p in plan if p.kind == "cut" and p.about == 3)
    first = source.events[3].first
    body = json.loads(cut.body)["inputs"][0]
    assert (body["name"], body["shape"]) == ("x", [1, 180])
    assert body["data"] == source.samples["x"][first : first + 180, 0].tolist()


def test_the_report_counts_what_is_ready_right_and_lost():
    source = a_source()
    windows = expected(source, HEART)
    plan = list(planned(0, source, HEART, windows))
    late = windows[5].first

    def reply(item):
        # The belief of one window is not ready: the answer is about the one before it. Every cut window is "1".
        first = windows[4].first if item.about == late and item.kind == "query" else item.about
        told = {"parameters": {"window_first": first}, "outputs": [{"data": [1]}]}
        return Reply(item.call.at, item.call.at + 0.01, 200, json.dumps(told).encode())

    results = [{"first": w.first, "label": 0} for w in windows[:-1]]
    status = {
        "windows": len(windows), "filled": 0, "resets": 0, "late": 0,
        "queries": {"asked": len(windows), "outcomes": {"ok": len(windows) - 1}},
    }  # fmt: skip
    row = told_of(0, source, windows, plan, [reply(item) for item in plan], results, status)
    assert row["events_found"] == row["events"] == len(source.events)
    assert (row["queries"], row["belief_ready"]) == (len(windows), len(windows) - 1)
    assert row["recurring_lost"] == 1
    ones = sum(event.label for event in source.events)
    assert row["accuracy_cut"] == pytest.approx(ones / len(source.events))
    assert row["accuracy_found"] == pytest.approx(1 - row["accuracy_cut"], abs=1.5 / len(source.events))
    mean, low, high = row["accuracy_difference"]
    assert low <= mean <= high

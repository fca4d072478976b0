"""A written window: what it stands for, and what is said of a bad one, with its place."""

import json
from copy import deepcopy
from math import inf
from typing import Any

import pytest

from peekserve.domain.utility import Penalty
from peekserve.errors import InvalidConfiguration
from peekserve.registry.window import WrittenWindow, parse_window

GOOD: dict[str, Any] = {
    "applications": {
        "ecg": {
            "classes": ["normal", "other"],
            "variants": {
                "cnn": {"recalls": [0.9, 0.7], "latency_s": 0.01, "load_s": 0.002, "bytes": 10},
                "wide": {"recalls": 0.95, "latency_s": {"1": 0.02, "4": 0.05}, "bytes": 20},
            },
        }
    },
    "rows": [{"application": "ecg", "deadline_s": 0.1}],
}


def a_window(**changes: Any) -> WrittenWindow:
    return parse_window(json.dumps({**GOOD, **changes}, indent=1).encode(), "w.json")


def rows(*more: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"application": "ecg", "deadline_s": 0.1, **row} for row in more]


def test_what_is_left_out_has_a_default():
    window = a_window()
    [ecg], [row], [worker] = window.applications, window.rows, window.workers
    assert ecg.prior == (0.5, 0.5)
    assert ecg.query().penalty == Penalty.step()
    assert ecg.variant("wide").quality.recall == (0.95, 0.95)
    assert ecg.variant("cnn").quality.frequencies == (0.5, 0.5)
    assert ecg.variant("cnn").timing["any"].load_s == 0.002
    assert (row.waited_s, row.counts, row.pinned) == (0.0, None, None)
    assert (worker.device, worker.budget_bytes, worker.resident, worker.free_s) == ("any", inf, (), 0.0)
    assert window.switches == {}


def test_rows_with_a_penalty_of_their_own_ask_a_query_of_their_own():
    window = a_window(rows=rows({}, {"penalty": {"kind": "linear", "width_s": 0.02}}))
    [ecg] = window.applications
    assert ecg.query(window.rows[0].query).penalty == Penalty.step()
    assert ecg.query(window.rows[1].query).penalty == Penalty.linear(0.02)


def test_workers_may_be_unlike():
    window = a_window(
        applications={
            "ecg": {
                "classes": ["normal", "other"],
                "variants": {
                    "cnn": {
                        "recalls": 0.9,
                        "devices": {"cpu": {"latency_s": 0.02}, "gpu": {"latency_s": 0.01, "bytes": 7}},
                    }
                },
            }
        },
        workers=[
            {"device": "gpu", "budget_bytes": 7, "resident": ["ecg/cnn"]},
            {"name": "b", "device": "cpu"},
        ],
    )
    assert [(w.name, w.device, w.resident) for w in window.workers] == [
        ("worker0", "gpu", ("ecg/cnn",)),
        ("b", "cpu", ()),
    ]


def change(path: list[str | int], value: object) -> str:
    """The text of the good window with one value put in its place; None takes it out."""
    window = deepcopy(GOOD)
    at: Any = window
    for key in path[:-1]:
        at = at[key]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return json.dumps(window, indent=1)


CNN: list[str | int] = ["applications", "ecg", "variants", "cnn"]
ROW: list[str | int] = ["rows", 0]
BAD: list[tuple[list[str | int], object, str]] = [
    (
        [*ROW, "theta"],
        {"normal": 0.5, "othr": 0.5},
        "rows[0].theta.othr: unknown class 'othr'; did you mean 'other'?",
    ),
    ([*ROW, "theta"], {"normal": 0.5}, "rows[0].theta: needs a value for each class; it lacks other"),
    ([*ROW, "theta"], [0.5, 0.4], "rows[0].theta: sums to 0.9, not to 1"),
    ([*ROW, "counts"], [1, -1], "rows[0].counts[1]: -1 is not from 0 to 1e+15"),
    ([*ROW, "counts"], [1, 2, 3], "rows[0].counts: lists 3 numbers for 2 classes"),
    ([*ROW, "deadline_s"], -0.1, "rows[0].deadline_s: -0.1 s is a negative time"),
    ([*ROW, "deadline_s"], "0.1", "rows[0].deadline_s: is a text, not a number; write it without quotes"),
    ([*ROW, "deadline_s"], 1e308, "rows[0].deadline_s: 1e+308 s is more than 1e+09 s"),
    ([*ROW, "waited_s"], -2, "rows[0].waited_s: -2 s is a negative time"),
    ([*ROW, "application"], "egc", "rows[0]: unknown application 'egc'; did you mean 'ecg'?"),
    ([*ROW, "pinned"], "wid", "rows[0].pinned: unknown variant 'wid'; did you mean 'wide'?"),
    ([*ROW, "dedline_s"], 1, "rows[0]: unknown key 'dedline_s'; did you mean 'deadline_s'?"),
    ([*ROW, "deadline_s"], None, "rows[0]: needs the key 'deadline_s'"),
    ([*CNN, "load_s"], -0.1, "variants.cnn.load_s: -0.1 s is a negative time"),
    ([*CNN, "latency_s"], 0, "variants.cnn.latency_s: is not above zero"),
    ([*CNN, "latency_s"], {"one": 0.1}, "latency_s.one: the number of rows 'one' is not a whole number"),
    ([*CNN, "latency_s"], None, "variants.cnn: needs the key 'latency_s'"),
    ([*CNN, "recalls"], [0.9, 1.7], "variants.cnn.recalls[1]: 1.7 is not from 0 to 1"),
    ([*CNN, "bytes"], 0, "variants.cnn.bytes: 0 is not 1 or more"),
    (["applications", "ecg", "classes"], ["a", "a"], "two or more classes with distinct names"),
    (["applications", "ecg", "frequencies"], [0.5, 0.6], "ecg.frequencies: sums to 1.1, not to 1"),
    (["applications", "ecg", "prior"], {"weak": {"normal": 1}}, "prior.weak: needs a value for each class"),
    (["applications", "ecg", "variants"], {}, "ecg.variants: an application needs one variant or more"),
    (
        ["applications", "ecg", "penalty"],
        "stepp",
        "ecg.penalty: unknown penalty 'stepp'; did you mean 'step'?",
    ),
    (
        ["applications", "ecg", "penalty"],
        {"kind": "table", "points": [[0, 0], [1, 0.5], [2, 0.4]]},
        "ecg.penalty.points: a penalty may not fall with lateness",
    ),
    (["rows"], [], "rows: a window needs one row or more"),
    (["rows"], None, "needs the key 'rows'"),
    (["resident"], ["ecg/cnm"], "resident[0]: unknown model 'ecg/cnm'; did you mean 'ecg/cnn'?"),
    (["resident"], ["ecg/cnn", "ecg/cnn"], "a model is resident twice"),
    (["workers"], [{"name": "a"}, {"name": "a"}], "workers[1]: two workers are named 'a'"),
    (["workers"], [{"device": "gpu"}], "workers[0].device: unknown device 'gpu'"),
    (["switches"], {"aware": 1}, "switches.aware: unknown value '1'; known: true, false"),
    (["switches"], {"shortcircuit": True}, "unknown key 'shortcircuit'; did you mean 'short_circuit'?"),
]


@pytest.mark.parametrize(("path", "value", "said"), BAD, ids=[said[:50] for _, _, said in BAD])
def test_what_is_wrong_is_said_with_its_place(path: list[str | int], value: object, said: str):
    text = change(path, value)
    with pytest.raises(InvalidConfiguration) as error:
        parse_window(text.encode(), "w.json")
    [line] = [line for line in str(error.value).splitlines() if said in line]
    assert 1 <= int(line.split(":")[1]) <= len(text.splitlines())


def test_the_line_of_a_mistake_is_that_of_its_key():
    text = change([*ROW, "deadline_s"], -1)
    line = 1 + next(i for i, t in enumerate(text.splitlines()) if '"deadline_s"' in t)
    with pytest.raises(InvalidConfiguration, match=rf"^w\.json:{line}: rows\[0\]\.deadline_s: -1 s"):
        parse_window(text.encode(), "w.json")


def test_a_variant_named_twice_is_an_error_with_both_lines():
    text = json.dumps(GOOD, indent=1).replace('"wide"', '"cnn"')
    with pytest.raises(
        InvalidConfiguration, match=r"w\.json:\d+: key 'cnn' stands here twice; first on line 9"
    ):
        parse_window(text.encode(), "w.json")


def test_theta_and_counts_beside_each_other_contradict():
    with pytest.raises(InvalidConfiguration, match="has both theta and counts"):
        a_window(rows=rows({"theta": [0.5, 0.5], "counts": [1, 1]}))


def test_more_may_not_be_resident_than_fits():
    with pytest.raises(InvalidConfiguration, match="30 bytes are resident of a budget of 25"):
        a_window(resident=["ecg/cnn", "ecg/wide"], budget_bytes=25)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"rows": [}', "w.json:1: not JSON"),
        (b'{\n\n"rows": nope}', "w.json:3: not JSON"),
        (b"applications: {}", "w.json:1: not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "must be a mapping, not a list"),
        (b"{}", "needs the key 'applications'"),
        (b"[" * 100_000, "w.json:1: nested too deep for a window"),
        (b" " * (1 << 20) + b"{}", "has at most 1048576 bytes"),
    ],
)
def test_what_is_no_window_at_all(text: bytes, said: str):
    with pytest.raises(InvalidConfiguration) as error:
        parse_window(text, "w.json")
    assert said in str(error.value)


def test_tabs_may_indent():
    text = json.dumps(GOOD, indent="\t").encode()
    assert parse_window(text, "w.json") == a_window()

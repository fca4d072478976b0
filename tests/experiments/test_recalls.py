"""Recall by class beside every mean, and nothing weighted called an accuracy."""

import json
from dataclasses import replace

import pytest
from rich.console import Console

from peekserve.cli import tables
from peekserve.domain.shares import wilson
from peekserve.experiments.comparison import as_json
from peekserve.experiments.recalls import counted, heaviest, named, pooled, worst, worst_table
from peekserve.results import per_class, summary
from tests.test_results import APP, a_row

A, B, C = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
WEIGHED = replace(APP, class_weights=(1.0, 1.0, 4.0))


def a_run(weights=(1.0, 1.0, 4.0)):
    """Class a: two of two found. b: one of three, one said late, one never answered. c: one of two."""
    said = [(0, A, -0.1), (0, A, -0.1), (1, B, -0.1), (1, B, 0.1), (1, (), 0.0), (2, C, -0.1), (2, A, -0.1)]
    return [a_row(label, scores, late_s=late_s, class_weights=weights) for label, scores, late_s in said]


def test_recall_is_counted_by_class_of_what_was_answered_and_of_all():
    found = {one.label: one for one in per_class(a_run())}
    assert [(one.rows, one.answered, one.right, one.found) for one in found.values()] == [
        (2, 2, 2, 2), (3, 2, 2, 1), (2, 2, 1, 1),
    ]  # fmt: skip
    assert [one.recall for one in found.values()] == [1.0, 1.0, 0.5]
    assert [one.found_share for one in found.values()] == [1.0, pytest.approx(1 / 3), 0.5]
    assert found[1].found_interval == wilson(1, 3)
    assert per_class([]) == ()
    [never] = per_class([a_row(1, ())])
    assert (never.answered, never.found_share) == (0, 0.0)
    assert never.recall != never.recall


def test_accuracy_is_not_weighted_and_utility_is():
    for weights in ((1.0, 1.0, 1.0), (1.0, 1.0, 4.0)):
        assert summary(a_run(weights)).accuracy == pytest.approx(5 / 6)
        assert [one.recall for one in per_class(a_run(weights))] == [1.0, 1.0, 0.5]
    # Weights 1, 1, 4 are 0.5, 0.5, 2 on the mean of 1: right and in time are a, a, b, c.
    assert summary(a_run()).utility == pytest.approx((0.5 + 0.5 + 0.5 + 2.0) / 7)


def test_the_worst_and_the_heaviest_class_have_their_names():
    own = named(a_run(), {"app": WEIGHED})
    assert [(one.name, one.weight) for one in own] == [("a", 0.5), ("b", 0.5), ("c", 2.0)]
    assert (worst(own, "app").name, heaviest(own, "app").name) == ("b", "c")
    assert heaviest(named(a_run(), {"app": APP}), "app") is None
    assert named(a_run(), {}) == []
    assert worst([], "app") is None


def test_machines_are_told_all_classes():
    told = as_json({"lo-edf": a_run()}, {}, {"app": WEIGHED})["lo-edf"]
    assert json.loads(json.dumps(told)) == told
    assert told["accuracy"] == pytest.approx(5 / 6)
    by_class = {one["class"]: one for one in told["recalls"]}
    assert list(by_class) == ["a", "b", "c"]
    assert (by_class["c"]["weight"], by_class["c"]["recall"], by_class["c"]["rows"]) == (2.0, 0.5, 2)
    assert by_class["b"]["found_share"] == pytest.approx(1 / 3)
    unanswered = as_json({"p": [a_row(0, ())]}, {}, {"app": APP})["p"]["recalls"]
    assert [one["recall"] for one in unanswered] == [None]


@pytest.mark.parametrize(("app", "heads"), [(APP, ["worst"]), (WEIGHED, ["worst", "heaviest"])])
def test_people_are_shown_the_class_that_a_mean_hides(capsys, app, heads):
    Console(width=100).print(tables.recalls({"lo-edf": a_run()}, {"app": app}))
    shown = capsys.readouterr().out
    assert [head for head in ("worst", "heaviest") if head in shown] == heads
    application, line = shown.partition("─\n")[2].splitlines()[:2]
    assert application.strip() == "app"
    words = line.split()
    assert (words[0], words[2:4]) == ("lo-edf", ["b", "0.33"])
    assert words[5:7] == (["c", "0.50"] if "heaviest" in heads else [])


def test_the_recalls_of_an_experiment_come_from_sums_over_its_seeds():
    where = {"policy": "lo-edf", "application": "app"}
    rows = [{**where, "seed": 0, **counted(a_run())}, {**where, "seed": 1, **counted(a_run()[:3])}]
    found = pooled([*rows, {"policy": "lo-edf", "seed": 0, "utility": 0.5}])
    assert [(one["label"], one["rows"], one["found"]) for one in found] == [(0, 4, 4), (1, 4, 2), (2, 2, 1)]
    assert found[1]["found_share"] == 0.5
    assert worst_table(found) == [
        ["found in time, worst class", "app"],
        ["lo-edf", f"class 1: 0.50 ({wilson(2, 4)[0]:.2f}..{wilson(2, 4)[1]:.2f})"],
    ]
    assert pooled([{"utility": 1.0}]) == []

"""A missed fall is not a missed walk: from what an owner writes to what is believed, planned with and realised."""

import json
from pathlib import Path

import numpy as np
import pytest

from peekserve.core.beliefs import Dirichlet
from peekserve.core.catalogue import Catalogue
from peekserve.domain.request import Outcome, Reason, Request, RowAnswer, Source
from peekserve.errors import InvalidConfiguration
from peekserve.registry.repository import read_repository
from peekserve.registry.window import parse_window
from peekserve.results import row
from tests.registry.folders import DIGITS, one_tensor, repository

WEIGHED = DIGITS.replace('classes: ["0", "1"]', 'classes: ["0", {name: "1", weight: 19}]')


def read(root: Path, text: str):
    (app,) = read_repository(repository(root, text), one_tensor).sound().applications
    return app


def test_a_weight_is_in_all_that_is_decided_and_scaled_to_one_on_the_mean(tmp_path):
    app = read(tmp_path, WEIGHED)
    assert app.class_weights == (1.0, 19.0)
    catalogue = Catalogue([app])
    # The linear variant's recalls are 0.7 and 0.9, those of the peek 0.8 and 0.6; weights 0.1 and 1.9.
    assert catalogue.lanes[0].profiled[0] == pytest.approx(0.5 * 0.1 * 0.7 + 0.5 * 1.9 * 0.9)
    assert catalogue.instant[0] == pytest.approx(0.5 * 0.1 * 0.8 + 0.5 * 1.9 * 0.6)
    seen = Dirichlet(catalogue, 0).seen(np.array([[0.0, 1e9]]))
    assert seen.accuracy[0, 0] == pytest.approx(1.9 * 0.9)


@pytest.mark.parametrize(("label", "worth"), [(0, 0.1), (1, 1.9)])
def test_a_right_answer_realises_the_weight_of_its_class_and_a_wrong_one_nothing(tmp_path, label, worth):
    app = read(tmp_path, WEIGHED)
    request = Request("r", app.name, 0.0, 0.15)
    for said, gained in ((label, worth), (1 - label, 0.0)):
        answer = RowAnswer(said, (0.5, 0.5), Source.MODEL, "linear", None)
        told = row(request, app, [label], Outcome.ANSWERED, Reason.OK, [answer], 0.1)
        assert (told.utility, told.correct) == (pytest.approx(gained), float(said == label))


def test_equal_weights_change_nothing(tmp_path):
    plain = Catalogue([read(tmp_path / "plain", DIGITS)])
    text = DIGITS.replace('["0", "1"]', '[{name: "0", weight: 3}, {name: "1", weight: 3}]')
    equal = Catalogue([read(tmp_path / "equal", text)])
    assert equal.lanes[0].profiled.tolist() == plain.lanes[0].profiled.tolist()
    assert equal.instant == plain.instant


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("weight: 0", "a class weight is above zero, not 0"),
        ("weight: -1", "-1 is not 0 or more"),
        ("weight: heavy", "is not a number"),
        ("weight: .inf", "is not a number"),
        ("wieght: 2", "unknown key 'wieght'.*weight"),
    ],
)
def test_a_wrong_weight_is_said_with_its_place(tmp_path, written, said):
    with pytest.raises(InvalidConfiguration, match=rf"application\.yaml:2: classes\[1\].*{said}"):
        read(tmp_path, WEIGHED.replace("weight: 19", written))


WINDOW = {
    "applications": {
        "falls": {
            "classes": ["walk", "fall"],
            "class_weights": {"walk": 1, "fall": 19},
            "variants": {"net": {"recalls": [0.9, 0.5], "latency_s": 0.01}},
        }
    },
    "rows": [{"application": "falls", "deadline_s": 0.1}],
}


def test_a_written_window_has_them_by_name_or_in_order():
    for weights in ({"fall": 19, "walk": 1}, [1, 19]):
        falls = {**WINDOW["applications"]["falls"], "class_weights": weights}
        window = parse_window(json.dumps({**WINDOW, "applications": {"falls": falls}}).encode(), "w.json")
        assert window.applications[0].class_weights == (1.0, 19.0)
    wrong = json.dumps(WINDOW).replace('"fall": 19', '"fell": 19')
    with pytest.raises(InvalidConfiguration, match=r"unknown class 'fell'.*fall"):
        parse_window(wrong.encode(), "w.json")

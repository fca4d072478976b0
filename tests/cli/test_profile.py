"""What `peekserve profile` says beside its table."""

import json
from dataclasses import replace

import numpy as np
from rich.console import Console

from peekserve.awareness.agreement import edges_for
from peekserve.cli.profile import _as_json, _Votes, notes, table
from peekserve.domain.application import Application, PeekSpec, Score, Variant
from peekserve.domain.profile import Calibration, Quality
from peekserve.peeking.choosing import Choice

SURE = Quality.from_confusion(np.array([[8, 2, 0], [1, 9, 0], [0, 5, 5]]))
UNSURE = Quality.from_confusion(np.array([[8, 2, 0], [1, 9, 0], [0, 0, 0]]))
THIRD = (1 / 3,) * 3
CALIBRATION = Calibration((THIRD,) * 3, 0.5, 5.0, (0.1, 0.5, 0.9), THIRD, 90, 0.7, 0.5)
CHOICE = Choice(7, ((5, -0.5), (7, -0.25)))


def an_application(quality: Quality, **kwargs) -> Application:
    variant = Variant("net", "1", "net", quality=quality)
    return Application("ecg", ("normal", "ectopic", "other"), (variant,), (0.5,) * 3, **kwargs)


def test_nothing_is_said_of_what_needs_no_saying():
    assert notes(an_application(SURE), None) == []


def test_a_recall_that_is_a_guess_is_marked_and_explained():
    told = notes(an_application(UNSURE), None)
    assert told == ["* no validation sample of other: that recall is (0 + 1) / (0 + 3), a guess"]
    cells = list(table(an_application(UNSURE), "cpu").columns[2].cells)
    assert cells == ["0.33* other"]
    peek = PeekSpec((), (), quality=UNSURE)
    assert notes(an_application(SURE, peek=peek), None)[:1] == told


def test_a_chosen_k_is_told_with_its_scores():
    assert notes(an_application(SURE), CHOICE) == [
        "peek: k = 7 by cross-validation (log score of 5: -0.5000, 7: -0.2500)"
    ]
    told = json.loads(json.dumps(_as_json(an_application(SURE), "cpu", CHOICE)))
    assert told["neighbours"] == {"k": 7, "log_scores": {"5": -0.5, "7": -0.25}}


def test_what_the_votes_of_a_peek_are_worth_is_told_and_so_is_that_nobody_measured_it():
    peek = PeekSpec((), (), quality=SURE)
    told = notes(an_application(SURE, peek=peek), None)
    assert told == ["peek: never calibrated; its votes are added to the prior, as SneakPeek adds them"]
    app = an_application(SURE, peek=replace(peek, calibration=CALIBRATION))
    assert notes(app, None) == [
        "peek: temperature 0.500, so that its votes on a row, up to 5, are worth 2.50; log loss 0.500, of uncalibrated "
        "votes 0.700, on 90 rows"
    ]
    assert json.loads(json.dumps(_as_json(app, "cpu", None)))["calibration"]["temperature"] == 0.5
    alone = an_application(SURE, peek=replace(peek, calibration=replace(CALIBRATION, fusion=0.0)))
    assert notes(alone, None)[1:] == ["fusion: not shown to be right more often; models answer by themselves"]


def test_another_score_is_told_beside_accuracy():
    app = replace(an_application(SURE), score=Score.QUADRATIC)
    assert notes(app, None) == ["quadratic: net 0.733"]


def test_a_variants_name_stays_whole_in_a_narrow_terminal(capsys):
    variant = Variant("efficientnet-b0", "1", "net", quality=SURE)
    app = replace(an_application(SURE), variants=(variant,))
    Console(width=80).print(table(app, "cpu"))
    shown = capsys.readouterr().out
    assert "efficientnet-b0" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_recalls_by_agreement_are_of_rows_whose_own_group_the_peek_does_not_know():
    """In the second half each row has neighbours of its own group, which agree on it whatever the model says."""
    labels = np.tile([0, 1, 2], 20)
    counts = np.where(np.arange(60)[:, None] < 30, 5.0 * np.eye(3)[(labels + 1) % 3], 5.0 * np.eye(3)[labels])
    strangers = np.arange(60) < 30
    said = np.where(strangers, labels, (labels + 1) % 3)
    votes = _Votes("key", counts, edges_for(5), strangers)
    (apart,) = votes.recalls(labels, said[None], None)
    assert apart[3] == apart[-1] == (0.5, 0.5, 0.5)  # nobody's votes all agreed
    everybody = replace(votes, rows=np.ones(60, np.bool_))
    (apart,) = everybody.recalls(labels, said[None], None)
    assert apart[3][0] < apart[-1][0] == 0.5

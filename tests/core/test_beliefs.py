from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.awareness.agreement import edges_for
from peekserve.awareness.calibrate import calibrated
from peekserve.awareness.estimate import expected_accuracy
from peekserve.awareness.posterior import posterior_mean
from peekserve.core.beliefs import BELIEFS, Calibrated, Dirichlet, make, named, uncalibrated
from peekserve.core.catalogue import Catalogue
from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import Score, StreamPrior
from peekserve.domain.messages import Answer, Arrived, Peeked, Woke, WorkerUp
from peekserve.domain.profile import Calibration
from peekserve.domain.request import Source
from peekserve.errors import InvalidConfiguration, InvalidTensor
from peekserve.policies import POLICIES
from peekserve.registry.settings import BELIEFS as SETTINGS
from tests.core.stories import AnswerAll, a_peek, a_request, an_application, of_kind, takes

VOTES = ((0.7, 0.3), (0.2, 0.8))
CALIBRATION = Calibration(VOTES, 0.5, 5.0, edges_for(5), (0.6, 0.4), 100, 0.7, 0.5)
APART = ((0.5, 0.4), (0.6, 0.5), (0.8, 0.7), (1.0, 0.9))
LOG_VOTES = np.log(np.array(VOTES))
COUNTS = np.array([[5.0, 0.0], [2.0, 3.0], [0.0, 0.0]])


def an_app(calibration=CALIBRATION, by_agreement=(), **kwargs):
    variant = takes(0.1, recall=(0.9, 0.8))
    quality = replace(variant.quality, by_agreement=by_agreement)
    peek = replace(a_peek(), calibration=calibration)
    return an_application(replace(variant, quality=quality), peek=peek, **kwargs)


def believing(normalise=False, **kwargs) -> Calibrated:
    (belief,) = make("calibrated", Catalogue([an_app(**kwargs)], normalise))
    assert isinstance(belief, Calibrated)
    return belief


# ---- which ----


def test_each_policy_has_beliefs_that_go_with_it_and_a_name_wins():
    assert {name: named("", name) for name in POLICIES} == {
        name: "calibrated" if name == "horizon" else "dirichlet" for name in POLICIES
    }
    assert named("calibrated", "sneakpeek") == "calibrated"
    assert sorted(SETTINGS) == sorted(BELIEFS)


def test_an_application_that_was_never_calibrated_keeps_sneakpeeks_beliefs():
    known, unknown = an_app(name="known"), an_app(None, name="unknown")
    blind = an_application(name="blind")
    kinds = [type(belief) for belief in make("calibrated", Catalogue([known, unknown, blind]))]
    assert kinds == [Calibrated, Dirichlet, Dirichlet]
    assert uncalibrated([known, unknown, blind]) == ("unknown",)


def test_beliefs_that_do_not_exist_are_named():
    with pytest.raises(
        InvalidConfiguration, match=r"no beliefs 'frequentist'; there are calibrated, dirichlet"
    ):
        make("frequentist", Catalogue([an_app()]))


# ---- SneakPeek's ----


def test_the_dirichlet_is_sneakpeeks_and_learns_nothing():
    belief = Dirichlet(Catalogue([an_app()]), 0)
    theta = posterior_mean((0.5, 0.5), COUNTS)
    for _ in range(2):
        seen = belief.seen(COUNTS)
        assert (seen.theta == theta).all()
        assert (seen.accuracy == expected_accuracy(theta, np.array([[0.9, 0.8]]), (1.0, 1.0))).all()
        assert seen.instant.tolist() == pytest.approx([0.7] * 3)  # by its profile, not by its belief
        belief.confirm(1, theta[0], COUNTS[0], None, 0)
    assert belief.answer(theta).tolist() == [0, 1, 0]


# ---- ours ----


def test_votes_are_believed_by_their_calibration():
    belief = believing()
    seen = belief.believe(COUNTS)
    pi = np.array([0.6, 0.4])  # of the validation data: the owner says nothing
    assert (seen.theta == calibrated(pi, COUNTS, LOG_VOTES, 0.5, 5.0)).all()
    assert seen.theta[2].tolist() == pytest.approx([0.6, 0.4])
    assert seen.instant.tolist() == pytest.approx(seen.theta.max(axis=1).tolist())
    assert belief.answer(seen.theta).tolist() == seen.theta.argmax(axis=1).tolist()
    unseen = belief.unseen()
    assert unseen.theta.tolist() == [pytest.approx([0.6, 0.4])]
    assert np.isnan(unseen.instant).all()


def test_recalls_are_those_of_how_far_the_votes_agree_on_each_class():
    seen = believing(by_agreement=APART).believe(COUNTS)
    first, second, none = seen.theta
    assert seen.accuracy[0, 0] == pytest.approx(first @ [1.0, 0.4])  # all for class 0, none for class 1
    assert seen.accuracy[1, 0] == pytest.approx(second @ [0.6, 0.7])  # two of five, and three
    assert seen.accuracy[2, 0] == pytest.approx(none @ [0.9, 0.8])  # no vote: the overall recalls


def test_recalls_that_few_groups_were_counted_on_take_the_place_of_the_plain_ones():
    seen = believing(by_agreement=(*APART, (0.7, 0.7))).believe(COUNTS)
    first, _, none = seen.theta
    assert seen.accuracy[0, 0] == pytest.approx(first @ [1.0, 0.4])
    assert seen.accuracy[2, 0] == pytest.approx(none @ [0.7, 0.7])


def test_sneakpeeks_beliefs_keep_the_plain_recalls():
    app = an_app(by_agreement=(*APART, (0.7, 0.7)))
    seen = Dirichlet(Catalogue([app]), 0).believe(COUNTS)
    assert (seen.accuracy == expected_accuracy(seen.theta, np.array([[0.9, 0.8]]), (1.0, 1.0))).all()


@pytest.mark.parametrize("odd", [((0.5, 0.5),) * 2, ()])
def test_recalls_by_another_number_of_bins_are_left_aside(odd):
    seen = believing(by_agreement=odd).believe(COUNTS)
    assert seen.accuracy[:, 0].tolist() == pytest.approx((seen.theta @ [0.9, 0.8]).tolist())


def test_class_weights_move_the_peeks_answer_and_its_worth():
    belief = believing(class_weights=(1.0, 99.0))
    seen = belief.believe(np.array([[4.0, 1.0]]))
    worth = seen.theta[0] * [0.02, 1.98]
    assert seen.theta[0].argmax() == 0
    assert belief.answer(seen.theta).tolist() == [1]
    assert seen.instant.tolist() == pytest.approx([worth.max()])


def test_values_are_told_in_the_unit_of_the_catalogue():
    plain, scaled = believing(), believing(normalise=True)
    best = 0.85  # of the only variant, at equally frequent classes
    assert scaled.believe(COUNTS).accuracy[0, 0] * best == pytest.approx(plain.believe(COUNTS).accuracy[0, 0])
    assert (scaled.believe(COUNTS).instant * best).tolist() == pytest.approx(
        plain.believe(COUNTS).instant.tolist()
    )


def test_a_quadratic_score_values_the_belief_as_a_forecast():
    seen = believing(score=Score.QUADRATIC).believe(COUNTS)
    p = seen.theta[0]
    assert seen.instant[0] == pytest.approx((1 + (p * p).sum()) / 2)


def test_evidence_that_cannot_be_is_refused_and_teaches_nothing():
    belief = believing()
    with pytest.raises(InvalidTensor, match="one row of 2 counts"):
        belief.seen(np.ones((1, 3)))
    assert belief.prior.tolist() == pytest.approx([0.6, 0.4])


# ---- what is learnt ----


def test_rows_that_come_move_the_prior_and_looking_does_not():
    belief = believing()
    one = np.array([[0.0, 5.0]])
    belief.believe(one)
    assert belief.prior.tolist() == pytest.approx([0.6, 0.4])
    before = belief.seen(one).theta[0]
    assert belief.prior[1] > 0.4
    assert belief.unseen().theta[0].tolist() == belief.prior.tolist()
    assert belief.believe(one).theta[0, 1] > before[1]


def test_rows_seen_at_once_are_believed_with_the_same_prior():
    alike = believing().seen(np.array([[5.0, 0.0]] * 3)).theta
    assert (alike == alike[0]).all()


def test_a_prior_that_the_owner_fixed_stays():
    app = replace(an_app(prior_learns=None), prior=(0.9, 0.3))
    belief = Calibrated(Catalogue([app]), 0, CALIBRATION)
    belief.seen(np.array([[0.0, 5.0]] * 50))
    assert belief.prior.tolist() == pytest.approx([0.75, 0.25])


def test_a_stream_starts_with_what_its_owner_says():
    start = replace(an_app(), prior_learns=StreamPrior((0.8, 0.2)))
    assert Calibrated(Catalogue([start]), 0, CALIBRATION).prior.tolist() == pytest.approx([0.8, 0.2])
    declared = replace(an_app(), prior=(0.7, 0.3))
    assert Calibrated(Catalogue([declared]), 0, CALIBRATION).prior.tolist() == pytest.approx([0.7, 0.3])


def test_a_change_of_mix_is_followed():
    """First one in ten rows is of class 1, then nine in ten."""
    belief, rng = believing(), np.random.default_rng(5)

    def pass_by(share):
        labels = (rng.random(2500) < share).astype(int)
        votes = np.array([rng.multinomial(5, rng.dirichlet(2.0 * np.array(VOTES[c]))) for c in labels])
        for row in votes.astype(float):
            belief.seen(row[None])
        return belief.prior[1]

    assert pass_by(0.1) < 0.3
    assert pass_by(0.9) > 0.7


def test_a_confirmed_label_corrects_the_prior():
    belief = believing()
    seen = belief.seen(np.array([[5.0, 0.0]]))
    risen = belief.prior[0]
    belief.confirm(1, seen.theta[0], np.array([5.0, 0.0]), None, 0)
    assert belief.prior[0] < risen
    assert belief.unseen().theta[0].tolist() == belief.prior.tolist()


def test_confirmed_answers_move_the_recalls_of_the_variant_that_gave_them():
    belief = believing(by_agreement=APART)
    before = belief.believe(COUNTS)
    for _ in range(30):
        belief.confirm(0, before.theta[0], None, 0, 1)
    wrong = belief.believe(COUNTS)
    assert wrong.accuracy[0, 0] < before.accuracy[0, 0] - 0.2
    quadratic = believing(score=Score.QUADRATIC)
    told = quadratic.believe(COUNTS).accuracy
    for _ in range(30):
        quadratic.confirm(0, quadratic.prior, None, 0, 1)
    # The mix has moved; the values of the classes, which are no recalls, have not.
    assert quadratic.believe(COUNTS).accuracy[0, 0] == pytest.approx(
        quadratic.believe(COUNTS).theta[0] @ [0.9, 0.8]
    )
    assert told[0, 0] <= 0.9


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.booleans()), max_size=30))
def test_one_lesson_after_the_other_values_answers_as_all_tables_would(lessons):
    belief = believing(by_agreement=APART, normalise=True, class_weights=(1.0, 3.0))
    for label, right in lessons:
        belief.confirm(label, belief.prior, None, 0, label if right else 1 - label)
        assert (belief._worth == belief._valued()).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), min_size=2, max_size=2), min_size=1, max_size=30))
def test_the_same_rows_in_the_same_order_are_believed_alike(rows):
    one, other = believing(by_agreement=APART), believing(by_agreement=APART)
    for row in rows:
        counts = np.array([row], dtype=float)
        a, b = one.seen(counts), other.seen(counts)
        assert (a.theta == b.theta).all()
        assert (a.accuracy == b.accuracy).all()
        assert a.theta.sum() == pytest.approx(1.0)
        assert 0.0 <= a.accuracy.min() <= a.accuracy.max() <= 1.0


# ---- in the scheduler ----


def scheduled(beliefs: str, **app):
    spec = SchedulerSpec(beliefs=beliefs)
    application = an_app(**app)
    scheduler = spec.over(spec.catalogue([application]), AnswerAll())
    scheduler.handle(WorkerUp("w", "cpu", 1000), now=0.0)
    return scheduler


def answered(scheduler, request_id, counts, now):
    scheduler.handle(Arrived(a_request(request_id, due_at=now + 1.0, arrived_at=now)), now=now)
    commands = scheduler.handle(Peeked(request_id, np.array(counts)), now=now)
    commands += scheduler.handle(Woke(), now=now)
    (answer,) = of_kind(commands, Answer)
    return answer.rows[0]


def test_the_peek_answers_with_what_its_belief_makes_of_it():
    counts = ((4.0, 1.0),)
    row = answered(scheduled("calibrated", class_weights=(1.0, 99.0)), "r1", counts, 0.5)
    theta = calibrated(np.array([0.6, 0.4]), np.array(counts), LOG_VOTES, 0.5, 5.0)[0]
    assert (row.source, row.label) == (Source.PEEK, 1)
    assert row.scores == pytest.approx(tuple(theta))
    assert row.expected_accuracy == pytest.approx(1.98 * theta[1])
    plain = answered(scheduled("dirichlet", class_weights=(1.0, 99.0)), "r1", counts, 0.5)
    assert plain.label == 0


def test_the_scheduler_learns_from_every_row_and_tells_how_it_believes():
    scheduler = scheduled("calibrated")
    before = scheduler.belief("app").unseen().theta[0, 1]
    for number in range(20):
        answered(scheduler, f"r{number}", ((0.0, 5.0),), 1.0 + number)
    assert scheduler.belief("app").unseen().theta[0, 1] > before

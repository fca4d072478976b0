"""True classes that come back: who is told what, what is learnt from them, and how little is kept."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.core.beliefs import Dirichlet
from peekserve.core.catalogue import Catalogue
from peekserve.core.feedback import Feedback
from peekserve.core.options import Options
from peekserve.core.scheduler import Scheduler
from peekserve.domain.application import Score
from peekserve.domain.feedback import Lesson, Verdict
from peekserve.domain.messages import (
    Acknowledge,
    Answer,
    Arrived,
    BatchDone,
    Cancelled,
    Confirmed,
    Peeked,
    Recalled,
    RunBatch,
    Woke,
    WorkerUp,
)
from peekserve.domain.profile import Calibration
from peekserve.domain.request import RowAnswer, RowRef, Source
from tests.core.stories import (
    AnswerAll,
    RunAll,
    a_peek,
    a_request,
    a_scheduler,
    an_application,
    of_kind,
    takes,
)

UNASKED = np.full(4, -1, np.int16)


class Noting(Dirichlet):
    """A belief that writes down what it is told."""

    def __init__(self, catalogue, application):
        super().__init__(catalogue, application)
        self.seen_counts, self.told = [], []

    def seen(self, counts):
        self.seen_counts += counts.tolist()
        return super().seen(counts)

    def confirm(self, label, theta, counts, variant, said):
        self.told.append(
            (label, theta.round(6).tolist(), None if counts is None else counts.tolist(), variant, said)
        )


def noting(app, policy=None, **options):
    """A scheduler with a worker, and the belief in it."""
    catalogue = Catalogue([app])
    belief = Noting(catalogue, 0)
    scheduler = Scheduler(policy or RunAll(), catalogue, Options(**options), [belief])
    scheduler.handle(WorkerUp("w", "cpu", 1000), now=0.0)
    return scheduler, belief


def answered(scheduler, request, scores=(0.9, 0.1), counts=None, now=0.0):
    """Live through a request; its answer."""
    out = scheduler.handle(Arrived(request), now)
    if counts is not None:
        out += scheduler.handle(Peeked(request.id, np.array(counts)), now)
    out += scheduler.handle(Woke(), now)
    for batch in of_kind(out, RunBatch):
        done = BatchDone(batch.batch_id, np.array([scores] * len(batch.rows)), now, now + 0.01)
        out += scheduler.handle(done, now + 0.01)
    [answer] = of_kind(out, Answer)
    return answer


def confirm(scheduler, request_id, *labels, now=1.0):
    [acknowledge] = of_kind(scheduler.handle(Confirmed(request_id, labels), now), Acknowledge)
    return acknowledge


def test_a_true_class_reaches_the_belief_with_what_was_believed_seen_and_said():
    scheduler, belief = noting(an_application(peek=a_peek()))
    answered(scheduler, a_request(), counts=[[4.0, 1.0]])
    acknowledge = confirm(scheduler, "r1", 1)
    assert (acknowledge.verdict, acknowledge.application) == (Verdict.ACCEPTED, "app")
    assert belief.told == [(1, [0.75, 0.25], [4.0, 1.0], 0, 0)]
    [lesson] = acknowledge.lessons
    assert (lesson.variant, lesson.said, lesson.own, lesson.label) == ("only", 0, 0, 1)
    assert lesson.expected == pytest.approx(0.9)
    assert (lesson.theta, lesson.counts) == ((0.75, 0.25), (4.0, 1.0))


def test_the_peeks_own_answer_is_confirmed_too():
    scheduler, belief = noting(an_application(peek=a_peek(0.7)), AnswerAll(), peek=True)
    answer = answered(scheduler, a_request(), counts=[[5.0, 0.0]])
    assert answer.rows[0].source is Source.PEEK
    [lesson] = confirm(scheduler, "r1", 0).lessons
    assert (lesson.variant, lesson.expected) == (None, pytest.approx(0.7))
    assert belief.told[0][3] is None


def test_a_row_that_nobody_looked_at_brings_no_evidence():
    scheduler, belief = noting(an_application())
    answered(scheduler, a_request())
    assert confirm(scheduler, "r1", 0).lessons[0].counts is None
    assert belief.told == [(0, [0.5, 0.5], None, 0, 0)]


def test_each_row_is_confirmed_once_and_rows_may_come_one_after_the_other():
    scheduler, belief = noting(an_application())
    answered(scheduler, a_request(rows=3))
    assert len(confirm(scheduler, "r1", 1, None, 0).lessons) == 2
    assert scheduler.feedback.find("r1").confirmed == {0, 2}
    again = confirm(scheduler, "r1", None, 1, 0)
    assert (again.verdict, again.lessons) == (Verdict.REPEATED, ())
    assert "row 2" in again.detail
    assert confirm(scheduler, "r1", None, 1, None).verdict is Verdict.ACCEPTED
    assert [label for label, *_ in belief.told] == [1, 0, 1]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ((0,), "has 2 rows, and 1 labels came"),
        ((0, 7), "0 (a), 1 (b)"),
        ((-1, 0), "no class -1"),
        ((None, None), "no label"),
    ],
)
def test_labels_that_do_not_fit_are_told_so_and_nothing_is_learnt(labels, words):
    scheduler, belief = noting(an_application())
    answered(scheduler, a_request(rows=2))
    acknowledge = confirm(scheduler, "r1", *labels)
    assert acknowledge.verdict is Verdict.INVALID
    assert words in acknowledge.detail
    assert belief.told == []
    assert confirm(scheduler, "r1", 0, 1).verdict is Verdict.ACCEPTED


def test_a_request_under_way_cannot_be_confirmed_yet():
    scheduler, _ = noting(an_application())
    scheduler.handle(Arrived(a_request()), 0.0)
    assert confirm(scheduler, "r1", 0).verdict is Verdict.UNANSWERED


def test_nor_one_that_never_was_or_got_no_answer():
    scheduler, _ = noting(an_application())
    unknown = confirm(scheduler, "ghost", 0)
    assert unknown.verdict is Verdict.UNKNOWN
    assert "since this server started" in unknown.detail
    scheduler.handle(Arrived(a_request("gone")), 0.0)
    scheduler.handle(Cancelled("gone"), 0.1)
    assert confirm(scheduler, "gone", 0).verdict is Verdict.UNKNOWN


def test_rows_answered_before_their_request_failed_are_forgotten():
    scheduler, _ = noting(an_application(takes(0.1)), RunAll(max_batch=1))
    out = scheduler.handle(Arrived(a_request(rows=2)), 0.0) + scheduler.handle(Woke(), 0.0)
    [batch] = of_kind(out, RunBatch)
    scheduler.handle(BatchDone(batch.batch_id, np.array([[1.0, 0.0]]), 0.0, 0.1), 0.1)
    assert scheduler.feedback.rows == 1
    scheduler.handle(Cancelled("r1"), 0.2)
    assert scheduler.feedback.rows == 0
    assert confirm(scheduler, "r1", 0, 0).verdict is Verdict.UNKNOWN


def test_the_oldest_is_forgotten_when_there_is_no_more_room():
    scheduler, _ = noting(an_application(), remember_rows=4)
    for i in range(4):
        answered(scheduler, a_request(f"r{i}", due_at=9.0), now=0.1 * i)
    answered(scheduler, a_request("r4", rows=2, due_at=9.0), now=0.5)
    verdicts = [confirm(scheduler, f"r{i}", 0, now=2.0).verdict for i in range(4)]
    assert verdicts == [Verdict.UNKNOWN] * 2 + [Verdict.ACCEPTED] * 2
    assert "the last 4 rows" in confirm(scheduler, "r0", 0, now=2.0).detail
    assert confirm(scheduler, "r4", 0, 1, now=2.0).verdict is Verdict.ACCEPTED


def test_a_request_larger_than_the_memory_and_a_memory_of_nothing_are_no_error():
    for rows in (0, 2):
        scheduler, _ = noting(an_application(), remember_rows=rows)
        answered(scheduler, a_request(rows=3))
        assert confirm(scheduler, "r1", 0, 0, 0).verdict is Verdict.UNKNOWN
        scheduler.check()


APP = an_application(takes(0.1, recall=(0.9, 0.9, 0.9)), peek=a_peek(classes=3), classes=("a", "b", "c"))
ANSWER = RowAnswer(1, (0.0, 1.0, 0.0), Source.MODEL, "only", 0.9)


def a_memory(rows):
    catalogue = Catalogue([APP])
    return Feedback(catalogue, [Noting(catalogue, 0)], rows)


@settings(max_examples=40)
@given(st.integers(1, 1500), st.lists(st.tuples(st.integers(1, 40), st.booleans()), max_size=80))
def test_the_memory_holds_the_newest_requests_whole_and_never_more_rows_than_it_may(most, requests):
    feedback, kept = a_memory(most), []
    for number, (rows, dropped) in enumerate(requests):
        name = f"r{number}"
        for row in range(rows):
            theta = np.array([number, row, 0.0]) / 128.0
            feedback.remember(RowRef(name, row), rows, 0, theta, None, ANSWER, UNASKED, -1)
        if dropped:
            feedback.forget(name)
        elif rows <= most:
            kept.append((name, number, rows))
        feedback.check()
    assert feedback.rows <= most
    held = [entry for entry in kept if feedback.find(entry[0]) is not None]
    assert held == kept[len(kept) - len(held) :]
    for name, number, rows in held:
        lessons = feedback.confirm(name, [2] * rows).lessons
        assert [lesson.theta for lesson in lessons] == [(number / 128, row / 128, 0.0) for row in range(rows)]
    # Only what must go goes: all that fits together with what came later is there.
    taken = 0
    for number in range(len(requests) - 1, -1, -1):
        rows = requests[number][0]
        taken += rows if rows <= most else 0
        if taken <= most and not requests[number][1] and rows <= most:
            assert feedback.find(f"r{number}") is not None


def test_twenty_thousand_rows_take_the_space_of_those_that_are_remembered():
    feedback = a_memory(5000)
    theta = np.full(3, 1 / 3)
    for number in range(20_000):
        feedback.remember(RowRef(f"r{number}", 0), 1, 0, theta, None, ANSWER, UNASKED, -1)
    columns = [value for value in vars(feedback).values() if isinstance(value, np.ndarray)]
    assert feedback.rows == 5000
    assert sum(column.nbytes for column in columns) < 80 * 5000
    assert len(feedback._first) == len(feedback._ids) == 5000
    feedback.check()


def test_what_is_believed_of_an_answer_is_a_probability_whatever_an_answer_is_worth():
    plain = an_application(takes(0.1, recall=(0.8, 0.6)))
    weighed = replace(plain, class_weights=(1.0, 9.0))
    squared = replace(plain, score=Score.QUADRATIC)
    for app, normalise in ((plain, False), (plain, True), (weighed, False), (squared, True)):
        catalogue = Catalogue([app], normalise)
        scheduler = Scheduler(RunAll(), catalogue, Options(), [Noting(catalogue, 0)])
        scheduler.handle(WorkerUp("w", "cpu", 1000), now=0.0)
        answered(scheduler, a_request())
        assert confirm(scheduler, "r1", 0).lessons[0].expected == pytest.approx(0.7)


def test_a_rare_class_that_is_answered_for_its_weight_is_held_to_be_as_probable_as_it_is():
    """Its peek answers "b" more often than when it was profiled, and is wrong more often: that is no drift."""
    votes = ((0.8, 0.2), (0.2, 0.8))
    known = Calibration(votes, 1.0, 5.0, (0.1, 0.5, 0.9), (0.95, 0.05), 100, 0.7, 0.5)
    app = an_application(peek=replace(a_peek(0.9), calibration=known), class_weights=(1.0, 30.0))
    scheduler = a_scheduler(app, policy=AnswerAll(), beliefs="calibrated")
    answer = answered(scheduler, a_request(), counts=[[2.0, 2.0]])
    [lesson] = confirm(scheduler, "r1", 0).lessons
    assert (answer.rows[0].source, answer.rows[0].label) == (Source.PEEK, 1)
    assert lesson.expected == pytest.approx(0.05)


def test_a_variant_without_a_profile_teaches_all_but_its_worth():
    scheduler, belief = noting(an_application(replace(takes(0.1), quality=None)))
    answered(scheduler, a_request())
    assert confirm(scheduler, "r1", 1).lessons[0].expected is None
    drift = scheduler.feedback.drift(0)
    assert (drift.confirmed, drift.trust, len(belief.told)) == (1, 0.0, 1)


def test_of_an_answer_put_together_from_more_the_model_is_judged_by_its_own_word():
    feedback = a_memory(10)
    fused = replace(ANSWER, source=Source.FUSED)
    said = np.array([2, -1], np.int16)
    feedback.remember(RowRef("r1", 0), 1, 0, np.full(3, 1 / 3), None, fused, said, 0)
    [lesson] = feedback.confirm("r1", [1]).lessons
    assert (lesson.said, lesson.own, lesson.label) == (1, 2, 1)
    assert feedback._beliefs[0].told[0][3:] == (0, 2)
    assert feedback.drift(0).right == 1.0


def test_lessons_from_before_are_learnt_again_seen_first_and_what_is_gone_is_left_out():
    scheduler, belief = noting(an_application(peek=a_peek()))
    lesson = Lesson("app", "only", 0, 0, 1, 0.9, (0.1, 0.9), (4.0, 1.0))
    others = (replace(lesson, application="gone"), replace(lesson, variant="gone"))
    assert of_kind(scheduler.handle(Recalled((lesson, *others)), 0.0), Acknowledge) == []
    assert belief.seen_counts == [[4.0, 1.0]]
    assert belief.told == [(1, [0.75, 0.25], [4.0, 1.0], 0, 0)]  # believed anew
    drift = scheduler.feedback.drift(0)
    assert (drift.confirmed, drift.right) == (1, 0.0)
    scheduler.check()


def test_the_drift_score_rises_when_answers_are_wrong_and_stays_when_they_are_right():
    for right in (True, False):
        scheduler, _ = noting(an_application(takes(0.001)))
        for i in range(100):
            answered(scheduler, a_request(f"r{i}", arrived_at=0.1 * i, due_at=99.0), now=0.1 * i)
            confirm(scheduler, f"r{i}", 0 if right or i % 10 < 4 else 1, now=0.1 * i + 0.05)
        drift = scheduler.feedback.drift(0)
        assert (drift.trust < 3.0) is right
        assert drift.confirmed == 100
        assert drift.prior == (0.5, 0.5)


def test_the_mix_of_what_is_seen_is_followed_without_any_label():
    scheduler = a_scheduler(an_application(takes(0.001), peek=a_peek()))
    for i in range(600):
        votes = [5.0, 0.0] if i % 10 and i < 540 else [1.0, 4.0]
        answered(scheduler, a_request(f"r{i}", arrived_at=0.1 * i, due_at=99.0), counts=[votes], now=0.1 * i)
        if i == 539:
            assert scheduler.feedback.drift(0).score < 1.0
    drift = scheduler.feedback.drift(0)
    assert drift.score == drift.votes > 3.0


def test_without_a_peek_the_answers_are_followed():
    scheduler = a_scheduler(an_application(takes(0.001)))
    for i in range(500):
        scores = (0.9, 0.1) if i % 10 and i < 440 else (0.1, 0.9)
        answered(scheduler, a_request(f"r{i}", arrived_at=0.1 * i, due_at=99.0), scores, now=0.1 * i)
    assert scheduler.feedback.drift(0).votes > 3.0

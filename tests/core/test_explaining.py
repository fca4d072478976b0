"""Requests that ask why: their answers say it, those of others cost and say nothing."""

import json

import numpy as np
import pytest

from peekserve.core import explaining
from peekserve.domain.application import OnMiss
from peekserve.domain.messages import (
    Answer,
    Arrived,
    BatchDone,
    BatchFailed,
    Cancelled,
    Peeked,
    RunBatch,
    Woke,
)
from peekserve.policies import Switches, make
from peekserve.state.journal import same
from tests.core import test_escalation as twice
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

TWO = (takes(0.1, "quick", recall=(0.7, 0.7)), takes(0.2, "good", recall=(0.9, 0.9)))


def done(batch: RunBatch, now: float = 0.3) -> BatchDone:
    return BatchDone(batch.batch_id, np.array([[0.8, 0.2]] * len(batch.rows)), 0.0, now)


def told(answer: Answer) -> list[dict]:
    return json.loads(answer.explanation)["rows"]


def ran(scheduler, *requests, now: float = 0.0) -> dict[str, Answer]:
    """All of these at once, planned, run and answered."""
    for request in requests:
        scheduler.handle(Arrived(request), now)
    answers = {}
    batches = of_kind(scheduler.handle(Woke(), now), RunBatch)
    while batches:
        commands = scheduler.handle(done(batches.pop(0), now + 0.3), now + 0.3)
        answers |= {a.request_id: a for a in of_kind(commands, Answer)}
        batches += of_kind(scheduler.handle(Woke(), now + 0.3), RunBatch)
    scheduler.check()
    return answers


def test_the_answer_to_who_asks_says_what_else_was_considered():
    scheduler = a_scheduler(an_application(*TWO), policy=RunAll(variant=0))
    answers = ran(scheduler, a_request("r1", explain=True), a_request("r2"), now=0.0)
    assert answers["r2"].explanation == ""
    [row] = told(answers["r1"])
    assert (row["row"], row["application"], row["waited_s"], row["waiting_rows"]) == (0, "app", 0.0, 2)
    chosen, good = row["chosen"], row["alternatives"][0]
    assert (chosen["variant"], chosen["why"], chosen["rows_beside"]) == ("quick", "chosen", 1)
    # The plan is a simple one, and beaten: the better variant is in time, too, after the other row.
    assert (good["variant"], good["why"], good["loss"]) == ("good", "better", pytest.approx(-0.2))
    assert [c["why"] for c in row["alternatives"][-2:]] == ["no answer", "no evidence"]


def test_who_does_not_ask_changes_nothing_and_is_told_nothing():
    def answers(explain: bool) -> list:
        scheduler = a_scheduler(an_application(*TWO), policy=make("lo-edf", Switches(aware=True)))
        requests = [a_request(f"r{i}", explain=explain and i == 1) for i in range(4)]
        return [(a.request_id, a.rows) for a in ran(scheduler, *requests).values()]

    assert answers(explain=False) == answers(explain=True)


def test_only_the_first_rows_of_a_request_are_explained():
    scheduler = a_scheduler(an_application(*TWO))
    [answer] = ran(scheduler, a_request(rows=12, explain=True)).values()
    assert [row["row"] for row in told(answer)] == list(range(explaining.MOST_ROWS))
    assert len(answer.rows) == 12


def test_the_peeks_own_answer_is_explained_by_the_plan_that_took_it():
    scheduler = a_scheduler(an_application(*TWO, peek=a_peek(0.95)), policy=AnswerAll(), margin_s=0.0)
    scheduler.handle(Arrived(a_request(explain=True)), 0.0)
    scheduler.handle(Peeked("r1", np.array([[5.0, 0.0]])), 0.1)
    [answer] = of_kind(scheduler.handle(Woke(), 0.1), Answer)
    [row] = told(answer)
    assert (row["chosen"]["kind"], row["chosen"]["value"]) == ("peek", pytest.approx(0.95))
    assert {c["variant"] for c in row["alternatives"] if c["kind"] == "model"} == {"quick", "good"}


def test_what_no_plan_chose_was_all_there_was():
    app = an_application(*TWO, peek=a_peek(), on_miss=OnMiss.DEGRADE)
    scheduler = a_scheduler(app, worker=True)
    scheduler.handle(Arrived(a_request("r1", due_at=0.5, explain=True)), 0.0)
    scheduler.handle(Peeked("r1", np.array([[5.0, 0.0]])), 0.0)
    [batch] = of_kind(scheduler.handle(Woke(), 0.0), RunBatch)
    # Its batch is lost when nothing else can be in time: the peek's answer is not the plan's choice.
    scheduler.handle(BatchFailed(batch.batch_id, "broken"), 0.45)
    [answer] = of_kind(scheduler.handle(Woke(), 0.45), Answer)
    assert told(answer) == [
        {"row": 0, "chosen": {"kind": "peek", "why": "all there was"}, "alternatives": []}
    ]


def test_requests_that_end_without_an_answer_leave_nothing_behind():
    scheduler = a_scheduler(an_application(*TWO))
    for i, due_at in enumerate((0.01, 1.0)):
        scheduler.handle(Arrived(a_request(f"r{i}", due_at=due_at, explain=True)), 0.0)
    [answer] = of_kind(scheduler.handle(Cancelled("r1"), 0.0), Answer)
    assert answer.explanation == ""
    # The same names again, not asking: nothing of the old ones is told.
    answers = ran(scheduler, a_request("r0"), a_request("r1"))
    assert {a.explanation for a in answers.values()} == {""}


def test_a_turn_in_which_many_ask_looks_at_a_bounded_number_of_plans():
    many = [takes(0.1 + i / 100, f"v{i}", recall=(0.9 - i / 100,) * 2) for i in range(10)]
    scheduler = a_scheduler(an_application(*many))
    answers = ran(scheduler, *(a_request(f"r{i}", explain=True) for i in range(32)))
    words = [[c["why"] for row in told(a) for c in row["alternatives"]] for a in answers.values()]
    assert len(answers) == 32
    assert "not looked at" not in words[0]
    assert words[-1] == []
    [last] = told(answers["r31"])
    assert last["chosen"]["why"] == "not looked at"
    assert set(last["chosen"]) == {"kind", "variant", "why"}


def test_in_the_long_run_who_asks_takes_a_bounded_share():
    scheduler = a_scheduler(an_application(*TWO), policy=RunAll(max_batch=1))
    answers = ran(scheduler, *(a_request(f"r{i}", due_at=9.0, explain=True) for i in range(10)))
    # Each is answered in a turn of its own, all in one moment: only the first ones are looked at.
    looked = ["not looked at" not in answer.explanation for answer in answers.values()]
    few = looked.index(False)
    assert few > 0
    assert not any(looked[few:])
    assert len(looked) == 10
    after = ran(scheduler, a_request("later", arrived_at=1.3, due_at=9.0, explain=True), now=1.3)
    assert "not looked at" not in after["later"].explanation


def test_an_answer_is_not_made_late_by_its_words():
    def words(due_at: float) -> set[str]:
        scheduler = a_scheduler(an_application(*TWO), policy=RunAll(variant=0))
        answer = ran(scheduler, a_request(explain=True, due_at=due_at))["r1"]
        return {c["why"] for row in told(answer) for c in (row["chosen"], *row["alternatives"])}

    assert "not looked at" not in words(due_at=0.31)
    assert "not looked at" in words(due_at=0.3001)
    assert "not looked at" not in words(due_at=0.29)  # late it is already


def test_the_same_events_give_the_same_words():
    def commands() -> list:
        scheduler = a_scheduler(an_application(*TWO), policy=make("sneakpeek"))
        out = []
        for i in range(5):
            out += scheduler.handle(Arrived(a_request(f"r{i}", explain=i % 2 == 0)), 0.01 * i)
        out += scheduler.handle(Woke(), 0.05)
        for batch in of_kind(out, RunBatch):
            out += scheduler.handle(done(batch), 0.3)
        return out

    one, two = commands(), commands()
    assert len(of_kind(one, Answer)) >= 1
    assert all(same(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("planning", ["rolling", "window(100ms)", "window(100ms, rebalance=20ms)"])
def test_every_way_of_planning_explains(planning):
    from peekserve.core.spec import SchedulerSpec
    from peekserve.domain.messages import WakeAt, WorkerUp

    scheduler = SchedulerSpec(policy="sneakpeek", planning=planning).build([an_application(*TWO)])
    commands = scheduler.handle(WorkerUp("w", "cpu", 1000), 0.0)
    commands += scheduler.handle(Arrived(a_request(due_at=2.0, explain=True)), 0.01)
    now = 0.01
    for _ in range(20):
        batches = of_kind(commands, RunBatch)
        if batches:
            break
        now = max([w.at for w in of_kind(commands, WakeAt)], default=now + 0.05)
        commands = scheduler.handle(Woke(), now)
    [answer] = of_kind(scheduler.handle(done(batches[0], now + 0.2), now + 0.2), Answer)
    [row] = told(answer)
    assert row["chosen"]["variant"] == batches[0].variant
    assert row["alternatives"]


def test_a_row_that_ran_twice_is_explained_by_the_plan_that_ran_it_again():
    scheduler = twice.stepping()
    again = twice.escalated(scheduler, explain=True)
    [answer] = twice.told(scheduler, twice.done(again, 0.11), 0.11)
    [row] = told(answer)
    assert (row["chosen"]["variant"], row["waited_s"]) == ("good", 0.01)
    # What it could have been answered with at once is the first model's word, not the peek's.
    assert [c["variant"] for c in row["alternatives"] if c["why"] == "not allowed"] == ["quick"]
    assert {c["kind"] for c in row["alternatives"]} == {"in hand", "model", "nothing"}


def test_an_answer_in_hand_that_a_plan_takes_says_so():
    scheduler = twice.stepping(policy=twice.Stepwise(lets_go=True))
    scheduler.handle(Arrived(a_request(explain=True)), 0.0)
    assert not twice.told(scheduler, twice.done(twice.ran(scheduler, 0.0), 0.01), 0.01)
    [answer] = of_kind(twice.woken(scheduler, 0.01), Answer)
    [row] = told(answer)
    assert (row["chosen"]["kind"], row["chosen"]["variant"], row["chosen"]["why"]) == (
        "in hand", "quick", "chosen",
    )  # fmt: skip
    good = next(c for c in row["alternatives"] if c.get("variant") == "good")
    assert good["why"] == "better"


def test_a_second_batch_that_is_lost_leaves_what_was_there():
    scheduler = twice.stepping()
    again = twice.escalated(scheduler, explain=True)
    [answer] = of_kind(scheduler.handle(BatchFailed(again.batch_id, "broken"), 0.02), Answer)
    [row] = told(answer)
    assert row["chosen"] == {"kind": "model", "why": "all there was", "variant": "quick"}

"""What is planned again while a plan is given away bit by bit."""

from peekserve.core.planning import Window
from peekserve.domain.messages import Arrived, Batch, Cancelled, Plan, Woke
from peekserve.policies.base import View
from tests.core.stories import a_request, a_scheduler


class TwoAtMost:
    """Batches of one row, two of them; what is behind them waits until it is asked for again."""

    def __init__(self, again_in_s: float) -> None:
        self.again_in_s = again_in_s
        self.seen: list[int] = []

    def plan(self, view: View) -> Plan:
        self.seen.append(view.size)
        batches = tuple(Batch(0, 0, 0, (row,)) for row in range(min(view.size, 2)))
        return Plan(batches, again_at=view.now + self.again_in_s)


def seen_by(policy: TwoAtMost, cancelled: bool = False) -> list[int]:
    """How many rows each plan was for: four come within the first window, one after it; then it is rebalanced."""
    scheduler = a_scheduler(policy=policy, planning=Window(0.1, lead_s=0.001, rebalance_s=0.02))
    for i in range(4):
        scheduler.handle(Arrived(a_request(f"r{i}", due_at=9.0)), now=0.01 * i)
    scheduler.handle(Woke(), now=0.1)
    scheduler.handle(Arrived(a_request("next", due_at=9.0)), now=0.11)
    if cancelled:
        scheduler.handle(Cancelled("r3"), now=0.11)
    scheduler.handle(Woke(), now=0.125)
    scheduler.check()
    return policy.seen


def test_rows_that_a_plan_left_for_later_are_planned_again_with_those_that_are_held():
    """One of four runs, one is held, two were left. The fifth waits for the end of its own window."""
    assert seen_by(TwoAtMost(again_in_s=1.0)) == [4, 3]


def test_of_the_rows_left_those_that_are_gone_are_not_planned_again():
    assert seen_by(TwoAtMost(again_in_s=1.0), cancelled=True) == [4, 2]


def test_rows_that_no_plan_has_a_place_for_wait_for_the_next_window():
    assert seen_by(TwoAtMost(again_in_s=float("inf"))) == [4, 1]

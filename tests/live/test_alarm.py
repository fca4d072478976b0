"""When the driver's one alarm rings: an event loop whose turns the test takes."""

from collections import deque

import pytest

from peekserve.clock import ManualClock
from peekserve.live.alarm import GATHER_S, QUIET_TURNS, Alarm

pytestmark = pytest.mark.core


class Handle:
    def __init__(self, call, args):
        self.call, self.args, self.cancelled = call, args, False

    def cancel(self):
        self.cancelled = True


class Loop:
    """Callbacks for the next turn, and those for later."""

    def __init__(self):
        self.soon, self.later = deque(), []

    def call_soon(self, call, *args):
        self.soon.append(Handle(call, args))
        return self.soon[-1]

    def call_later(self, seconds, call):
        handle = Handle(call, ())
        self.later.append((seconds, handle))
        return handle

    def turn(self):
        for _ in range(len(self.soon)):
            handle = self.soon.popleft()
            if not handle.cancelled:
                handle.call(*handle.args)


class Desk:
    def __init__(self):
        self.loop, self.clock, self.rung = Loop(), ManualClock(), 0
        self.alarm = Alarm(self.loop, self.clock, self.ring)

    def ring(self):
        self.rung += 1


def test_where_nobody_came_it_rings_in_the_next_turn():
    desk = Desk()
    desk.alarm.set(0.0, 0.0)
    desk.loop.turn()
    assert desk.rung == 1


def test_requests_that_are_read_in_several_turns_are_planned_together():
    desk = Desk()
    for _ in range(4):
        desk.alarm.came()
        desk.alarm.set(0.0, 0.0)
        desk.loop.turn()
    assert desk.rung == 0
    for _ in range(QUIET_TURNS):
        desk.loop.turn()
    assert desk.rung == 1


def test_a_flood_is_listened_to_no_longer_than_a_plan_may_wait():
    desk = Desk()
    turns = 0
    while not desk.rung:
        desk.alarm.came()
        desk.alarm.set(desk.clock.now(), desk.clock.now())
        desk.loop.turn()
        desk.clock.advance(GATHER_S / 10)
        turns += 1
    assert 10 <= turns <= 12


def test_an_instant_to_come_is_rounded_up_to_what_loops_count_in():
    desk = Desk()
    desk.alarm.set(0.0104, 0.0)
    [(seconds, handle)] = desk.loop.later
    assert seconds == pytest.approx(0.011)
    desk.alarm.set(0.5, 0.0)
    assert handle.cancelled


def test_one_that_is_taken_back_never_rings():
    desk = Desk()
    desk.alarm.came()
    desk.alarm.set(0.0, 0.0)
    desk.alarm.cancel()
    for _ in range(2 * QUIET_TURNS):
        desk.loop.turn()
    assert desk.rung == 0

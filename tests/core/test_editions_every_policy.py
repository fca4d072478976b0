"""Every policy goes on when applications join, and variants come and go, in the midst of its work."""

import heapq
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import OnMiss
from peekserve.domain.messages import (
    Answer,
    Arrived,
    BatchDone,
    Loaded,
    Offered,
    Peeked,
    Registered,
    RunBatch,
    Unload,
    WakeAt,
    Woke,
    WorkerUp,
)
from peekserve.domain.messages import Load as LoadCommand
from peekserve.domain.messages import Peek as PeekCommand
from peekserve.domain.request import Request
from peekserve.policies import POLICIES
from tests.core.stories import a_peek, an_application, takes

pytestmark = pytest.mark.core

FIRST = an_application(takes(0.02, "a"), takes(0.05, "b", (0.99, 0.99)), name="one", peek=a_peek())
MORE = (
    replace(FIRST, edition="e1", variants=(takes(0.01, "a"), takes(0.03, "c"), takes(0.06, "d"))),
    an_application(
        *(takes(0.01 * i, f"v{i}", (0.8,) * 4, size=5) for i in (1, 2, 3, 4)),
        name="two", classes=tuple("wxyz"), on_miss=OnMiss.REJECT,
    ),
    an_application(takes(0.04, "late", (0.7,) * 3), name="three", classes=tuple("xyz"), on_miss=OnMiss.LATE),
)  # fmt: skip
KEYS = {app.key: app for app in (FIRST, *MORE)}


class World:
    """Carries out commands in pretended time, and counts outcomes."""

    def __init__(self, policy):
        self.scheduler = SchedulerSpec(policy=policy, preload=True, admit=True).build([FIRST])
        self.now, self.events, self.number, self.wake = 0.0, [], 0, None
        self.outcomes, self.batches, self.open, self.held = {}, {}, {}, set()
        for worker in ("w0", "w1"):
            self.tell(WorkerUp(worker, "cpu", 8))

    def later(self, seconds, event):
        self.number += 1
        heapq.heappush(self.events, (self.now + seconds, self.number, event))

    def tell(self, event):
        for command in self.scheduler.handle(event, self.now):
            match command:
                case Answer(request_id):
                    assert request_id not in self.outcomes
                    self.outcomes[request_id] = command.outcome
                case RunBatch():
                    assert (
                        command.worker,
                        KEYS[command.application].variant(command.variant).weights,
                    ) in self.held
                    self.later(command.predicted_s, command)
                case PeekCommand(request_id):
                    request = self.open[request_id]
                    classes = len(KEYS[request.application].classes)
                    self.later(0.001, Peeked(request_id, np.eye(classes)[[0] * request.rows] * 5.0))
                case LoadCommand(worker, weights):
                    self.held.add((worker, weights))
                    self.later(0.0, Loaded(worker, weights, 0.0, 1))
                case Unload(worker, weights):
                    self.held.remove((worker, weights))
                case WakeAt(at):
                    self.wake = at
        self.scheduler.check()

    def run(self, until):
        """All that happens up to this instant, or, with infinity, everything."""
        while True:
            next_at = min(
                self.events[0][0] if self.events else np.inf, self.wake if self.wake is not None else np.inf
            )
            if next_at > until or next_at == np.inf:
                break
            self.now = max(self.now, next_at)
            if self.wake is not None and self.wake <= next_at:
                self.wake = None
                self.tell(Woke())
                continue
            _, _, event = heapq.heappop(self.events)
            if isinstance(event, RunBatch):
                classes = len(KEYS[event.application].classes)
                scores = np.full((len(event.rows), classes), 1 / classes)
                event = BatchDone(event.batch_id, scores, self.now - event.predicted_s, self.now)
            self.tell(event)
        self.now = max(self.now, until) if until < np.inf else self.now

    def ask(self, key, rows, deadline_s):
        name = f"r{len(self.open)}"
        self.open[name] = Request(name, key, self.now, self.now + deadline_s, rows)
        self.tell(Arrived(self.open[name]))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(0, 3), st.integers(1, 3), st.sampled_from((0.03, 0.1, 0.5))),
        st.tuples(st.just("join"), st.integers(0, 2)),
        st.tuples(st.just("offer"), st.integers(0, 3), st.integers(0, 15)),
        st.tuples(st.just("wait"), st.sampled_from((0.001, 0.02, 0.2))),
    ),
    min_size=4,
    max_size=25,
)


@pytest.mark.parametrize("policy", sorted(POLICIES))
@settings(max_examples=25, deadline=None)
@given(steps=STEPS)
def test_each_request_has_one_outcome_and_what_is_not_offered_goes(policy, steps):
    world, there = World(policy), [FIRST.key]
    for what, *told in steps:
        if what == "ask":
            world.ask(there[told[0] % len(there)], told[1], told[2])
        elif what == "join" and MORE[told[0]].key not in there:
            world.tell(Registered(MORE[told[0]]))
            there.append(MORE[told[0]].key)
        elif what == "offer":
            key = there[told[0] % len(there)]
            names = [v.name for i, v in enumerate(KEYS[key].variants) if told[1] >> i & 1]
            world.tell(Offered(key, tuple(names)))
        elif what == "wait":
            world.run(world.now + told[0])
    world.run(np.inf)
    assert world.outcomes.keys() == world.open.keys()
    for key in there:
        world.tell(Offered(key, ()))
    world.run(np.inf)
    assert not world.held

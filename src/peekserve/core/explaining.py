"""Why rows were answered as they were, for requests that ask (`Request.explain`); policies/explain.py finds the words.

A row's fate is decided when the batch that it is in is committed, or when a plan takes the peek's answer for it. What
was known and planned then is kept, and the words are found from it when the request is answered: so no batch waits for
them, and a row that is planned again and again is explained once, by the plan that counted. Requests that do not ask
pay nothing. Those that do are bounded: in rows; in how many changed plans are valued, in one turn and in the long run,
whoever asks, since everybody's answers and the next batch wait for it; and in time, so that words make no answer late.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

from peekserve.core.backlog import Backlog, Slots
from peekserve.domain.messages import Answer, Command, Plan
from peekserve.domain.request import Request, RowAnswer, Source
from peekserve.policies.base import Policy, Switches, View
from peekserve.policies.explain import Kind, Why, explain
from peekserve.policies.moves import Work

# Rows of one request, the first ones.
MOST_ROWS = 8
# Changed plans in one turn, and in each second. One costs 30 to 180 microseconds, the more the longer the queues
# (docs/protocol.md): that is 10 milliseconds at once, and a tenth of the time.
MOST_PLANS = 64
PLANS_PER_S = 500.0
PLAN_S = 200e-6
# A model's answer that a row already has, where a plan sees the peek's.
IN_HAND = "in hand"

Words = dict[str, object]


@dataclass(frozen=True, slots=True)
class _Decided:
    """When a row's fate was decided: by which plan, and as which row of its view. `in_hand`: a model had answered it
    before."""

    view: View
    plan: Plan
    row: int
    in_hand: bool


class Explaining:
    """Requests that ask, from their arrival to their answer. `policy`: whose switches say what is believed."""

    def __init__(self, backlog: Backlog, policy: Policy) -> None:
        self._backlog = backlog
        own = getattr(policy, "switches", None)
        # A policy without any, such as a test's, is judged by each row's own belief.
        self._switches = own if isinstance(own, Switches) else Switches(aware=True, short_circuit=True)
        self._asked: dict[str, tuple[Request, dict[int, _Decided]]] = {}
        self._left, self._told_at = float(MOST_PLANS), 0.0

    def heard(self, request: Request) -> None:
        """A request came."""
        if request.explain:
            self._asked[request.id] = request, {}

    def decided(self, view: View, plan: Plan, slots: Slots, whole: bool) -> None:
        """This plan was made of this view; the slots are its rows. `whole`: every batch will be run, not only the
        first of each worker."""
        if not self._asked:
            return
        backlog = self._backlog
        for row in _decided(plan, whole):
            slot = int(slots[row])
            asked = self._asked.get(backlog.request[slot])
            if asked is not None and backlog.row[slot] < MOST_ROWS:
                asked[1][backlog.row[slot]] = _Decided(view, plan, row, bool(backlog.in_hand[slot]))

    def told(self, commands: list[Command], now: float) -> list[Command]:
        """The same commands, each answer to a request that asked with its explanation."""
        if not self._asked:
            return commands
        self._left = min(self._left + (now - self._told_at) * PLANS_PER_S, MOST_PLANS)
        self._told_at = now
        return [self._with_words(c, now) if isinstance(c, Answer) else c for c in commands]

    def _with_words(self, answer: Answer, now: float) -> Answer:
        asked = self._asked.pop(answer.request_id, None)
        if asked is None or not answer.rows:
            return answer
        request, decided = asked
        may = max(int(self._left), 0)
        if request.due_at > now:  # half of the time that is left: the way back takes some, too
            may = int(min(may, (request.due_at - now) / (2 * PLAN_S)))
        work = Work(may)
        rows = [
            self._words(request.arrived_at, decided.get(row), row, given, work)
            for row, given in enumerate(answer.rows[:MOST_ROWS])
        ]
        self._left -= may - work.left
        return replace(answer, explanation=json.dumps({"rows": rows}, separators=(",", ":")))

    def _words(
        self, arrived_at: float, decided: _Decided | None, row: int, given: RowAnswer, work: Work
    ) -> Words:
        if decided is None:
            return _last(row, given)
        if work.left <= 0:
            return _last(row, given, Why.NOT_LOOKED_AT)
        work.left -= 1  # the plan as it was is valued once for each row
        [found] = explain(decided.view, decided.plan, self._switches, [decided.row], work)
        kept = decided.in_hand and found.chosen.kind is Kind.PEEK
        if not kept and (found.chosen.kind, found.chosen.variant) != (_kind(given), given.variant):
            return _last(row, given)
        words = found.as_json() | {
            "row": row,
            "waited_s": round(decided.view.now - arrived_at, 9),
            "waiting_rows": decided.view.size,
        }
        return _in_hand(words, given) if decided.in_hand else words


def _decided(plan: Plan, whole: bool) -> Iterable[int]:
    """Rows whose fate this plan decides, in its own order."""
    started: set[int] = set()
    for batch in plan.batches:
        if whole or batch.worker not in started:
            started.add(batch.worker)
            yield from (int(row) for row in batch.rows)
    yield from (int(row) for row in plan.instant)


def _last(row: int, given: RowAnswer, why: Why = Why.ALL_THERE_WAS) -> Words:
    """Only what it got: no plan could place it in time, or its batch was lost, or it is not looked at."""
    chosen: Words = {"kind": _kind(given).value, "why": why.value}
    if given.variant is not None:
        chosen["variant"] = given.variant
    return {"row": row, "chosen": chosen, "alternatives": []}


def _kind(given: RowAnswer) -> Kind:
    return Kind.PEEK if given.source is Source.PEEK else Kind.MODEL


def _in_hand(words: Words, given: RowAnswer) -> Words:
    """What a plan takes for the peek's answer is that of a model, once one has answered the row."""

    def named(choice: Words) -> Words:
        return choice | {"kind": IN_HAND} if choice["kind"] == Kind.PEEK.value else choice

    chosen, alternatives = words["chosen"], words["alternatives"]
    assert isinstance(chosen, dict)
    assert isinstance(alternatives, list)
    if chosen["kind"] == Kind.PEEK.value:
        chosen = chosen | {"variant": given.variant}
    return words | {"chosen": named(chosen), "alternatives": [named(choice) for choice in alternatives]}

"""Why rows were answered as they were, for requests that ask (`Request.explain`); policies/explain.py finds the words.

A row's fate is decided when the batch that it is in is committed, or when a plan takes the peek's answer for it. What
was known and planned then is kept, and the words are found from it when the request is answered: so no batch waits for
them, and a row that is planned again and again is explained once, by the plan that counted. Requests that do not ask
pay nothing. Those that do are bounded twice: in rows, and in how many changed plans are valued in one turn, whoever
asks.
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
# In one turn. One costs 30 to 180 microseconds, the more the longer the queues (docs/protocol.md).
MOST_PLANS = 200
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
        self._asked: dict[str, tuple[float, dict[int, _Decided]]] = {}

    def heard(self, request: Request) -> None:
        """A request came."""
        if request.explain:
            self._asked[request.id] = request.arrived_at, {}

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

    def told(self, commands: list[Command]) -> list[Command]:
        """The same commands, each answer to a request that asked with its explanation."""
        if not self._asked:
            return commands
        work = Work(MOST_PLANS)
        return [self._with_words(c, work) if isinstance(c, Answer) else c for c in commands]

    def _with_words(self, answer: Answer, work: Work) -> Answer:
        asked = self._asked.pop(answer.request_id, None)
        if asked is None or not answer.rows:
            return answer
        arrived_at, decided = asked
        rows = [
            self._words(arrived_at, decided.get(row), row, given, work)
            for row, given in enumerate(answer.rows[:MOST_ROWS])
        ]
        return replace(answer, explanation=json.dumps({"rows": rows}, separators=(",", ":")))

    def _words(
        self, arrived_at: float, decided: _Decided | None, row: int, given: RowAnswer, work: Work
    ) -> Words:
        if decided is None:
            return _last(row, given)
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


def _last(row: int, given: RowAnswer) -> Words:
    """Of a row that no plan could place in time, or whose batch was lost: it got what there was."""
    chosen: Words = {"kind": _kind(given).value, "why": Why.ALL_THERE_WAS.value}
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

"""Bugs to plant in a scheduler, to see whether a fault campaign would find them: each is a slip that somebody could
make, in one method of one object of one run. Nothing here is ever part of a scheduler that serves.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np

from peekserve.core.backlog import NONE
from peekserve.core.columns import PENDING, WAITING
from peekserve.core.fleet import Committed
from peekserve.core.forwarding import Forwarding
from peekserve.core.scheduler import Scheduler
from peekserve.domain.application import public
from peekserve.domain.gears import Stop
from peekserve.domain.messages import Answer, BatchDone, Command, Unload, Woke
from peekserve.domain.request import Outcome, Reason
from peekserve.sim.story import Plant

PLANTED: dict[str, Plant] = {}
WORDS: dict[str, str] = {}


def planted(words: str) -> Callable[[Plant], Plant]:
    """Under the function's name. `words`: what is wrong, for a table."""

    def keep(plant: Plant) -> Plant:
        name = plant.__name__.strip("_").replace("_", "-")
        PLANTED[name], WORDS[name] = plant, words
        return plant

    return keep


def instead(of: object, method: str, slip: Callable[..., Any]) -> None:
    """`slip(kept, *arguments)` in place of a method of this object; `kept` is what it was."""
    kept = getattr(of, method)
    setattr(of, method, lambda *given, **named: slip(kept, *given, **named))


@planted("a completion that never comes is never missed")
def _lost_completion(scheduler: Scheduler) -> None:
    instead(scheduler._fleet, "next_overdue_at", lambda kept: inf)
    instead(scheduler._fleet, "overdue", lambda kept, now: [])


@planted("a request of several rows is answered by its last row but one, too")
def _double_answer(scheduler: Scheduler) -> None:
    ledger = scheduler._ledger

    def settle_row(kept: Any, entry: Any, row: int, answer: Any, now: float) -> None:
        kept(entry, row, answer, now)
        if entry.left == 1 and len(entry.answers) > 2:
            said = tuple(one or answer for one in entry.answers)
            ledger.out.append(Answer(entry.request.id, Outcome.ANSWERED, Reason.OK, said))

    instead(ledger, "settle_row", settle_row)


@planted("weights that make room are not unloaded")
def _leaked_bytes(scheduler: Scheduler) -> None:
    def commit(kept: Any, *given: Any) -> list[Command]:
        return [command for command in kept(*given) if not isinstance(command, Unload)]

    instead(scheduler._fleet, "commit", commit)


@planted("weights that could not be loaded still count as held")
def _failed_load_kept(scheduler: Scheduler) -> None:
    def load_failed(kept: Any, name: str, weights: str, now: float) -> None:
        loading = scheduler._fleet._workers[name].loading
        if weights in loading:
            loading.remove(weights)

    instead(scheduler._fleet, "load_failed", load_failed)


@planted("who still runs at the deadline is told one millisecond after it")
def _deadline_off_by_one(scheduler: Scheduler) -> None:
    backlog = scheduler._backlog

    def take(kept: Any, slots: Any) -> None:
        backlog.told_at[slots] = np.maximum(backlog.told_at[slots], backlog.due_at[slots]) + 0.001
        kept(slots)

    instead(backlog, "take", take)


@planted("rows of a worker that died are not put back")
def _no_requeue(scheduler: Scheduler) -> None:
    instead(scheduler._returns, "lost", lambda kept, worker, *rest: scheduler._fleet.down(worker) and None)


@planted("a batch of a worker that died still counts when its completion comes after all")
def _dead_worker_counts(scheduler: Scheduler) -> None:
    fleet = scheduler._fleet
    lost: dict[int, Committed] = {}

    def down(kept: Any, name: str) -> list[Committed]:
        batches: list[Committed] = kept(name)
        lost.update((batch.id, batch) for batch in batches)
        return batches

    instead(fleet, "down", down)
    instead(fleet, "done", lambda kept, number, at: kept(number, at) or lost.pop(number, None))


class _Hasty(Forwarding):
    def done(
        self, batch: Committed, stop: Stop, event: BatchDone, places: Sequence[int], now: float
    ) -> Sequence[int]:
        answered = Forwarding.done(self, batch, stop, event, places, now)
        for i in set(places) - set(answered):
            entry = self.ledger.open[batch.refs[i].request_id]
            if entry.left == 1 == len(entry.answers):
                said = (entry.in_hand[0],)
                self.ledger.out.append(Answer(entry.request.id, Outcome.ANSWERED, Reason.OK, said))
        return answered


@planted("a row that goes on to the next stage is answered by the first one as well")
def _forwarded_twice(scheduler: Scheduler) -> None:
    kept = scheduler._forwarding
    hasty = _Hasty(kept.catalogue, kept.backlog, kept.fleet, kept.ledger, kept.offer)
    scheduler._forwarding = hasty
    scheduler._returns._forwarding = hasty


@planted("no alarm is set for the deadline of rows that run")
def _no_alarm(scheduler: Scheduler) -> None:
    instead(scheduler._backlog, "next_running_due_at", lambda kept: inf)


@planted("the alarm is not set again when it rang and there was nothing to do")
def _alarm_not_again(scheduler: Scheduler) -> None:
    heard: list[object] = []

    def handle(kept: Any, event: object, now: float) -> list[Command]:
        heard[:] = [event]
        commands: list[Command] = kept(event, now)
        return commands

    def set_timer(kept: Any, now: float) -> None:
        if scheduler._ledger.out or not isinstance(heard[0], Woke):
            kept(now)

    instead(scheduler, "handle", handle)
    instead(scheduler._turns, "set_timer", set_timer)


@planted("beliefs after a peek do not sum to 1")
def _belief_not_normalised(scheduler: Scheduler) -> None:
    backlog = scheduler._backlog

    def observe(kept: Any, slots: list[int], counts: Any) -> None:
        kept(slots, counts)
        backlog.theta[slots] *= 1.0 + 0.1 * counts.sum(axis=1, keepdims=True)

    instead(backlog, "observe", observe)


@planted("a batch is made of rows that were cancelled while the plan was held")
def _cancelled_row_runs(scheduler: Scheduler) -> None:
    def left(kept: Any, rows: Any) -> list[int]:
        return list(rows.slots)

    instead(scheduler._turns._held, "_left", left)


@planted("a cancelled row that waits is not taken from those that wait")
def _cancelled_row_waits(scheduler: Scheduler) -> None:
    ledger, backlog = scheduler._ledger, scheduler._backlog

    def close(kept: Any, entry: Any, outcome: Outcome, *words: Any) -> None:
        if outcome is Outcome.CANCELLED and (backlog.state[entry.slots] == WAITING).all():
            del ledger.open[entry.request.id]
            ledger.refuse(entry.request.id, outcome, *words)
        else:
            kept(entry, outcome, *words)

    instead(ledger, "close", close)


@planted("scores of a batch are taken in the wrong order")
def _rows_mixed_up(scheduler: Scheduler) -> None:
    def done(kept: Any, event: BatchDone, *rest: Any) -> bool:
        turned = BatchDone(event.batch_id, event.scores[::-1], event.started_at, event.finished_at)
        return bool(kept(turned, *rest))

    instead(scheduler._returns, "done", done)


@planted("a variant that failed on a row is asked again")
def _failed_variant_again(scheduler: Scheduler) -> None:
    instead(scheduler._backlog, "forbid", lambda kept, slot, variant: None)


@planted("a worker with a batch counts as free")
def _two_batches_at_once(scheduler: Scheduler) -> None:
    workers = scheduler._fleet._workers
    instead(
        scheduler._fleet, "available",
        lambda kept, now, lead_s: [w.name for w in workers.values() if w.up and len(w.queue) < 2],
    )  # fmt: skip


@planted("a true class is learnt every time that it is told")
def _learnt_twice(scheduler: Scheduler) -> None:
    feedback = scheduler.feedback

    def confirm(kept: Any, request_id: str, *rest: Any) -> Any:
        first = feedback._first.get(request_id)
        if first is not None:
            slots = feedback._slots(first)
            feedback._state[slots] = np.minimum(feedback._state[slots], 1)
        return kept(request_id, *rest)

    instead(feedback, "confirm", confirm)


@planted("an answer in hand is forgotten when the worker of the next model dies")
def _hand_emptied(scheduler: Scheduler) -> None:
    ledger, backlog = scheduler._ledger, scheduler._backlog

    def lost(kept: Any, worker: str, *rest: Any) -> None:
        for batch in scheduler._fleet.batches():
            for slot, ref in zip(batch.slots, batch.refs, strict=True):
                if batch.worker == worker and ledger.owns(slot, ref) and backlog.in_hand[slot]:
                    ledger.open[ref.request_id].in_hand.pop(ref.row)
                    backlog.in_hand[slot] = False
        kept(worker, *rest)

    instead(scheduler._returns, "lost", lost)


@planted("a worker that is asked to restart still gets work")
def _suspect_trusted(scheduler: Scheduler) -> None:
    instead(scheduler._fleet, "suspect", lambda kept, name: None)


@planted("a peek that never comes is waited for")
def _peek_waited_for(scheduler: Scheduler) -> None:
    backlog = scheduler._backlog
    instead(backlog, "next_ready_at", lambda kept: inf)
    instead(backlog, "release_overdue", lambda kept, now: NONE)
    instead(backlog, "next_doom_at", lambda kept: kept() if not (backlog.state == PENDING).any() else inf)


@planted("who is turned away for others is told so twice")
def _shed_twice(scheduler: Scheduler) -> None:
    shedding, ledger = scheduler._arrivals._shedding, scheduler._ledger

    def let_go(kept: Any, entry: Any, *rest: Any) -> None:
        kept(entry, *rest)
        ledger.refuse(entry.request.id, Outcome.REFUSED, Reason.OVERLOADED, "no room")

    instead(shedding, "_let_go", let_go)


@planted("a floor on accuracy is forgotten when the row is taken in")
def _below_floor(scheduler: Scheduler) -> None:
    backlog = scheduler._backlog
    instead(backlog, "add", lambda kept, request, *rest: kept(replace(request, min_accuracy=0.0), *rest))


@planted("bytes of who hangs up are counted for ever")
def _bytes_counted_for_ever(scheduler: Scheduler) -> None:
    ledger = scheduler._ledger

    def close(kept: Any, entry: Any, outcome: Outcome, *words: Any) -> None:
        kept(entry, outcome, *words)
        if outcome is Outcome.CANCELLED:
            ledger.bytes += entry.request.bytes

    instead(ledger, "close", close)


@planted("who is begun may be turned away for others")
def _begun_shed(scheduler: Scheduler) -> None:
    instead(scheduler._ledger, "begin", lambda kept, entry: None)


@planted("all are planned together, whatever their priority")
def _levels_mixed(scheduler: Scheduler) -> None:
    backlog = scheduler._backlog

    def add(kept: Any, *given: Any) -> Any:
        slots = kept(*given)
        backlog.level[slots] = 1
        return slots

    instead(backlog, "add", add)


@planted("what is unloaded by hand is still given to new requests")
def _unloaded_still_served(scheduler: Scheduler) -> None:
    offer = scheduler._offer
    instead(offer, "offer", lambda kept, lanes, variants: None)


@planted("rows that were let in before an unload are forgotten when weights are let go")
def _unloaded_too_soon(scheduler: Scheduler) -> None:
    offer, lanes = scheduler._offer, scheduler._catalogue.lanes

    def needed(kept: Any) -> tuple[set[int], bool]:
        own = (lane.weights[offer.offered[i, : len(lane.variants)]] for i, lane in enumerate(lanes))
        return {int(w) for weights in own for w in weights}, False

    instead(scheduler._editions, "_needed", needed)


@planted("weights of what is unloaded stay where they are")
def _unloaded_stays(scheduler: Scheduler) -> None:
    instead(scheduler._fleet, "drop", lambda kept, needed: [])
    instead(scheduler._fleet, "holds_other_than", lambda kept, needed: False)


@planted("requests for a revision are served by the one before")
def _served_by_the_other(scheduler: Scheduler) -> None:
    def take(kept: Any, request: Any, now: float) -> bool:
        return bool(kept(replace(request, application=public(request.application)), now))

    instead(scheduler._arrivals, "take", take)

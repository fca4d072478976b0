"""What the workers of a run were given and hold, kept by `sim/audit.py` from events and commands alone.

A batch is given only to a worker that is up, with weights that it holds, for rows that are open and run nowhere else;
it ends, fails, or goes with its worker. What never fits is said by InvariantBroken.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import Application, Variant
from peekserve.domain.messages import BatchDone, Load, RunBatch
from peekserve.domain.request import Request, RowRef
from peekserve.errors import InvariantBroken
from peekserve.sim.driver import SimWorker

# Instants are sums of the same numbers in another order.
ROUNDING_S = 1e-9


@dataclass(slots=True)
class _Worker:
    device: str
    budget: float
    up: bool = False
    held: set[str] = field(default_factory=set)
    # Batches that it has and did not end, by id.
    given: dict[int, RunBatch] = field(default_factory=dict)
    # What each of them should take once its weights are there.
    run_s: dict[int, float] = field(default_factory=dict)


@dataclass(slots=True)
class Given:
    """A batch that a worker was given, and how it ended well, if it did."""

    command: RunBatch
    done: BatchDone | None = None


class Workbook:
    """`said`: rows of which a batch has said something, answered or not."""

    def __init__(
        self, spec: SchedulerSpec, applications: Sequence[Application], workers: Sequence[SimWorker]
    ) -> None:
        self._spec = spec
        self._classes = {app.key: len(app.classes) for app in applications}
        self._variants = {(app.key, v.name): v for app in applications for v in app.variants}
        self._workers = {one.name: _Worker(one.device, one.budget_bytes) for one in workers}
        self._batches: dict[int, Given] = {}
        self._running: dict[RowRef, int] = {}
        self._failed: set[tuple[RowRef, str]] = set()
        self._broken: set[tuple[str, str]] = set()
        self._offered = {app.key: frozenset(v.name for v in app.variants) for app in applications}
        self._may_use: dict[str, frozenset[str]] = {}
        self.said: set[RowRef] = set()

    # ---- what happened ----

    def arrived(self, request: Request) -> bool:
        """Does anything that it may use take new requests?"""
        offered = self._offered[request.application]
        self._may_use[request.id] = offered
        return bool(offered) if request.pinned is None else request.pinned in offered

    def offered(self, key: str, variants: Sequence[str]) -> None:
        self._offered[key] = frozenset(variants)
        tried = {self._variants[key, name].weights for name in variants}
        self._broken = {one for one in self._broken if one[1] not in tried}

    def up(self, name: str) -> None:
        worker = self._workers[name]
        worker.up, worker.held = True, set()
        self._broken = {one for one in self._broken if one[0] != name}

    def down(self, name: str) -> list[RowRef]:
        """The rows that ran there."""
        worker = self._workers[name]
        worker.up, worker.held = False, set()
        lost = list(worker.given.values())
        for batch in lost:
            self._ended(batch)
        return [ref for batch in lost for ref in batch.rows]

    def done(self, event: BatchDone) -> list[RowRef]:
        """The rows that it failed, all or none."""
        batch = self._begun(event.batch_id)
        if batch is None:
            return []
        batch.done = event
        self._ended(batch.command)
        if event.scores.shape != (len(batch.command.rows), self._classes[batch.command.application]):
            return self._fails(batch.command)
        self.said.update(batch.command.rows)
        return []

    def failed(self, batch_id: int) -> list[RowRef]:
        """The rows of that batch."""
        batch = self._begun(batch_id)
        if batch is None:
            return []
        self._ended(batch.command)
        return self._fails(batch.command)

    def load_failed(self, name: str, weights: str) -> None:
        self._workers[name].held.discard(weights)
        self._broken.add((name, weights))

    # ---- what followed ----

    def unload(self, name: str, weights: str) -> None:
        if weights not in self._workers[name].held:
            self._broke(f"{weights!r} are unloaded from {name!r}, which does not hold them")
        self._workers[name].held.discard(weights)

    def run(self, batch: RunBatch, load_s: float, open_: Mapping[str, Request]) -> None:
        worker, variant = self._workers[batch.worker], self._variants[batch.application, batch.variant]
        if batch.batch_id in self._batches:
            self._broke(f"batch {batch.batch_id} is run twice")
        if not worker.up:
            self._broke(f"batch {batch.batch_id} is given to {batch.worker!r}, which is not up")
        if variant.weights not in worker.held:
            self._broke(
                f"batch {batch.batch_id} runs {variant.weights!r}, which {batch.worker!r} does not hold"
            )
        if worker.device not in variant.timing:
            self._broke(f"{batch.worker!r} cannot run {batch.application!r} {batch.variant!r}")
        if not 1 <= len(batch.rows) <= variant.max_batch or len(set(batch.rows)) != len(batch.rows):
            self._broke(f"batch {batch.batch_id} of {batch.variant!r} has rows {batch.rows}")
        self._beyond_lead(batch, worker)
        for ref in batch.rows:
            self._may_run(ref, batch, variant, open_)
            self._running[ref] = batch.batch_id
        self._batches[batch.batch_id] = Given(batch)
        worker.given[batch.batch_id] = batch
        worker.run_s[batch.batch_id] = batch.predicted_s - load_s

    def _beyond_lead(self, batch: RunBatch, worker: _Worker) -> None:
        """What waits behind the running batch should take no longer than the lead, and as much again where the running
        one is late already."""
        whole = self._spec.planning != "rolling" and "rebalance" not in self._spec.planning
        if whole or not worker.given:
            return
        waiting_s = sum(list(worker.run_s.values())[1:])
        if self._spec.lead_s == 0.0 or waiting_s > 2.0 * self._spec.lead_s + ROUNDING_S:
            self._broke(f"batch {batch.batch_id} is given to {batch.worker!r} beside {sorted(worker.given)}")

    def _may_run(self, ref: RowRef, batch: RunBatch, variant: Variant, open_: Mapping[str, Request]) -> None:
        request = open_.get(ref.request_id)
        what = f"batch {batch.batch_id} runs row {ref.row} of {ref.request_id!r}"
        if request is None:
            self._broke(f"{what}, which is not open")
            return
        if ref in self._running:
            self._broke(f"{what}, which runs in batch {self._running[ref]}")
        same = request.application == batch.application and request.bucket == batch.bucket
        has = request.inputs is None or set(variant.needs) <= set(request.inputs)
        if not same or not 0 <= ref.row < request.rows or not has:
            self._broke(f"{what}, which is none of its kind")
        if request.pinned not in (None, batch.variant):
            self._broke(f"{what} with {batch.variant!r}, and the client named {request.pinned!r}")
        if request.level != open_[batch.rows[0].request_id].level:
            self._broke(f"{what} with rows of another priority")
        quality = variant.quality
        if request.min_accuracy > 0.0 and (quality is None or not quality.reaches(request.min_accuracy)):
            self._broke(f"{what} with {batch.variant!r}, and at least {request.min_accuracy} is asked for")
        if batch.variant not in self._may_use[ref.request_id]:
            self._broke(f"{what} with {batch.variant!r}, which was not offered any more when it came")
        if (ref, batch.variant) in self._failed:
            self._broke(f"{what} with {batch.variant!r}, which failed on it before")
        if (batch.worker, variant.weights) in self._broken:
            self._broke(f"{what} with {variant.weights!r}, which {batch.worker!r} could not load")

    def load(self, command: Load) -> float:
        """What the batch behind it has to wait for this load, as believed; 0 if none does."""
        worker = self._workers[command.worker]
        if not worker.up:
            self._broke(f"{command.worker!r} is to load {command.weights!r}, and is not up")
        if command.weights in worker.held:
            self._broke(f"{command.worker!r} is to load {command.weights!r}, which it holds")
        worker.held.add(command.weights)
        held = sum(self._bytes(weights, worker.device) for weights in worker.held)
        if held > worker.budget and len(worker.held) > 1:
            self._broke(f"{command.worker!r} holds {held} bytes of {worker.budget}: {sorted(worker.held)}")
        timing = self._variants[command.application, command.variant].timing[worker.device]
        return 0.0 if command.warm else timing.load_s

    def _bytes(self, weights: str, device: str) -> int:
        sizes: Iterable[int] = (
            v.timing[device].bytes
            for v in self._variants.values()
            if v.weights == weights and device in v.timing
        )
        return max(sizes, default=0)

    def restart(self, name: str) -> None:
        worker = self._workers[name]
        if not worker.up or not worker.given:
            self._broke(f"worker {name!r} is restarted, and has nothing to do")
        worker.up = False

    def batch(self, batch_id: int | None) -> Given | None:
        return self._batches.get(-1 if batch_id is None else batch_id)

    def end(self) -> None:
        """Nothing will happen any more: no batch may be left, and no weights that nobody may use."""
        used = {self._variants[key, name].weights for key, names in self._offered.items() for name in names}
        for name, worker in self._workers.items():
            if worker.up and worker.held - used:
                self._broke(f"worker {name!r} still holds {sorted(worker.held - used)}, which nobody may use")
            if worker.up and worker.given:
                self._broke(f"worker {name!r} still has batches {sorted(worker.given)} that never ended")

    # ---- inside ----

    def _begun(self, batch_id: int) -> Given | None:
        batch = self._batches.get(batch_id)
        return batch if batch is not None and batch_id in self._workers[batch.command.worker].given else None

    def _fails(self, batch: RunBatch) -> list[RowRef]:
        if (batch.worker, self._variants[batch.application, batch.variant].weights) not in self._broken:
            self._failed |= {(ref, batch.variant) for ref in batch.rows}
        return list(batch.rows)

    def _ended(self, batch: RunBatch) -> None:
        worker = self._workers[batch.worker]
        del worker.given[batch.batch_id], worker.run_s[batch.batch_id]
        for ref in batch.rows:
            self._running.pop(ref, None)

    def _broke(self, what: str) -> None:
        raise InvariantBroken(what)

"""A fault story in words: what there was, what happened, what followed, and what was wrong with it."""

from collections.abc import Iterator, Sequence
from dataclasses import fields

from peekserve.core.spec import SchedulerSpec
from peekserve.domain.application import OnMiss
from peekserve.domain.messages import (
    Acknowledge,
    Answer,
    Arrived,
    BatchDone,
    BatchFailed,
    Cancelled,
    Command,
    Confirmed,
    Event,
    Load,
    Loaded,
    LoadFailed,
    Offered,
    Peek,
    Peeked,
    Recalled,
    Registered,
    Restart,
    RunBatch,
    Unload,
    Unloaded,
    WakeAt,
    Woke,
    WorkerDown,
    WorkerUp,
)
from peekserve.domain.request import Request
from peekserve.sim.setting import DEVICES
from peekserve.sim.story import Failure, Plant, Story, live

LONGEST = 60  # lines of what happened; the last ones count


def tale(story: Story, plant: Plant | None = None) -> str:
    """Lives through a story once more and tells it, a line for each thing."""
    lines: list[str] = []

    def look(event: Event, now: float, commands: Sequence[Command]) -> None:
        followed = "; ".join(_followed(command) for command in commands)
        lines.append(
            f"  {now * 1e3:10.3f} ms  {_happened(event)}" + (f"  ->  {followed}" if followed else "")
        )

    failure = live(story, plant, look)
    left_out = max(len(lines) - LONGEST, 0)
    told = [f"  ... {left_out} events before ..."] * bool(left_out) + lines[left_out:]
    return "\n".join([*_setting(story), "what happened, and what followed:", *told, _end(failure)])


def _setting(story: Story) -> Iterator[str]:
    own = SchedulerSpec(policy=story.spec.policy)
    changed = [
        f"{field.name}={getattr(story.spec, field.name)!r}"
        for field in fields(SchedulerSpec)
        if getattr(story.spec, field.name) != getattr(own, field.name)
    ]
    yield f"scheduler: {story.spec.policy}" + "".join(f", {one}" for one in changed)
    for worker in story.workers:
        slower = DEVICES[worker.device]
        yield f"worker {worker.name}: {worker.device} ({slower:g} times the time), {worker.budget_bytes} bytes"
    for name, on_miss in (("x", story.x), ("y", story.y)):
        if any(request.application == name for request in story.requests):
            yield f"application {name}: on_miss {on_miss}"
    for request in story.requests:
        yield f"request {_asked(request, story)}"
    for kill in story.kills:
        unnoticed = f", noticed {kill.unnoticed_s * 1e3:g} ms later" if kill.unnoticed_s else ""
        haunts = ", what it had begun is told all the same" if kill.haunts else ""
        yield f"kill: {kill.worker} at {kill.at * 1e3:g} ms, back {kill.back_s * 1e3:g} ms later{unnoticed}{haunts}"
    for mishap in story.mishaps:
        by = f" by {mishap.seconds * 1e3:g} ms" if mishap.seconds else ""
        yield f"mishap: {mishap.of} number {mishap.nth} is {mishap.what}{by}"
    for stray in story.strays:
        yield f"stray: {stray.what} {stray.request_id} at {stray.at * 1e3:g} ms"
    for change in story.changes:
        what = "joins" if change.variants is None else f"offers {', '.join(change.variants) or 'nothing'}"
        yield f"change: {change.key} {what} at {change.at * 1e3:g} ms"
    for pause in story.pauses:
        yield f"pause: nothing is heard for {pause.seconds * 1e3:g} ms from {pause.at * 1e3:g} ms on"
    for pace in story.paces:
        drift = f", {pace.drift:g} times that every second" if pace.drift != 1.0 else ""
        yield f"wrong profile: {pace.application}/{pace.variant} takes {pace.factor:.3g} times as long{drift}"
    for slow in story.slows:
        until = f"{slow.at * 1e3:g} to {(slow.at + slow.seconds) * 1e3:g} ms"
        yield f"slow: {slow.worker} takes {slow.factor:.3g} times as long from {until}"


def _asked(request: Request, story: Story) -> str:
    on_miss = story.spec.on_miss or (story.x if request.application == "x" else story.y)
    wishes = [
        f"{name}={getattr(request, name)!r}"
        for name, plain in (
            ("pinned", None), ("inputs", None), ("counts", None), ("bucket", 0), ("explain", False),
            ("query", "default"), ("priority", 0), ("min_accuracy", 0.0), ("bytes", 0),
        )
        if getattr(request, name) != plain
    ]  # fmt: skip
    due = "due" if on_miss is not OnMiss.LATE else "wanted"
    rows = "1 row" if request.rows == 1 else f"{request.rows} rows"
    return (
        f"{request.id}: {rows} of {request.application} at {request.arrived_at * 1e3:g} ms, {due} at "
        f"{request.due_at * 1e3:g} ms" + "".join(f", {wish}" for wish in wishes)
    )


def _happened(event: Event) -> str:
    match event:
        case Arrived(request):
            return f"{request.id} came"
        case Peeked(request_id, counts):
            return f"{request_id} was looked at" + ("" if counts is not None else ", in vain")
        case Cancelled(request_id):
            return f"{request_id} was cancelled"
        case BatchDone(batch_id, scores):
            return f"batch {batch_id} ended with scores {scores.shape}"
        case BatchFailed(batch_id):
            return f"batch {batch_id} failed"
        case Loaded(worker, weights):
            return f"{worker} holds {weights}"
        case Unloaded(worker, weights):
            return f"{worker} has forgotten {weights}"
        case LoadFailed(worker, weights):
            return f"{worker} could not load {weights}"
        case WorkerUp(worker):
            return f"{worker} came up"
        case WorkerDown(worker):
            return f"{worker} went down"
        case Confirmed(request_id):
            return f"{request_id} was confirmed"
        case Woke():
            return "the alarm rang"
        case Recalled():
            return "lessons were recalled"
        case Registered(application):
            return f"{application.key} joined"
        case Offered(key, variants):
            return f"{key} offers {', '.join(variants) or 'nothing'}"


def _followed(command: Command) -> str:
    match command:
        case Peek(request_id):
            return f"look at {request_id}"
        case Unload(worker, weights):
            return f"{worker} unloads {weights}"
        case Load(worker, weights):
            return f"{worker} loads {weights}"
        case RunBatch(number, worker, application, variant, _, rows):
            of = " ".join(f"{ref.request_id}.{ref.row}" for ref in rows)
            return f"batch {number} on {worker}: {application}/{variant} of {of}"
        case Answer(request_id, outcome, reason, rows):
            by = ",".join(dict.fromkeys(row.variant or row.source for row in rows))
            return f"{request_id} {outcome} ({by or reason})"
        case Restart(worker):
            return f"restart {worker}"
        case Acknowledge(request_id, verdict):
            return f"confirmation of {request_id}: {verdict}"
        case WakeAt(at):
            return f"wake at {at * 1e3:.3f}"


def _end(failure: Failure | None) -> str:
    if failure is None:
        return "nothing is wrong with it"
    return f"at {failure.at * 1e3:.3f} ms: {failure.told}"

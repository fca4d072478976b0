"""How a live run differed from its profiles: read from its journal, for simulations of the same machine."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from peekserve.domain.messages import BatchDone, Load, RunBatch
from peekserve.sim.world import Service
from peekserve.state.journal import JournalReader


def service_of(journal: Path) -> Service:
    """The paces of each variant's batches (what each took over what was predicted, loads left out), and the way to and
    from the workers: medians over batches that found their worker idle, and over all ends."""
    run: dict[int, tuple[float, RunBatch, bool]] = {}
    took: dict[tuple[str, str], list[float]] = defaultdict(list)
    there, back = [], []
    ended_at: dict[str, float] = defaultdict(lambda: -1.0)
    for step in JournalReader(journal):
        loads = {command.worker for command in step.commands if isinstance(command, Load)}
        for command in step.commands:
            if isinstance(command, RunBatch):
                run[command.batch_id] = (step.now, command, command.worker in loads)
        if isinstance(step.event, BatchDone) and step.event.batch_id in run:
            done = step.event
            sent_at, command, loaded = run.pop(done.batch_id)
            if not loaded:  # what was predicted holds the load, what was measured does not
                seconds = done.finished_at - done.started_at
                took[command.application, command.variant].append(seconds / command.predicted_s)
            if not loaded and sent_at > ended_at[command.worker]:
                there.append(done.started_at - sent_at)
            back.append(step.now - done.finished_at)
            ended_at[command.worker] = done.finished_at
    ways = [float(np.median(way)) for way in (there, back) if way]
    return Service({key: tuple(paces) for key, paces in took.items()}, sum(ways) / 2 if ways else 0.0)

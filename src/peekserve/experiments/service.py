"""How a live run differed from its profiles: read from its journal, for simulations of the same machine."""

from collections import defaultdict
from pathlib import Path

import numpy as np

from peekserve.domain.messages import BatchDone, Load, RunBatch
from peekserve.sim.world import Service
from peekserve.state.journal import JournalReader


def service_of(journal: Path) -> Service:
    """The paces of each variant's batches (what each took over what was predicted, loads apart), and the way to and
    from the workers: medians over batches that found their worker idle, and over all ends."""
    run: dict[int, tuple[float, RunBatch, bool]] = {}
    took: dict[tuple[str, str], list[float]] = defaultdict(list)
    loads: dict[tuple[str, str], list[float]] = defaultdict(list)
    there, back = [], []
    ended_at: dict[str, float] = defaultdict(lambda: -1.0)
    for step in JournalReader(journal):
        loading = {command.worker for command in step.commands if isinstance(command, Load)}
        for command in step.commands:
            if isinstance(command, RunBatch):
                run[command.batch_id] = (step.now, command, command.worker in loading)
        if isinstance(step.event, BatchDone) and step.event.batch_id in run:
            done = step.event
            sent_at, command, loaded = run.pop(done.batch_id)
            if loaded:
                began_at = max(sent_at, ended_at[command.worker])
                loads[command.application, command.variant].append(done.started_at - began_at)
            else:  # what was predicted of the others holds the load, what was measured does not
                seconds = done.finished_at - done.started_at
                took[command.application, command.variant].append(seconds / command.predicted_s)
            if not loaded and sent_at > ended_at[command.worker]:
                there.append(done.started_at - sent_at)
            back.append(step.now - done.finished_at)
            ended_at[command.worker] = done.finished_at
    ways = [float(np.median(way)) for way in (there, back) if way]
    paces, swaps = ({key: tuple(seen) for key, seen in each.items()} for each in (took, loads))
    return Service(paces, swaps, sum(ways) / 2 if ways else 0.0)

"""Training a supernet: the sandwich rule with in-place distillation (Yu and Huang, ICCV 2019, sections 3 and 4).

In each step the largest subnet learns from the labels; the smallest and two random ones learn what the largest says of
the same rows. Their gradients add up, then the shared weights move once. So the two ends of the space, between which
all others lie, are trained in every step, and small subnets have a teacher that costs nothing extra.

Here is also what every training of ours is made of: seeds, batches and the learning rate's course. A training that is
killed goes on from its checkpoint (checkpoint.py) to the very weights that it would have reached.
"""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from peekserve.supernets.checkpoint import Checkpoint, Course
from peekserve.supernets.operators import Supernet
from peekserve.supernets.space import Subnet

SMOOTHING = 0.05  # of labels
RANDOM = 2  # subnets a step, beside the largest and the smallest

Batch = tuple[
    list[NDArray[np.float32]], NDArray[np.int64]
]  # the model's inputs in the order of its arguments, labels
Epoch = Callable[
    [np.random.Generator], list[Batch]
]  # the training rows as they are seen in one epoch, shuffled


def shuffled(
    inputs: list[NDArray[np.float32]], labels: NDArray[np.int64], rng: np.random.Generator, size: int = 64
) -> list[Batch]:
    """All rows in random batches of about `size`."""
    order = rng.permutation(len(labels))
    parts = np.array_split(order, max(1, -(-len(labels) // size)))
    return [([values[rows] for values in inputs], labels[rows]) for rows in parts]


def as_seen(
    rows: NDArray[np.float32],
    labels: NDArray[np.int64],
    changed: Callable[[NDArray[np.float32], np.random.Generator], NDArray[np.float32]],
    per_class: int | None = None,
    size: int = 64,
) -> Epoch:
    """Epochs of all rows as `changed` shows them, or of `per_class` rows of each class at most, drawn anew each time:
    where one class is most of the data, little is learnt of the others."""
    members = [np.flatnonzero(labels == c) for c in np.unique(labels)]

    def epoch(rng: np.random.Generator) -> list[Batch]:
        if per_class is None:
            return shuffled([changed(rows, rng)], labels, rng, size)
        some = np.concatenate([rng.permutation(of)[:per_class] for of in members])
        return shuffled([changed(rows[some], rng)], labels[some], rng, size)

    return epoch


def seeded(seed: int) -> None:
    """Before a network is built: its first weights, its dropout and its threads are then fixed."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)


def one_cycle(
    parameters: Iterable[nn.Parameter], epochs: int, peak: float
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW with one rise and fall of the learning rate up to `peak`, a step an epoch: where lengths vary, the number
    of batches does from epoch to epoch."""
    optimiser = torch.optim.AdamW(parameters, lr=peak, weight_decay=1e-2)
    return optimiser, torch.optim.lr_scheduler.OneCycleLR(optimiser, peak, epochs=epochs, steps_per_epoch=1)


@dataclass(frozen=True, slots=True)
class Progress:
    """After one epoch: mean losses of its steps."""

    epoch: int
    epochs: int
    largest: float
    smallest: float


@dataclass(frozen=True, slots=True)
class Spent:
    """What a training took: seconds of this process's processor time, optimiser steps, and the rows that each subnet
    was shown, from which whoever knows what a row costs can tell the work."""

    cpu_s: float
    steps: int
    rows: dict[Subnet, int]


def sandwich(
    supernet: Supernet, inputs: list[NDArray[np.float32]], labels: NDArray[np.int64], subnets: list[Subnet]
) -> tuple[float, float]:
    """Add one batch's gradients to the shared weights; (loss of the largest subnet, of the smallest).

    `subnets`: those that learn from the largest, the smallest of the space first.
    """
    rows = [torch.from_numpy(values) for values in inputs]
    supernet.actuate(supernet.space.largest)
    scores = supernet(*rows)
    loss = functional.cross_entropy(scores, torch.from_numpy(labels), label_smoothing=SMOOTHING)
    loss.backward()
    said = torch.softmax(scores.detach(), 1)
    losses = []
    for subnet in subnets:
        supernet.actuate(subnet)
        taught = functional.cross_entropy(supernet(*rows), said)
        taught.backward()
        losses.append(taught.item())
    return loss.item(), losses[0]


def train(
    supernet: Supernet,
    epoch: Epoch,
    epochs: int,
    seed: int,
    peak: float = 4e-3,
    seen: Callable[[Progress], None] = lambda progress: None,
    checkpoint: Checkpoint | None = None,
) -> Spent:
    """Train the shared weights in place; the supernet is left in evaluation mode, with the largest subnet's statistics
    alone.

    `epoch(rng)` gives the training rows anew in each epoch. Same seed (and `seeded` before the network was built), same
    weights. `checkpoint` is written after every epoch; where one is there, the training goes on from it, and its result
    is that of a training that was never cut off, to the last bit. `seen` is told where it goes on from, and after every
    epoch that runs here. Raises InvalidModel for a checkpoint that cannot be gone on from (`Checkpoint.read`).
    """
    rng = np.random.default_rng(seed)
    optimiser, schedule = one_cycle(supernet.parameters(), epochs, peak)
    space = supernet.space
    for name in [name for name in supernet.norms if name != space.largest.name]:
        del supernet.norms[name]  # the weights that they belong to are about to go
        supernet.forget(Subnet.parse(name))
    supernet.train()
    course, spent = Course(supernet.network, optimiser, schedule, rng), Spent(0.0, 0, {})
    told = {"epochs": str(epochs), "seed": str(seed), "peak": str(peak), "space": str(space)}
    done = 0
    if checkpoint is not None and (found := checkpoint.read(told)) is not None:
        done, spent = found.epoch, Spent(found.cpu_s, found.steps, dict(found.rows))
        course.restore(found)
        seen(Progress(done, epochs, *found.losses))
    for i in range(done, epochs):
        began, losses = time.process_time(), []
        steps, rows = spent.steps, spent.rows
        for inputs, labels in epoch(rng):
            subnets = [space.smallest, *(space.sample(rng) for _ in range(RANDOM))]
            optimiser.zero_grad()
            losses.append(sandwich(supernet, inputs, labels, subnets))
            optimiser.step()
            steps += 1
            for subnet in (space.largest, *subnets):
                rows[subnet] = rows.get(subnet, 0) + len(labels)
        schedule.step()
        spent = replace(spent, cpu_s=spent.cpu_s + time.process_time() - began, steps=steps)
        largest, smallest = np.mean(losses, axis=0).tolist()
        if checkpoint is not None:
            state = course.state(i + 1, (largest, smallest), spent.cpu_s, spent.steps, spent.rows)
            checkpoint.write(told, state)
        seen(Progress(i + 1, epochs, largest, smallest))
    supernet.eval()
    return spent

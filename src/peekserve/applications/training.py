"""Fitting and exporting the demo's networks. Only `train.py` files import this, since only it and `nets.py` need torch.

Everything is seeded and runs on one thread, so that a second run on the same machine gives the same weights.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

OPSET = 17

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


def seeded(seed: int) -> None:
    """Before a network is built: its first weights, its dropout and its threads are then fixed."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)


def fit(net: nn.Module, epoch: Epoch, epochs: int, seed: int, peak: float = 4e-3) -> nn.Module:
    """AdamW with one rise and fall of the learning rate up to `peak`; `epoch(rng)` may augment anew each time."""
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(net.parameters(), lr=peak, weight_decay=1e-2)
    # A step an epoch: where lengths vary, the number of batches does from epoch to epoch.
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak, epochs=epochs, steps_per_epoch=1)
    net.train()
    for _ in range(epochs):
        for inputs, labels in epoch(rng):
            scores = net(*(torch.from_numpy(values) for values in inputs))
            loss = functional.cross_entropy(scores, torch.from_numpy(labels), label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
    return net.eval()


def export(
    net: nn.Module,
    path: Path,
    examples: Sequence[NDArray[np.float32]],
    inputs: Sequence[str],
    output: str,
    free: dict[str, dict[int, str]] | None = None,
) -> None:
    """Write ONNX with a free batch axis on every tensor, and the further free axes of `free`.

    By the tracing exporter: the newer one needs a package more, and these networks branch on nothing.
    """
    axes = {name: {0: "n", **(free or {}).get(name, {})} for name in (*inputs, output)}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        net.eval(),
        tuple(torch.from_numpy(example) for example in examples),
        str(path),
        input_names=list(inputs),
        output_names=[output],
        dynamic_axes=axes,
        opset_version=OPSET,
        dynamo=False,
    )

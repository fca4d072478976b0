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

# The training rows as they are seen in one epoch: the model's inputs, in the order of its arguments, and the labels.
Epoch = Callable[[np.random.Generator], tuple[list[NDArray[np.float32]], NDArray[np.int64]]]


def seeded(seed: int) -> None:
    """Before a network is built: its first weights, its dropout and its threads are then fixed."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)


def fit(net: nn.Module, epoch: Epoch, epochs: int, seed: int, peak: float = 4e-3, batch: int = 64) -> nn.Module:
    """AdamW with one rise and fall of the learning rate up to `peak`; `epoch(rng)` may augment anew each time."""
    rng = np.random.default_rng(seed)
    rows = len(epoch(np.random.default_rng(seed))[1])
    steps = (rows + batch - 1) // batch
    optimiser = torch.optim.AdamW(net.parameters(), lr=peak, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak, total_steps=epochs * steps)
    net.train()
    for _ in range(epochs):
        inputs, labels = epoch(rng)
        tensors, target = [torch.from_numpy(i) for i in inputs], torch.from_numpy(labels)
        for chosen in torch.from_numpy(rng.permutation(rows)).tensor_split(steps):
            scores = net(*(tensor[chosen] for tensor in tensors))
            loss = functional.cross_entropy(scores, target[chosen], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
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

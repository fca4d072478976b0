"""Fitting and exporting the demo's networks. Only `train.py` files and `family.py` import this: torch is needed here.

Everything is seeded and runs on one thread, so that a second run on the same machine gives the same weights.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from peekserve.supernets.train import SMOOTHING, Batch, Epoch, as_seen, one_cycle, seeded, shuffled

__all__ = ["OPSET", "Batch", "Epoch", "as_seen", "export", "fit", "seeded", "shuffled"]

OPSET = 17


def fit(net: nn.Module, epoch: Epoch, epochs: int, seed: int, peak: float = 4e-3) -> nn.Module:
    """AdamW with one rise and fall of the learning rate up to `peak`; `epoch(rng)` may augment anew each time."""
    rng = np.random.default_rng(seed)
    optimiser, schedule = one_cycle(net.parameters(), epochs, peak)
    net.train()
    for _ in range(epochs):
        for inputs, labels in epoch(rng):
            scores = net(*(torch.from_numpy(values) for values in inputs))
            loss = functional.cross_entropy(scores, torch.from_numpy(labels), label_smoothing=SMOOTHING)
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

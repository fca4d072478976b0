"""A training that was cut off, on disk: all that the next epoch depends on, and what it must be a training of.

One file, written whole or not at all after each epoch: the weights and buffers, the optimiser's and the schedule's
state, both random generators (numpy's draws batches and subnets, torch's draws what dropout leaves out), and what was
spent. So epoch k + 1 begins from the same bits whether epoch k ran in this process or in one that was killed.

It is read with torch's reader for plain tensors and numbers: nothing in it is executed.
"""

import io
import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from peekserve.errors import InvalidModel
from peekserve.supernets.space import Subnet

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Reached:
    """What stands in a checkpoint: `epoch` epochs are done, the last one with these mean `losses`, of the largest
    subnet and of the smallest. `rows`: as in `train.Spent`. The others are torch's."""

    epoch: int
    losses: tuple[float, float]
    cpu_s: float
    steps: int
    rows: Mapping[Subnet, int]
    network: Mapping[str, Any]
    optimiser: Mapping[str, Any]
    schedule: Mapping[str, Any]
    numpy_rng: str
    torch_rng: torch.Tensor


@dataclass(frozen=True, slots=True)
class Course:
    """The parts of a running training that change in it."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    rng: np.random.Generator

    def state(
        self, epoch: int, losses: tuple[float, float], cpu_s: float, steps: int, rows: Mapping[Subnet, int]
    ) -> Reached:
        return Reached(
            epoch,
            losses,
            cpu_s,
            steps,
            rows,
            self.network.state_dict(),
            self.optimiser.state_dict(),
            self.schedule.state_dict(),
            json.dumps(self.rng.bit_generator.state),
            torch.get_rng_state(),
        )

    def restore(self, found: Reached) -> None:
        self.network.load_state_dict(found.network)
        self.optimiser.load_state_dict(dict(found.optimiser))
        self.schedule.load_state_dict(dict(found.schedule))
        self.rng.bit_generator.state = json.loads(found.numpy_rng)
        torch.set_rng_state(found.torch_rng)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """`about`: what the weights depend on beside what `train` knows, such as data and recipe, as texts by their names;
    another text is another training."""

    path: Path
    about: Mapping[str, str]

    def read(self, told: Mapping[str, str]) -> Reached | None:
        """None where there is no file. `told`: as `about`, from the training itself.

        Raises InvalidModel for a file that is cut off or no checkpoint, of another version, or of another training.
        """
        if not self.path.exists():
            return None
        remedy = "name another file with --checkpoint, or delete this one to begin anew"
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise InvalidModel(f"{self.path} cannot be read: {error.strerror}") from error
        try:
            raw = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            version = raw["format"]
            then, reached = (dict(raw[part]) if version == FORMAT else {} for part in ("about", "reached"))
        except (RuntimeError, ValueError, EOFError, LookupError, TypeError, pickle.UnpicklingError) as error:
            # What torch says of it is advice to trust the file.
            raise InvalidModel(
                f"{self.path} is no checkpoint of a supernet's training, or is cut off: {remedy}"
            ) from error
        if version != FORMAT:
            raise InvalidModel(
                f"{self.path} is a checkpoint of format {version}, and this peekserve reads {FORMAT}: {remedy}"
            )
        for name, now in {**told, **self.about}.items():
            if then.get(name) != now:
                raise InvalidModel(
                    f"{self.path} is a checkpoint of another training: {name} {_short(then.get(name))}, "
                    f"here {_short(now)}; {remedy}"
                )
        try:
            rows = {Subnet.parse(name): count for name, count in reached.pop("rows").items()}
            return Reached(rows=rows, **reached)
        except (LookupError, TypeError, AttributeError) as error:
            raise InvalidModel(f"{self.path} is a damaged checkpoint: {remedy}") from error

    def write(self, told: Mapping[str, str], reached: Reached) -> None:
        state = {name: getattr(reached, name) for name in Reached.__slots__}
        state["rows"] = {subnet.name: count for subnet, count in reached.rows.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_name(self.path.name + ".new")
        torch.save({"format": FORMAT, "about": {**told, **self.about}, "reached": state}, scratch)
        os.replace(scratch, self.path)


def _short(text: str | None) -> str:
    return "not in it" if text is None else text if len(text) <= 120 else f"{text[:120]}..."

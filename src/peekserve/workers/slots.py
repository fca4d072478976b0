"""Where batches can run: one slot, one worker process."""

import os
from dataclasses import dataclass, field

from peekserve.errors import InvalidConfiguration
from peekserve.runtimes.spec import RuntimeSpec
from peekserve.workers.ring import DEFAULT_BYTES

# What this process was given at its start: a front that binds itself to one core later still has the others to give.
CORES = frozenset(os.sched_getaffinity(0))


@dataclass(frozen=True, slots=True)
class Slot:
    """One worker. `name` like "cpu:0"; `device` is the key of its timing profiles. `budget_bytes` may be resident at
    once. `cores`: the CPU numbers that it may use, None for all. `ring_bytes`: shared memory for inputs, taken from
    the system only as it is used."""

    name: str
    device: str = "cpu"
    budget_bytes: int = 512 * 2**20
    cores: tuple[int, ...] | None = None
    ring_bytes: int = DEFAULT_BYTES
    runtime: RuntimeSpec = field(default_factory=RuntimeSpec)

    def check(self) -> None:
        """Raises InvalidConfiguration when this machine has no such slot."""
        if self.budget_bytes <= 0:
            raise InvalidConfiguration(
                f"worker {self.name!r}: a budget of {self.budget_bytes} bytes holds no model"
            )
        if self.ring_bytes <= 0:
            raise InvalidConfiguration(
                f"worker {self.name!r}: {self.ring_bytes} bytes of shared memory hold no input"
            )
        if self.cores is not None and not set(self.cores) & CORES:
            raise InvalidConfiguration(
                f"worker {self.name!r}: none of cores {self.cores} is among ours, {sorted(CORES)}"
            )

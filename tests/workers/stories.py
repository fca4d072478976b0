"""Workers that were started, and what they have said so far."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from peekserve.domain.messages import Event, Load, RunBatch, Unload, WorkerUp
from peekserve.domain.request import RowRef
from peekserve.workers.base import Workers

WORKER = "cpu:0"
PATIENCE_S = 20.0


@dataclass
class Story:
    """Everything reported, in order; `next` waits for one more event."""

    workers: Workers
    told: list[Event] = field(default_factory=list)
    _heard: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)

    def report(self, event: Event) -> None:
        self.told.append(event)
        self._heard.put_nowait(event)

    async def start(self) -> "Story":
        self.workers.start(self.report)
        assert isinstance(await self.next(), WorkerUp)
        return self

    async def next(self) -> Event:
        return await asyncio.wait_for(self._heard.get(), PATIENCE_S)

    async def quiet(self, turns: int = 20) -> None:
        """Nothing more is said in some turns of the loop."""
        for _ in range(turns):
            await asyncio.sleep(0)
        assert self._heard.empty(), self.told

    def load(self, variant: str) -> None:
        self.workers.load(Load(WORKER, variant, "tiny", variant))

    def unload(self, variant: str) -> None:
        self.workers.unload(Unload(WORKER, variant))

    def run(self, batch_id: int, variant: str, rows: np.ndarray) -> None:
        refs = tuple(RowRef(f"r{batch_id}", i) for i in range(len(rows)))
        command = RunBatch(batch_id, WORKER, "tiny", variant, 0, refs, 0.001, "full")
        self.workers.run(command, [{"signal": row} for row in rows])


Maker = Callable[[], Workers]

"""Counts by application and variant, in the shape of Triton's statistics extension, which perf_analyzer
reads."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from peekserve.domain.messages import Answer, RunBatch
from peekserve.domain.request import Outcome, Request
from peekserve.server.observing import Counter

# The version that stands for an application as a whole: a number, because perf_analyzer reads versions as
# numbers.
WHOLE = "0"

# A variant's name, or None for the application as a whole.
Which = str | None


@dataclass(slots=True)
class _Duration:
    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.ns += max(round(seconds * 1e9), 0)

    def told(self) -> dict[str, int]:
        return {"count": self.count, "ns": self.ns}


@dataclass(slots=True)
class _Record:
    rows: int = 0
    executions: int = 0
    last_ms: int = 0
    success: _Duration = field(default_factory=_Duration)
    fail: _Duration = field(default_factory=_Duration)
    queue: _Duration = field(default_factory=_Duration)
    infer: _Duration = field(default_factory=_Duration)
    batches: dict[int, _Duration] = field(default_factory=dict)


class Statistics(Counter):
    """`unix_ms`: the wall clock, for the field `last_inference` alone."""

    def __init__(self, unix_ms: Callable[[], int]) -> None:
        self._unix_ms = unix_ms
        self._records: dict[tuple[str, Which], _Record] = {}

    def told(self, application: str, variant: Which = None) -> dict[str, Any]:
        """One entry of `model_stats`; without a variant, the application with all of them and its peek."""
        record = self._records.get((application, variant)) or _Record()
        none = {"count": record.success.count, "ns": 0}
        return {
            "name": application,
            "version": variant or WHOLE,
            "last_inference": record.last_ms,
            "inference_count": record.rows,
            "execution_count": record.executions,
            "inference_stats": {
                "success": record.success.told(),
                "fail": record.fail.told(),
                "queue": record.queue.told(),
                "compute_input": none,
                "compute_infer": record.infer.told(),
                "compute_output": none,
                "cache_hit": {"count": 0, "ns": 0},
                "cache_miss": {"count": 0, "ns": 0},
            },
            "batch_stats": [
                {
                    "batch_size": size,
                    "compute_input": {"count": spent.count, "ns": 0},
                    "compute_infer": spent.told(),
                    "compute_output": {"count": spent.count, "ns": 0},
                }
                for size, spent in sorted(record.batches.items())
            ],
        }

    def finished(self, batch: RunBatch, seconds: float, now: float) -> None:
        for which in (batch.variant, None):
            record = self._record(batch.application, which)
            record.executions += 1
            record.batches.setdefault(len(batch.rows), _Duration()).add(seconds)

    def answered(self, request: Request, answer: Answer, now: float) -> None:
        if answer.outcome is Outcome.CANCELLED:
            return
        if answer.outcome not in (Outcome.ANSWERED, Outcome.LATE):
            for which in {request.pinned, None}:
                self._record(request.application, which).fail.add(now - request.arrived_at)
            return
        last_ms = self._unix_ms()
        for which in {row.variant for row in answer.rows} | {None}:
            rows = [row for row in answer.rows if which in (None, row.variant)]
            ran = [
                (r.started_at, r.finished_at)
                for r in rows
                if r.started_at is not None and r.finished_at is not None
            ]
            record = self._record(request.application, which)
            record.rows += len(rows)
            record.last_ms = last_ms
            record.success.add(now - request.arrived_at)
            record.queue.add(max((s - request.arrived_at for s, _ in ran), default=0.0))
            record.infer.add(max((f - s for s, f in ran), default=0.0))

    def _record(self, application: str, which: Which) -> _Record:
        record = self._records.get((application, which))
        if record is None:
            record = self._records[application, which] = _Record()
        return record

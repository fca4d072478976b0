"""Prometheus metrics, in a registry of our own: seconds and bytes, failures included, few labels
(docs/protocol.md)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, Histogram, Summary
from prometheus_client import Counter as Total
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder

from peekserve.awareness.drift import Drift
from peekserve.domain.application import public
from peekserve.domain.messages import Answer, RunBatch
from peekserve.domain.request import Outcome, Request, RowAnswer, Source
from peekserve.server.calls import InferReply
from peekserve.server.observing import Counter


def geometric(first: float, last: float, each: float = 2.0) -> list[float]:
    """Bounds from `first` up to `last`, each `each` times the one before, ending in `last`.

    >>> geometric(1.0, 5.0)
    [1.0, 2.0, 4.0, 5.0]
    """
    bounds = []
    while first < last:
        bounds.append(float(f"{first:.6g}"))
        first *= each
    return [*bounds, last]


SECONDS = (*geometric(0.0005, 10.0), inf)
_MAGNITUDES = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0]
SIGNED_SECONDS = (*(-s for s in reversed(_MAGNITUDES)), 0.0, *_MAGNITUDES, inf)
ROWS = (*geometric(1.0, 1024.0), inf)


# (worker, application's key, variant); of a worker as a whole, the others are empty.
Which = tuple[str, str, str]


class Telemetry(Counter):
    """All metrics. `request` is told by the doors; the rest by the core's events and commands
    (observing.py)."""

    def __init__(self, version: str, buckets: Sequence[float] = SECONDS) -> None:
        self.registry = registry = CollectorRegistry()
        r: Any = {"registry": registry, "namespace": "peekserve"}
        by_model = ("model",)
        self._requests = Total(
            "requests", "Requests by outcome.", ("model", "variant", "protocol", "outcome"), **r
        )
        self._durations = Histogram(
            "request_duration_seconds",
            "From arrival to reply, failures included.",
            by_model,
            buckets=buckets,
            **r,
        )
        self._queue_durations = Histogram(
            "queue_duration_seconds",
            "From a row's arrival to the start of its batch.",
            by_model,
            buckets=buckets,
            **r,
        )
        self._peek_durations = Histogram(
            "peek_duration_seconds", "From arrival to the end of the peek.", by_model, buckets=buckets, **r
        )
        self._inference_durations = Histogram(
            "inference_duration_seconds",
            "A batch on its worker.",
            ("model", "variant", "batch"),
            buckets=buckets,
            **r,
        )
        self._slack = Histogram(
            "deadline_slack_seconds",
            "Time left at the reply; negative when late.",
            by_model,
            buckets=SIGNED_SECONDS,
            **r,
        )
        self._errors = Histogram(
            "prediction_error_seconds",
            "A batch's time less the time that the scheduler predicted.",
            ("model", "variant"),
            buckets=SIGNED_SECONDS,
            **r,
        )
        self._batch_rows = Histogram(
            "batch_rows", "Rows in a batch.", ("model", "variant"), buckets=ROWS, **r
        )
        self._closed = Total(
            "batch_close", "Batches by the reason that they were not larger.", ("reason",), **r
        )
        self._queue_rows = Gauge("queue_rows", "Rows that wait.", by_model, **r)
        self._inflight = Gauge("inflight_requests", "Requests without an outcome yet.", by_model, **r)
        self._selected = Total(
            "selected",
            "Rows by who answered and why: chosen, pinned, or the peek.",
            ("model", "variant", "reason"),
            **r,
        )
        self._believed = Summary(
            "expected_accuracy",
            "What the scheduler believed of its choices when it made them, weighed by class.",
            by_model,
            **r,
        )
        self._memory = Gauge("model_memory_bytes", "Resident weights.", ("worker", "weights"), **r)
        self._budget = Gauge("memory_budget_bytes", "Bytes that may be resident.", ("worker",), **r)
        self._loads = Total("model_loads", "Weights made resident, or not.", ("result",), **r)
        self._load_durations = Histogram(
            "model_load_duration_seconds", "Time to make weights resident.", (), buckets=buckets, **r
        )
        self._evictions = Total("evictions", "Weights unloaded.", ("reason",), **r)
        self._restarts = Total("worker_restarts", "Workers lost, by reason.", ("reason",), **r)
        self._chunks = Total("stream_chunks", "Chunks of raw samples.", ("model", "result"), **r)
        self._samples = Total(
            "stream_samples", "Raw samples by what became of them.", ("model", "result"), **r
        )
        self._gaps = Total("stream_gaps", "Holes in streams.", ("model", "result"), **r)
        self._windows = Total("stream_windows", "Windows found in streams.", ("model", "result"), **r)
        self._streams = Gauge("streams", "Open streams.", by_model, **r)
        self._stream_queries = Total(
            "stream_queries", "Recurring queries by outcome, each counted once.", ("model", "outcome"), **r
        )
        self._belief_durations = Histogram(
            "stream_belief_seconds",
            "From the chunk that completed a window to its belief.",
            by_model,
            buckets=buckets,
            **r,
        )
        self._feedback = Total(
            "feedback", "Confirmations of requests by what became of them.", ("model", "result"), **r
        )
        self._drift = Gauge(
            "drift_score", "Is the stream as it was believed to be? Above 3, look at it.", by_model, **r
        )
        self._believed_accuracy = Gauge(
            "believed_accuracy", "Believed of the rows that were confirmed of late.", by_model, **r
        )
        self._confirmed_accuracy = Gauge(
            "confirmed_accuracy", "The share of them that was right.", by_model, **r
        )
        Gauge("build_info", "Always 1; the version is its label.", ("version",), **r).labels(version).set(1)
        self._held: dict[str, set[str]] = {}
        self._drifts: Callable[[], Mapping[str, Drift]] = dict

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The text of all metrics and its content type: OpenMetrics where the Accept header asks for it."""
        self._look_at_drifts()
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def request(self, model: str, variant: str, protocol: str, outcome: str, seconds: float) -> None:
        """`model` is empty for an unknown one: names that clients make up never become labels."""
        self._requests.labels(model, variant, protocol, outcome).inc()
        self._durations.labels(model).observe(seconds)

    # ---- what streams brought ----------------------------------------------------------------------------

    def chunk(self, model: str, result: str) -> None:
        """`result`: taken, or why not (peeking/staging.py, Refusal). `model` is empty for an unknown one."""
        self._chunks.labels(model, result).inc()

    def samples(self, model: str, result: str, number: int) -> None:
        self._samples.labels(model, result).inc(number)

    def gaps(self, model: str, result: str, number: int) -> None:
        self._gaps.labels(model, result).inc(number)

    def windows(self, model: str, result: str, number: int = 1) -> None:
        self._windows.labels(model, result).inc(number)

    def belief(self, model: str, seconds: float) -> None:
        self._belief_durations.labels(model).observe(seconds)

    def streams(self, model: str, change: int) -> None:
        self._streams.labels(model).inc(change)

    def stream_query(self, model: str, outcome: str) -> None:
        self._stream_queries.labels(model, outcome).inc()

    # ---- what came back ----------------------------------------------------------------------------------

    def feedback(self, model: str, result: str) -> None:
        """`result`: what became of a confirmation (domain/feedback.py), or why it was not looked at."""
        self._feedback.labels(model, result).inc()

    def follow_drifts(self, drifts: Callable[[], Mapping[str, Drift]]) -> None:
        """Ask this, by model, whenever somebody asks for the metrics."""
        self._drifts = drifts

    def _look_at_drifts(self) -> None:
        gauges = (self._drift, self._believed_accuracy, self._confirmed_accuracy)
        for gauge in gauges:
            gauge.clear()  # of models that are there no more
        for model, drift in self._drifts().items():
            for gauge, value in zip(gauges, (drift.score, drift.believed, drift.right), strict=True):
                gauge.labels(model).set(value)

    def follow_pace(self, paces: Callable[[], Mapping[Which, float]]) -> None:
        """Ask this whenever somebody asks for the metrics."""
        self.registry.register(_PaceRatios(paces))

    # ---- what the core did -------------------------------------------------------------------------------

    def arrived(self, request: Request, now: float) -> None:
        self._inflight.labels(request.application).inc()

    def peeked(self, request: Request, now: float) -> None:
        self._peek_durations.labels(request.application).observe(now - request.arrived_at)

    def started(self, batch: RunBatch, now: float) -> None:
        self._closed.labels(batch.closed).inc()
        self._batch_rows.labels(batch.application, batch.variant).observe(len(batch.rows))

    def finished(self, batch: RunBatch, seconds: float, now: float) -> None:
        size = 1 << (len(batch.rows) - 1).bit_length()  # the power of two that holds it: few labels
        self._inference_durations.labels(batch.application, batch.variant, str(size)).observe(seconds)
        self._errors.labels(batch.application, batch.variant).observe(seconds - batch.predicted_s)

    def answered(self, request: Request, answer: Answer, now: float) -> None:
        model = request.application
        self._inflight.labels(model).dec()
        if request.due_at < inf and answer.outcome is not Outcome.CANCELLED:
            self._slack.labels(model).observe(request.due_at - now)
        for row in answer.rows:
            self._selected.labels(model, row.variant or Source.PEEK.value, _why(request, row)).inc()
            if row.expected_accuracy is not None:
                self._believed.labels(model).observe(row.expected_accuracy)
            if row.started_at is not None:
                self._queue_durations.labels(model).observe(row.started_at - request.arrived_at)

    def waiting(self, application: str, rows: int) -> None:
        self._queue_rows.labels(application).set(rows)

    def loaded(self, worker: str, weights: str, seconds: float, bytes: int) -> None:
        self._loads.labels("ok").inc()
        self._load_durations.observe(seconds)
        self._memory.labels(worker, weights).set(bytes)
        self._held.setdefault(worker, set()).add(weights)

    def load_failed(self, worker: str, weights: str) -> None:
        self._loads.labels("failed").inc()

    def unloaded(self, worker: str, weights: str, reason: str) -> None:
        self._evictions.labels(reason).inc()
        self._forget(worker, weights)

    def worker_up(self, worker: str, budget_bytes: int) -> None:
        self._budget.labels(worker).set(budget_bytes)

    def worker_down(self, worker: str, reason: str) -> None:
        self._restarts.labels(reason).inc()
        for weights in list(self._held.get(worker, ())):
            self._forget(worker, weights)

    def _forget(self, worker: str, weights: str) -> None:
        if weights in self._held.get(worker, ()):
            self._held[worker].discard(weights)
            self._memory.remove(worker, weights)


class _PaceRatios:
    """A gauge whose labels come and go."""

    def __init__(self, paces: Callable[[], Mapping[Which, float]]) -> None:
        self._paces = paces

    def collect(self) -> Iterator[GaugeMetricFamily]:
        told: dict[Which, float] = {}
        for (worker, key, variant), ratio in self._paces().items():
            which = (worker, public(key), variant)
            told[which] = max(told.get(which, 0.0), ratio)
        gauge = GaugeMetricFamily(
            "peekserve_pace_ratio",
            "What batches are believed to take in shares of their profile; without a model, the worker's own part.",
            labels=("worker", "model", "variant"),
        )
        for which, ratio in told.items():
            gauge.add_metric(which, ratio)
        yield gauge


def _why(request: Request, row: RowAnswer) -> str:
    if row.source is Source.PEEK:
        return "peek"
    return "pinned" if request.pinned is not None else "chosen"


# Outcome labels (conventions C.4): what dashboards count. Every invalid call is one word; its own is in the
# log.
_LABELS = {
    "model_not_found": "invalid",
    "invalid_request": "invalid",
    "invalid_tensor": "invalid",
    "too_large": "invalid",
    "unsupported_media_type": "invalid",
    "backend_error": "error",
}


def outcome_label(word: str, reply: InferReply | None = None) -> str:
    """The `outcome` label of a status word; a late answer is `late`."""
    if reply is not None and reply.served and not reply.met:
        return "late"
    return _LABELS.get(word, word)

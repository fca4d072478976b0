"""What the core did, as counted: each story's events and commands, then the numbers that they leave."""

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from peekserve.domain.messages import (
    Answer,
    Arrived,
    BatchDone,
    BatchFailed,
    Load,
    Loaded,
    LoadFailed,
    Peeked,
    Restart,
    RunBatch,
    Unload,
    WorkerDown,
    WorkerUp,
)
from peekserve.domain.request import Outcome, Reason, Request, RowAnswer, RowRef, Source
from peekserve.server.observing import Following
from peekserve.server.telemetry import Telemetry, outcome_label

SCORES = np.full((1, 2), 0.5)


def a_request(name="r1", rows=1, **rest):
    return Request(name, "ecg", arrived_at=10.0, due_at=10.1, rows=rows, **rest)


def a_batch(*rows, number=1, predicted_s=0.02):
    refs = tuple(RowRef(name, row) for name, row in rows)
    return RunBatch(number, "cpu:0", "ecg", "cnn", 0, refs, predicted_s, "full")


def a_row(source=Source.MODEL, started_at=10.01):
    modelled = source is Source.MODEL
    return RowAnswer(
        0, (0.6, 0.4), source, "cnn" if modelled else None, 0.8, started_at=started_at if modelled else None
    )


class Story:
    def __init__(self):
        self.telemetry = Telemetry("1.2.3")
        self.following = Following([self.telemetry])

    def happened(self, *events, now=10.0):
        for event in events:
            self.following.event(event, now)

    def ordered(self, *commands, now=10.0):
        self.following.commands(commands, now)

    def value(self, name, **labels):
        return self.telemetry.registry.get_sample_value(f"peekserve_{name}", labels)


def test_rows_wait_until_their_batch_starts():
    story = Story()
    story.happened(Arrived(a_request(rows=3)))
    assert story.value("queue_rows", model="ecg") == 3
    story.ordered(a_batch(("r1", 0), ("r1", 1)))
    assert story.value("queue_rows", model="ecg") == 1
    assert story.value("inflight_requests", model="ecg") == 1
    assert story.value("batch_close_total", reason="full") == 1


def test_rows_of_a_lost_batch_wait_again():
    story = Story()
    story.happened(Arrived(a_request()), Arrived(a_request("r2")))
    story.ordered(a_batch(("r1", 0)), a_batch(("r2", 0), number=2))
    story.happened(BatchFailed(1, "raised"))
    assert story.value("queue_rows", model="ecg") == 1
    story.happened(WorkerDown("cpu:0", "killed"))
    assert story.value("queue_rows", model="ecg") == 2
    assert story.value("worker_restarts_total", reason="died") == 1


def test_an_outcome_ends_the_waiting_too():
    story = Story()
    story.happened(Arrived(a_request(rows=4)))
    story.ordered(a_batch(("r1", 0)), Answer("r1", Outcome.EXPIRED, Reason.DEADLINE_EXCEEDED), now=10.25)
    assert story.value("queue_rows", model="ecg") == 0
    assert story.value("inflight_requests", model="ecg") == 0
    assert story.value("deadline_slack_seconds_bucket", model="ecg", le="-0.1") == 1
    assert story.value("deadline_slack_seconds_bucket", model="ecg", le="-0.3") == 0


def test_a_batch_is_compared_with_its_prediction():
    story = Story()
    story.happened(Arrived(a_request()))
    story.ordered(a_batch(("r1", 0)))
    story.happened(BatchDone(1, SCORES, 10.01, 10.045))
    error = [
        story.value("prediction_error_seconds_bucket", model="ecg", variant="cnn", le=b)
        for b in ("0.01", "0.03")
    ]
    assert error == [0, 1]
    assert story.value("inference_duration_seconds_count", model="ecg", variant="cnn", batch="1") == 1


def test_who_answered_and_why():
    story = Story()
    story.happened(Arrived(a_request(rows=2)), Arrived(a_request("r2", pinned="cnn")))
    story.ordered(
        Answer("r1", Outcome.ANSWERED, Reason.OK, (a_row(), a_row(Source.PEEK))),
        Answer("r2", Outcome.ANSWERED, Reason.OK, (a_row(),)),
    )
    assert story.value("selected_total", model="ecg", variant="cnn", reason="chosen") == 1
    assert story.value("selected_total", model="ecg", variant="cnn", reason="pinned") == 1
    assert story.value("selected_total", model="ecg", variant="peek", reason="peek") == 1
    assert story.value("expected_accuracy_sum", model="ecg") == pytest.approx(2.4)
    assert story.value("queue_duration_seconds_count", model="ecg") == 2


def test_memory_follows_loads_unloads_and_deaths():
    story = Story()
    story.happened(
        WorkerUp("cpu:0", "cpu", 1000), Loaded("cpu:0", "a", 0.2, 300), Loaded("cpu:0", "b", 0.2, 400)
    )
    story.happened(LoadFailed("cpu:0", "c", "damaged"))
    story.ordered(Unload("cpu:0", "a"), Load("cpu:0", "b", "ecg", "cnn"), Restart("cpu:0", "no answer"))
    assert story.value("model_memory_bytes", worker="cpu:0", weights="a") is None
    assert story.value("model_memory_bytes", worker="cpu:0", weights="b") == 400
    assert story.value("memory_budget_bytes", worker="cpu:0") == 1000
    assert story.value("model_loads_total", result="failed") == 1
    story.happened(WorkerDown("cpu:0", "killed"))
    assert story.value("model_memory_bytes", worker="cpu:0", weights="b") is None
    assert story.value("worker_restarts_total", reason="hang") == 1
    story.ordered(Unload("cpu:0", "b"))
    assert story.value("evictions_total", reason="budget") == 1
    assert story.value("evictions_total", reason="unused") == 1


def test_what_is_over_is_forgotten():
    story = Story()
    story.happened(Arrived(a_request()), Peeked("r1", None))
    story.ordered(a_batch(("r1", 0)))
    story.happened(BatchDone(1, SCORES, 10.0, 10.1))
    story.ordered(Answer("r1", Outcome.ANSWERED, Reason.OK, (a_row(),)))
    story.happened(BatchDone(7, SCORES, 10.0, 10.1), Peeked("unknown", None))
    assert story.following.under_way == 0


def test_both_text_formats_can_be_read_back():
    story = Story()
    story.telemetry.request("ecg", "cnn", "http", "ok", 0.004)
    text, kind = story.telemetry.exposition("text/plain")
    names = {family.name for family in text_string_to_metric_families(text.decode())}
    assert {"peekserve_requests", "peekserve_build_info", "peekserve_request_duration_seconds"} <= names
    assert kind.startswith("text/plain")
    text, kind = story.telemetry.exposition("application/openmetrics-text")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


@pytest.mark.parametrize(
    ("word", "label"),
    [("ok", "ok"), ("invalid_tensor", "invalid"), ("backend_error", "error"), ("overloaded", "overloaded")],
)
def test_outcome_labels(word, label):
    assert outcome_label(word) == label

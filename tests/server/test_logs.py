"""What the log says of workers."""

import io
import json

import pytest

from peekserve.domain.messages import LoadFailed, Offered, Woke, WorkerDown, WorkerUp
from peekserve.server.logs import WorkerLog, make_logger

pytestmark = pytest.mark.core


def test_a_death_is_written_down_with_its_last_words():
    stream = io.StringIO()
    log = WorkerLog(make_logger(stream))
    for event in (
        WorkerUp("cpu-0", "cpu", 100),
        WorkerDown("cpu-0", "ended by SIGKILL | no memory"),
        LoadFailed("cpu-0", "digits/cnn", "damaged"),
        Offered("digits@3f9a", ("mlp",)),
        Woke(),
    ):
        log.event(event, 1.0)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["worker_up", "worker_down", "load_failed", "offered"]
    assert (lines[3]["model"], lines[3]["variants"]) == ("digits", ["mlp"])
    assert (lines[1]["level"], lines[1]["error"]) == ("warning", "ended by SIGKILL | no memory")

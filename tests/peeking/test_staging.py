"""Staging as a whole: chunks in, receipts, windows and evidence out; beside the server and in its own process."""

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from peekserve.errors import WorkerFailed
from peekserve.peeking.stage import (
    Block,
    Chunk,
    Forget,
    Found,
    Gone,
    Looked,
    Ready,
    Refusal,
    Taken,
    Tick,
    Turned,
)
from peekserve.peeking.stage_pipe import PipedStage, read_frame, write_frame
from peekserve.peeking.staging import LocalStage, Staging, StagingLimits
from tests.peeking.stage_child import PEEKS, applications
from tests.peeking.test_streams import a_heart, noise_and_words

CHILD = Path(__file__).with_name("stage_child.py")


def chunks(application, signal, size, stream="one"):
    return [
        Chunk(n, application, stream, low, {"x": Block.of(signal[low : low + size, None])}, low / 180.0)
        for n, low in enumerate(range(0, len(signal), size))
    ]


def both_signals():
    rng = np.random.default_rng(17)
    return a_heart(15, rng)[0], noise_and_words(15, rng)[0]


class Sync:
    """A peeker that looks at once."""

    def __init__(self):
        self.stage = None

    def submit(self, request_id, application, inputs, lengths=None):
        from peekserve.peeking.base import Glance

        try:
            counts = PEEKS[application].look_all([Glance(inputs, lengths or {})])[0]
        except ValueError:
            counts = None
        self.stage.looked([(request_id, counts)])


def local():
    peeker = Sync()
    stage = LocalStage(Staging(applications()), peeker, PEEKS)
    peeker.stage = stage
    return stage


def news_of(stage, events):
    news = []
    stage.listen(news.extend)
    for event in events:
        stage.submit(event)
    return news


def test_a_receipt_comes_before_the_windows_of_its_chunk():
    heart, _ = both_signals()
    staging = Staging(applications())
    seen = [one for chunk in chunks("heart", heart, 720) for one in staging.handle(chunk)]
    kinds = [type(one) for one in seen]
    assert kinds[:2] == [Taken, Found]
    receipts = [one for one in seen if isinstance(one, Taken)]
    windows = [one for one in seen if isinstance(one, Found)]
    assert sum(receipt.windows for receipt in receipts) == len(windows) > 10
    assert [window.number for window in windows] == list(range(1, len(windows) + 1))


def test_a_window_ended_when_its_last_sample_was_taken():
    heart, _ = both_signals()
    staging = Staging(applications())
    for chunk in chunks("heart", heart, 720):
        for one in staging.handle(chunk):
            if isinstance(one, Found):
                # The chunk's newest sample counts as taken when the chunk came.
                newest = chunk.first + chunk.samples["x"].shape[0]
                assert one.ended_at == pytest.approx(chunk.at - (newest - one.first - 180) / 180.0)


def test_streams_do_not_mix():
    heart, _ = both_signals()
    staging = Staging(applications())
    one, two = chunks("heart", heart, 90, "one"), chunks("heart", heart * 0.5, 90, "two")
    found = [
        w
        for pair in zip(one, two, strict=True)
        for c in pair
        for w in staging.handle(c)
        if isinstance(w, Found)
    ]
    assert staging.streams == 2
    firsts = {name: [w.first for w in found if w.stream == name] for name in ("one", "two")}
    assert firsts["one"] == firsts["two"]
    assert len(firsts["one"]) > 10


def test_windows_that_nobody_looked_at_turn_chunks_away_until_somebody_does():
    heart, _ = both_signals()
    staging = Staging(applications(), StagingLimits(waiting_bytes=3 * 4 * 720))
    events = chunks("heart", heart, 180)
    found, turned = [], None
    for chunk in events:
        out = staging.handle(chunk)
        found += [one for one in out if isinstance(one, Found)]
        if isinstance(out[0], Turned):
            turned = chunk
            break
    assert out == [Turned(chunk.ticket, Refusal.TOO_FAST, out[0].sentence)]
    assert "wait for their peek" in out[0].sentence
    for window in found:
        assert staging.handle(Looked("heart", "one", window.opened, window.bytes)) == []
    assert isinstance(staging.handle(turned)[0], Taken)


def test_idle_streams_are_forgotten_and_so_are_those_that_end():
    heart, _ = both_signals()
    staging = Staging(applications())
    for name in ("one", "two"):
        staging.handle(chunks("heart", heart, 90, name)[0])
    assert staging.handle(Forget("heart", "two")) == [Gone("heart", "two", False)]
    assert staging.handle(Forget("heart", "two")) == []
    assert staging.handle(Tick(59.0)) == []
    assert staging.handle(Tick(61.0)) == [Gone("heart", "one", True)]
    assert staging.streams == 0


def test_an_application_without_streams_takes_none():
    (turned,) = Staging(applications()).handle(Chunk(7, "digits", "one", 0, {}, 0.0))
    assert turned.refusal is Refusal.UNKNOWN
    assert "heart, words" in turned.sentence


@pytest.mark.whole
def test_a_process_of_its_own_brings_the_same_news():
    heart, words = both_signals()
    quiet = np.zeros(900, np.float32)
    events = [
        *chunks("heart", heart, 33),
        *chunks("words", words, 64),
        *chunks("words", quiet, 100, "quiet"),
        Chunk(99, "heart", "one", -1, {}, 0.0),
        Forget("heart", "one"),
        Tick(1e6),
    ]
    paths = [str(Path(__file__).parents[2] / "src"), str(Path(__file__).parents[2])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    piped = PipedStage([sys.executable, str(CHILD)], environment)
    piped.start()
    try:
        apart = news_of(piped, events)
    finally:
        assert piped.stop() == 0
    beside = news_of(local(), events)

    def key(one):
        return type(one).__name__, repr(one)

    assert sorted(map(key, apart)) == sorted(map(key, beside))
    ready = [one for one in apart if isinstance(one, Ready)]
    assert len([r for r in ready if r.counts is not None]) > 10
    assert len([r for r in ready if r.window.application == "words" and r.counts is None]) > 3


def test_a_stage_whose_process_is_gone_says_so():
    stage = PipedStage([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(WorkerFailed, match="not started"):
        stage.submit(Tick(0.0))


def test_a_pipe_that_ends_inside_a_frame_is_noticed():
    pipe = io.BytesIO()
    write_frame(pipe, b"hello")
    whole = pipe.getvalue()
    assert read_frame(io.BytesIO(whole)) == b"hello"
    assert read_frame(io.BytesIO(b"")) is None
    for cut in (2, 6):
        with pytest.raises(WorkerFailed, match="inside a frame"):
            read_frame(io.BytesIO(whole[:cut]))

"""Worker processes over a supernet in real time: a small piece of what `superserve-live` runs."""

import numpy as np

from peekserve.experiments.superserve.live import lived, slowed
from peekserve.experiments.superserve.worlds import requests, world_of
from tests.experiments.supernets import a_super_lab


def test_in_real_time_every_request_has_an_outcome_though_half_of_the_workers_are_killed():
    world = slowed(world_of(a_super_lab(), "ecg"))
    trace = requests(world, np.linspace(0.0, 0.4, 60), 0)
    settled = lived(world, trace, {"gpu-0": 0.1, "gpu-1": 0.2})
    assert [one.request_id for one in settled] == [one.id for one in trace]
    assert all(one.outcome for one in settled)
    # What was answered was answered by a subnet, with what it said of that sample.
    answered = [one for one in settled if one.said]
    assert answered
    said = {v: scores.argmax(axis=1) for v, scores in world.recorded.scores.items()}
    sample = {one.id: world.recorded.sample(one, 0) for one in trace}
    assert all(one.said[0] == said[one.variants[0]][sample[one.request_id]] for one in answered)

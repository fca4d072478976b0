"""A stage's process for the tests: `python stage_child.py`, events on stdin, news on stdout."""

import sys

import numpy as np

from peekserve.domain.application import Application, Variant
from peekserve.domain.streams import Onset, RPeak, StreamSpec, TrackSpec
from peekserve.domain.tensors import InputMap, TensorSpec
from peekserve.peeking.stage_pipe import serve
from peekserve.peeking.staging import Staging


def applications():
    variant = Variant("only", "r", "w", (InputMap("x", "x"),))
    specs = {
        "heart": StreamSpec((TrackSpec("x", 180.0, 180),), RPeak(72)),
        "words": StreamSpec((TrackSpec("x", 180.0, 180),), Onset(frame=2, pre_roll=20, apart=160)),
    }
    x = TensorSpec("x", "FP32", (180,))
    return {
        name: Application(name, ("a", "b"), (variant,), (1.0, 1.0), inputs=(x,), stream=spec)
        for name, spec in specs.items()
    }


class SumPeek:
    """Two counts: how often the window is above its mean, and how often not. Raises for a quiet one."""

    def look_all(self, glances):
        found = []
        for glance in glances:
            x = glance.inputs["x"]
            if np.abs(x).max() < 0.05:
                raise ValueError("nothing to see")
            above = (x > x.mean(axis=1, keepdims=True)).sum(axis=1)
            found.append(np.stack([above, x.shape[1] - above], axis=1).astype(np.float64))
        return found


PEEKS = {"heart": SumPeek()}

if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer, Staging(applications()), PEEKS)

"""What every variant and the peek say of every labelled sample, recorded once: a simulation's world."""

from collections.abc import Callable

import numpy as np

from peekserve.domain.application import Application
from peekserve.peeking.peek import Peek
from peekserve.registry.labelled import Labelled, bucketed
from peekserve.runtimes.base import Runtime
from peekserve.sim.world import Recorded


def record(
    app: Application,
    labelled: Labelled,
    runtime: Runtime,
    peek: Peek | None,
    progress: Callable[[str], None] = lambda what: None,
) -> Recorded:
    """Run all variants and the peek over all samples."""
    classes, parts = len(app.classes), bucketed(labelled, app)
    buckets = np.zeros(labelled.rows, np.int64)
    counts = np.zeros((labelled.rows, classes)) if peek else None
    for bucket, rows, inputs in parts:
        buckets[rows] = bucket
        if peek is not None and counts is not None:
            lengths = {name: values[rows] for name, values in labelled.lengths.items()}
            counts[rows] = peek.look(inputs, lengths or None)
    scores = {}
    for variant in app.variants:
        progress(f"{app.name}/{variant.name}")
        runtime.load(variant, classes)
        said = np.zeros((labelled.rows, classes))
        for _, rows, inputs in parts:
            for start in range(0, len(rows), variant.max_batch):
                some = slice(start, start + variant.max_batch)
                said[rows[some]] = runtime.run(
                    variant, classes, {name: x[some] for name, x in inputs.items()}
                )
        scores[variant.name] = said
        runtime.unload(variant.weights)
    return Recorded(labelled.labels, scores, counts, buckets)

"""Makes what `horizon-splits` stands on (answered.py): `python -m peekserve.experiments.horizon.record REPO`.

REPO is the demo's repository (`peekserve demo --prepare REPO`): digits, watch and appliances with their models,
reference, validation and test data. Times are the processor time of one thread through the runtime that serves, so that
what else ran on the machine meanwhile is not in them.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from peekserve.domain.application import Application
from peekserve.domain.profile import Timing
from peekserve.errors import DataUnavailable
from peekserve.experiments.horizon.answered import NAMES, Answered, Box, Cost, load
from peekserve.experiments.recording import record
from peekserve.experiments.sneakpeek.record import NEAREST, nearest, read
from peekserve.experiments.sneakpeek.recording import RECORDED
from peekserve.experiments.superserve.timing import CoreClock
from peekserve.peeking.choosing import MOST_ASKED, folds, nearest_outside, spread
from peekserve.peeking.peek import profile_peek
from peekserve.profiling.device import fingerprint
from peekserve.profiling.measure import Effort, Stopwatch, measure_timing
from peekserve.registry.labelled import Labelled, bucketed, read_labelled
from peekserve.registry.peeks import peek_of
from peekserve.registry.settings import read_settings
from peekserve.runtimes.onnx import OnnxRuntime

EFFORT = Effort(seconds=0.5)
MEASURED = "processor time of one thread, medians and 95th percentiles"


def answered(folder: Path) -> Answered:
    """What the application in this folder says of its own data. Raises DataUnavailable where a part of it is missing
    or names no groups."""
    app = read(folder)
    reference, *parts = (_labelled(folder, app, part) for part in ("reference", "validation", "test"))
    peek = peek_of(app)
    if peek is None:
        raise DataUnavailable(f"{app.name} has no peek to record")
    runtime = OnnxRuntime()
    said = [record(app, part, runtime, None) for part in parts]
    asked = spread(reference.labels, MOST_ASKED)
    features = peek.features.transform(reference.inputs, reference.lengths)
    outside = nearest_outside(features, reference.labels, folds(_groups(reference)), asked, NEAREST)
    return Answered(
        name=app.name,
        classes=app.classes,
        variants=tuple(v.name for v in app.variants),
        labels=np.concatenate([part.labels for part in parts]),
        groups=np.concatenate([_groups(part) for part in parts]),
        test=np.repeat([False, True], [part.rows for part in parts]),
        buckets=np.concatenate([one.buckets if one.buckets is not None else one.labels * 0 for one in said]),
        scores=np.stack([np.concatenate([one.scores[v.name] for one in said]) for v in app.variants]),
        nearest=np.concatenate([nearest(peek, app, reference, part) for part in parts]),
        reference_labels=reference.labels[asked],
        reference_groups=_groups(reference)[asked],
        reference_nearest=outside,
    )


def cost(folder: Path) -> Cost:
    """What it asks for, and what it takes on this machine."""
    app = read(folder)
    validation, peek = _labelled(folder, app, "validation"), peek_of(app)
    query, width = app.query(), app.query().penalty.width
    if peek is None or app.peek is None or width is None:
        raise DataUnavailable(f"{app.name} has no peek, or no penalty with a width")
    looked = profile_peek(
        peek, app.prior, validation.inputs, validation.labels, CoreClock(), lengths=validation.lengths
    )
    samples = [inputs for _, _, inputs in bucketed(validation, app)]
    took: dict[str, Timing] = {}
    for variant in app.variants:
        clock = CoreClock()
        watch = Stopwatch(OnnxRuntime(), clock)
        took[variant.name] = measure_timing(
            variant, len(app.classes), samples, watch, effort=EFFORT, clock=clock
        )
    return Cost(
        deadline_s=query.deadline_s,
        sigmoid_s=width,
        max_batch=max(v.max_batch for v in app.variants),
        buckets=next((spec.buckets for spec in app.inputs if spec.buckets), ()),
        neighbours=app.peek.neighbours,
        peek=looked.latency,
        variants=took,
    )


def _labelled(folder: Path, app: Application, part: str) -> Labelled:
    path = folder / f"{part}.npz"
    if not path.is_file():
        raise DataUnavailable(f"{app.name}: {path} is missing: prepare the demo again")
    return read_labelled(path, app)


def _groups(labelled: Labelled) -> np.ndarray:
    if labelled.groups is None:
        raise DataUnavailable("these samples name no groups, and nothing could be left out whole")
    return labelled.groups.astype(np.int64)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        description="Record what the demo's models and peeks say, and what they cost."
    )
    parser.add_argument("repository", type=Path, help="of peekserve demo --prepare")
    parser.add_argument("--out", type=Path, default=RECORDED, help="a folder")
    parser.add_argument("--times-only", action="store_true", help="leave the answers as they are")
    given = parser.parse_args(arguments)
    for name in () if given.times_only else NAMES:
        answered(given.repository / name).save(given.out)
        again = load(name, given.out)
        right = (again.scores.argmax(axis=2) == again.labels).mean(axis=1).round(3).tolist()
        print(f"{name}: {len(again.labels)} samples, right {dict(zip(again.variants, right, strict=True))}")
    settings, _ = read_settings(given.repository, {})
    worker = settings.workers[0]
    costs = {name: cost(given.repository / name) for name in NAMES}
    Box(fingerprint(), MEASURED, worker.memory, settings.margin_s, costs).save(given.out / "demo-timing.json")


if __name__ == "__main__":
    main(sys.argv[1:])

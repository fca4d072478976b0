"""Makes the recording of one application: `python -m peekserve.experiments.sneakpeek.record REPO/NAME`.

The folder is one of a prepared repository: application.yaml, the models, and reference, validation and test data. With
`--timing FILE` it also measures what the variants cost on this machine and writes, or adds to, a device class as
paper_class.yaml is one; window, deadlines and penalties are then scaled to how much quicker or slower this machine is.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from peekserve.config import Problems
from peekserve.domain.application import Application
from peekserve.errors import DataUnavailable
from peekserve.experiments.recording import record
from peekserve.experiments.sneakpeek.device import read_class
from peekserve.experiments.sneakpeek.recording import RECORDED, Ints, Recording, load
from peekserve.peeking.peek import Peek
from peekserve.profiling.device import fingerprint
from peekserve.profiling.measure import Effort, Stopwatch, measure_timing
from peekserve.registry.application import read_application
from peekserve.registry.labelled import Labelled, bucketed, read_labelled
from peekserve.registry.peeks import peek_of
from peekserve.runtimes.onnx import OnnxRuntime

# So many nearest reference rows are kept of each sample: the largest k that an experiment can try.
NEAREST = 15
_SIZES = (1, 2, 4, 8, 16, 32)


def recorded(folder: Path) -> Recording:
    """What the application in this folder says of its own data. Raises InvalidConfiguration or InvalidData for a folder
    that is no such thing, DataUnavailable where a part of its data is missing."""
    app = read(folder)
    parts = {}
    for part in ("reference", "validation", "test"):
        path = folder / f"{part}.npz"
        if not path.is_file():
            raise DataUnavailable(f"{app.name}: {path} is missing: prepare the repository again")
        parts[part] = read_labelled(path, app)
    peek = peek_of(app)
    if peek is None:
        raise DataUnavailable(f"{app.name} has no peek to record")
    runtime = OnnxRuntime()
    test = record(app, parts["test"], runtime, None)
    validation = record(app, parts["validation"], runtime, None)
    classes = len(app.classes)
    said = {variant: scores.argmax(axis=1) for variant, scores in validation.scores.items()}
    confusion = {}
    for variant, answers in said.items():
        confusion[variant] = np.zeros((classes, classes), np.int64)
        np.add.at(confusion[variant], (validation.labels, answers), 1)
    near = {part: nearest(peek, app, parts["reference"], parts[part]) for part in ("validation", "test")}
    return Recording(
        name=app.name,
        classes=app.classes,
        labels=test.labels,
        groups=_groups(parts["test"]),
        scores=test.scores,
        nearest=near["test"],
        validation_labels=validation.labels,
        validation_groups=_groups(parts["validation"]),
        validation_nearest=near["validation"],
        confusion=confusion,
        validation_said=said,
    )


def read(folder: Path) -> Application:
    """The application that a folder declares. Raises InvalidConfiguration with every problem."""
    problems = Problems()
    app = read_application(folder / "application.yaml", folder.parent, problems)
    problems.raise_errors()
    if app is None:
        raise DataUnavailable(f"{folder} declares no application")
    return app


def nearest(peek: Peek, app: Application, reference: Labelled, samples: Labelled) -> Ints:
    """int64 [n, NEAREST]: the labels of the reference rows nearest to each sample by the peek's features, the nearest
    first; of equals the one with the lower index. Exact, whatever index the peek itself uses."""
    known = _features(peek, app, reference)
    most = min(NEAREST, len(known))
    squares = np.square(known).sum(axis=1)
    found = []
    for some in np.array_split(_features(peek, app, samples), max(len(samples.labels) // 256, 1)):
        distance = squares - 2.0 * (some @ known.T)
        found.append(reference.labels[np.argsort(distance, axis=1, kind="stable")[:, :most]])
    return np.concatenate(found).astype(np.int64)


def _features(peek: Peek, app: Application, labelled: Labelled) -> np.ndarray:
    made: dict[int, np.ndarray] = {}
    for _, rows, inputs in bucketed(labelled, app):
        lengths = {name: values[rows] for name, values in labelled.lengths.items()}
        for start in range(0, len(rows), 512):
            some = slice(start, start + 512)
            chosen = {name: values[some] for name, values in inputs.items()}
            true = {name: values[some] for name, values in lengths.items()} or None
            made.update(zip(rows[some].tolist(), peek.features.transform(chosen, true), strict=True))
    return np.stack([made[i] for i in range(labelled.rows)]).astype(np.float64)


def _groups(labelled: Labelled) -> Ints:
    if labelled.groups is None:
        return np.arange(labelled.rows, dtype=np.int64)
    return np.unique(labelled.groups, return_inverse=True)[1].reshape(-1).astype(np.int64)


class _CpuClock:
    """Seconds of this process's own work: what a model takes where nothing else runs, measured where much does."""

    def now(self) -> float:
        return time.process_time()


def timing_lines(folder: Path) -> list[str]:
    """One application's entry of a device class, measured here."""
    app = read(folder)
    labelled = read_labelled(folder / "validation.npz", app)
    usual = read_class().applications[app.name].usual if app.name in read_class().applications else None
    samples = [inputs for _, _, inputs in bucketed(labelled, app)]
    latencies, loads = [], []
    for variant in app.variants:
        clock = _CpuClock()
        found = measure_timing(
            variant,
            len(app.classes),
            samples,
            Stopwatch(OnnxRuntime(), clock),
            effort=Effort(seconds=0.5),
            batch_sizes=_SIZES,
            clock=clock,
        )
        curve = found.curves[-1]
        points = zip(curve.batch_sizes, curve.median_s, strict=True)
        latencies.append("{" + ", ".join(f"{b}: {s * 1e3:.4f}ms" for b, s in points) + "}")
        loads.append(f"{found.load_s * 1e3:.3f}ms")
    lines = [f"  {app.name}:", "    latency:"]
    lines += [f"      - {latency}" for latency in latencies]
    lines.append(f"    load: [{', '.join(loads)}]")
    return lines + ([f"    usual: {usual}"] if usual is not None else [])


def write_timing(folders: Sequence[Path], path: Path) -> None:
    """A device class of this machine. Its times of arrival are the paper's, scaled by what one of each application's
    dearest variant takes here over what it takes there."""
    lines = [line for folder in folders for line in timing_lines(folder)]
    paper = read_class()
    head = [
        f"# Measured on {fingerprint()} by python -m peekserve.experiments.sneakpeek.record --timing.",
        "# Processor time of one thread, medians: what each takes where nothing else runs.",
        f"device: {fingerprint()}",
        "batch_slope: 0.3",
        f"max_batch: {paper.max_batch}",
        f"resident: {sum('- {' in line for line in lines)}          # all: they take megabytes",
        "applications:",
    ]
    body = "\n".join([*head, *lines])
    tail = (
        "window: {w}\nrequests: {n}\ndeadline: {d}\nspread: {s}\nneighbours: {k}\nsigmoid: {g}\nlinear: {l}\n"
    )

    def full(scale: float) -> str:
        def ms(seconds: float) -> str:
            return f"{seconds * scale * 1e3:.4f}ms"

        return f"{body}\n" + tail.format(
            w=ms(paper.window_s),
            n=paper.requests,
            d=ms(paper.deadline_s),
            s=ms(paper.spread_s),
            k=paper.neighbours,
            g=ms(paper.sigmoid_s),
            l=ms(paper.linear_s),
        )

    path.write_text(full(1.0))
    here = read_class(path)
    dearest = [
        (max(c.seconds(1) for c in here.applications[n].curves), max(c.seconds(1) for c in p.curves))
        for n, p in paper.applications.items()
        if n in here.applications
    ]
    path.write_text(full(sum(h for h, _ in dearest) / sum(p for _, p in dearest)))


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description="Record what an application's models and peek say.")
    parser.add_argument("folder", type=Path, nargs="+", help="REPO/NAME of a prepared repository")
    parser.add_argument("--out", type=Path, default=RECORDED, help="folder for NAME.npz")
    parser.add_argument("--timing", type=Path, help="also measure this machine, into this file")
    given = parser.parse_args(arguments)
    for folder in given.folder:
        made = recorded(folder)
        made.save(given.out / f"{made.name}.npz")
        again = load(made.name, given.out)
        accuracy = {v: round(again.quality(v).accuracy, 3) for v in again.variants}
        print(f"{made.name}: {len(again.labels)} test samples, validation accuracy (uniform) {accuracy}")
    if given.timing:
        write_timing(given.folder, given.timing)
        print(f"timing of this machine: {given.timing}")


if __name__ == "__main__":
    main(sys.argv[1:])

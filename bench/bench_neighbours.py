"""Which index for how many labelled examples: `python bench/bench_neighbours.py [--json]`.

References of 1,000 to 100,000 examples with 16 and 64 features: 40 blobs in 8 directions that matter, and a tenth as
much noise in all, from fixed seeds. 400 questions drawn like the reference. Times are the thread's CPU time of one
search for k = 5, alone and in batches of 32; recall is the share of the true k nearest that were found; `same class`
is how often the class with the most votes is that of the exact search. The last column is the recall where nothing
has a structure that an index could use: as many features, all independent.
"""

import argparse
import json
import time

import numpy as np
import numpy.typing as npt

from peekserve.domain.application import IndexKind, IndexSpec
from peekserve.peeking.indexes import Floats32, Index
from peekserve.peeking.neighbours import tally

Rows = npt.NDArray[np.int64]

SIZES, WIDTHS = (1_000, 10_000, 20_000, 100_000), (16, 64)
KINDS = (IndexKind.FLAT, IndexKind.IVF, IndexKind.HNSW, IndexKind.LSH)
QUESTIONS, K, CLASSES, BLOBS = 400, 5, 10, 40


def drawn(rows: int, width: int) -> tuple[Floats32, Rows]:
    """float32 [rows, width] and the class of each: blobs of one class each, that overlap."""
    rng = np.random.default_rng([rows, width])
    centres = rng.normal(size=(BLOBS, 8))
    blob = rng.integers(0, BLOBS, rows)
    inner = centres[blob] + 0.5 * rng.normal(size=(rows, 8))
    turn = rng.normal(size=(8, width)) / np.sqrt(8)
    return (inner @ turn + 0.1 * rng.normal(size=(rows, width))).astype(np.float32), blob % CLASSES


def measured(rows: int, width: int) -> dict[str, dict[str, float]]:
    features, labels = drawn(rows + QUESTIONS, width)
    reference, questions = features[:rows], features[rows:]
    exact = Index(reference, IndexSpec(IndexKind.FLAT)).nearest(questions, K)
    noise = np.random.default_rng([rows, width]).normal(size=features.shape).astype(np.float32)
    exact_noise = Index(noise[:rows], IndexSpec(IndexKind.FLAT)).nearest(noise[rows:], K)
    decided = tally(labels[exact], CLASSES).argmax(axis=1)
    told = {}
    for kind in KINDS:
        begin = time.thread_time()
        index = Index(reference, IndexSpec(kind))
        build_s = time.thread_time() - begin
        found = index.nearest(questions, K)
        lost = Index(noise[:rows], IndexSpec(kind)).nearest(noise[rows:], K)
        told[kind.value] = {
            "build_s": build_s,
            "one_us": spent_us(index, questions, 1),
            "batch_us": spent_us(index, questions, 32),
            "recall": recall(found, exact),
            "same_class": float((tally(labels[found], CLASSES).argmax(axis=1) == decided).mean()),
            "recall_noise": recall(lost, exact_noise),
        }
    return told


def recall(found: Rows, exact: Rows) -> float:
    shared = [len(set(a) & set(b)) for a, b in zip(found.tolist(), exact.tolist(), strict=True)]
    return float(np.mean(shared)) / K


def spent_us(index: Index, questions: Floats32, size: int) -> float:
    """Median over the batches, microseconds for a batch."""
    spent = []
    for start in range(0, QUESTIONS - size + 1, size):
        begin = time.thread_time_ns()
        index.nearest(questions[start : start + size], K)
        spent.append((time.thread_time_ns() - begin) / 1e3)
    return float(np.median(spent))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print numbers for machines")
    as_json = parser.parse_args().json
    table = {f"{n} x {d}": measured(n, d) for n in SIZES for d in WIDTHS}
    if as_json:
        print(json.dumps(table))
        return
    head = f"{'n x d':>14}{'index':>7}{'build':>10}{'1 row':>11}{'32 rows':>12}{'recall':>9}"
    print(f"{head}{'same class':>12}{'of noise':>10}")
    for name, kinds in table.items():
        for kind, cell in kinds.items():
            print(
                f"{name:>14}{kind:>7}{cell['build_s']:>8.2f} s{cell['one_us']:>8.0f} us{cell['batch_us']:>9.0f} us"
                f"{cell['recall']:>9.3f}{cell['same_class']:>12.3f}{cell['recall_noise']:>10.3f}"
            )


if __name__ == "__main__":
    main()

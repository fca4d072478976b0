"""Batches of nothing, in the shapes of real ones: the first real batch shall find everything in place."""

from collections.abc import Iterator, Sequence

import numpy as np

from peekserve.domain.application import Variant
from peekserve.domain.tensors import TensorSpec
from peekserve.runtimes.base import Inputs

LONGEST_S = 0.05


def batch_sizes(variant: Variant) -> tuple[int, ...]:
    """The sizes that the variant's timings list, largest first; 1 alone when nothing is known.

    Sizes that take longer than `LONGEST_S` are left out: few deadlines leave room for them, and every server would
    start that much later for each of its models.
    """
    curves = [curve for timing in variant.timing.values() for curve in timing.curves]
    listed = {b for curve in curves for b in curve.batch_sizes if b <= variant.max_batch}
    quick = (b for b in listed if all(curve.seconds(b) <= LONGEST_S for curve in curves))
    return tuple(sorted(quick, reverse=True)) or (1,)


def blank(variant: Variant, specs: Sequence[TensorSpec], rows: int) -> Iterator[Inputs]:
    """One batch of zeros for each shape bucket, of the inputs that the variant needs (all where it names none)."""
    used = [spec for spec in specs if spec.name in variant.needs or not variant.inputs]
    if not used:
        return
    for bucket in range(max(len(spec.buckets) for spec in used) or 1):
        yield {
            spec.name: np.zeros((rows, *spec.row_shape(min(bucket, len(spec.buckets) - 1))), spec.dtype)
            for spec in used
        }

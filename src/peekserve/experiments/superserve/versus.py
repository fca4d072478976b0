"""The paper's way of comparing: accuracy at equal attainment, attainment at equal accuracy.

Beside a policy stand fixed models. Accuracy at equal attainment: its mean profiled accuracy less that of the best fixed
model that meets as many deadlines; where none does, less that of the one that meets the most. Attainment at equal
accuracy: its attainment over that of the fixed model which is at least as accurate and meets the most. Both are taken
anew in each resample of the seeds.

A fixed model that is overloaded has a head that is nearly due, takes it in a small batch, and so answers less than it
could: that is how all policies here serve, and the paper's. What it *could* meet at best, its capacity over the load,
is a fairer yardstick, and stands beside.
"""

from collections.abc import Sequence

import numpy as np

from peekserve.experiments.superserve.worlds import accuracy
from peekserve.experiments.table import Floats, Table, Value

# One deadline in a thousand is as good as none.
AS_MANY = 1e-3
# So much accuracy is no difference: a tenth of a point.
AS_RIGHT = 1e-3


def points_gained(table: Table, who: str, fixed: Sequence[str], **where: Value) -> Floats:
    """float64 [1 + draws]: accuracy at equal attainment, as a difference of shares: 0.01 is one point."""
    own = table.mean("attainment", policy=who, **where)
    met = np.stack([table.mean("attainment", policy=f, **where) for f in fixed])
    right = np.stack([accuracy(table, policy=f, **where) for f in fixed])
    equal = met >= own - AS_MANY
    most = met >= met.max(axis=0) - AS_MANY
    rivals = np.where(equal.any(axis=0), equal, most)
    return np.asarray(accuracy(table, policy=who, **where) - np.where(rivals, right, -np.inf).max(axis=0))


def times_attained(
    table: Table, who: str, fixed: Sequence[str], at_best: bool = False, **where: Value
) -> Floats:
    """float64 [1 + draws]: attainment at equal accuracy, as a ratio; `at_best`: over what the fixed models could meet.
    A fixed model that answers nothing in time counts as one deadline in a thousand."""
    own = accuracy(table, policy=who, **where)
    met = np.stack([table.mean("could" if at_best else "attainment", policy=f, **where) for f in fixed])
    right = np.stack([accuracy(table, policy=f, **where) for f in fixed])
    # One that is never in time has no accuracy of its own to be measured: it is as right as it would be.
    equal = (right >= own - AS_RIGHT) | (met <= 0.0)
    rivals = np.where(equal, met, -np.inf).max(axis=0)
    most = np.where(equal.any(axis=0), rivals, met[right.argmax(axis=0), np.arange(len(own))])
    return np.asarray(table.mean("attainment", policy=who, **where) / np.maximum(most, AS_MANY))


def against(table: Table, who: str, others: Sequence[str], metric: str, **where: Value) -> Floats:
    """float64 [1 + draws]: the metric of one less the best of the others, paired by seed."""
    return np.asarray(
        table.mean(metric, policy=who, **where)
        - np.maximum.reduce([table.mean(metric, policy=o, **where) for o in others])
    )

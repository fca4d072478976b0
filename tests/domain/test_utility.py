from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.domain.utility import Penalty
from peekserve.errors import InvalidConfiguration


@pytest.mark.parametrize(
    ("points", "says"),
    [
        (
            [(0.0, 0.0), (0.1, 0.5), (0.2, 0.4)],
            "may not fall with lateness: 0.4 at 0.2 s follows 0.5 at 0.1 s",
        ),
        ([(0.0, 0.0), (0.2, 0.5), (0.1, 0.6)], "lateness must rise: 0.1 follows 0.2"),
        ([(0.0, 0.0), (0.0, 0.5)], "lateness must rise"),
        ([(0.0, 0.1), (0.1, 0.5)], r"starts at \(0, 0\)"),
        ([(0.0, 0.0), (0.1, 1.5)], "at or below 1"),
        ([(0.0, 0.0)], "two points or more, not 1"),
    ],
)
def test_a_table_that_is_no_penalty_is_refused(points, says):
    with pytest.raises(InvalidConfiguration, match=says):
        Penalty.table(points)


KINDS = st.sampled_from(
    [
        Penalty.step(),
        Penalty.linear(),
        Penalty.sigmoid(),
        Penalty.linear(0.03),
        Penalty.sigmoid(0.01),
        Penalty.table([(0.0, 0.0), (0.02, 0.3), (0.05, 0.3), (0.4, 0.9)]),
    ]
)


@given(KINDS, st.floats(0.001, 10.0))
def test_no_penalty_falls_with_lateness_or_takes_more_than_all(penalty, deadline_s):
    values = [penalty.at(float(x), deadline_s) for x in np.linspace(-1.0, 1.0, 41)]
    assert all(a <= b for a, b in pairwise(values))
    assert values[20] == values[0] == 0.0
    assert 0.0 <= values[-1] <= 1.0

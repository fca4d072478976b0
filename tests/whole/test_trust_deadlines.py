"""A small piece of `trust-deadlines` and `trust-overload`, on real servers."""

import numpy as np
import pytest

from peekserve.experiments.trust import overload
from peekserve.experiments.trust.deadlines import BUDGETS_S, CURVES, EACH, ON, served, told
from peekserve.experiments.trust.flood import capacity

pytestmark = pytest.mark.whole


def test_what_a_model_of_50_ms_cannot_answer_in_20_is_refused_with_the_numbers(here):
    bursts, journalled = served(here, ON, 2, np.random.default_rng(1))
    size = len(BUDGETS_S) * EACH
    assert [len(burst.replies) for burst in bursts] == [size, size]
    for burst in bursts:
        assert {reply.status for reply in burst.replies} <= {200, 503, 504}
        short = [i for i, budget in enumerate(burst.budgets_s) if budget == min(BUDGETS_S)]
        assert all(burst.refused(i) for i in short)
        assert all(b"the quickest variant needs 50.0 ms" in burst.replies[i].body for i in short)
        # Who has 20 ms cannot be served, whoever knows what.
        assert burst.possible(journalled.curve(CURVES[ON])) <= size - EACH
    assert all(seconds >= 0.050 for each in journalled.takes_s.values() for seconds in each)
    rows = told(bursts, journalled, ON, seed=1)
    assert sum("in_time" in row for row in rows) == 2
    assert sum("client_over_ms" in row for row in rows) == sum(
        reply.status != 200 for burst in bursts for reply in burst.replies
    )


def test_under_any_load_everybody_gets_one_outcome(here):
    row_s = overload.PACES_S[overload.MOST_ACCURATE]
    rng = np.random.default_rng(2)
    most = capacity(here, overload.MOST_ACCURATE, row_s, 1.0, rng)
    assert 0.0 < most <= 1.0 / row_s
    *loads, journalled = overload.loads(here, most, 1.0, seed=2, rng=rng, times=(1.0, 10.0))
    assert [(row["load"], row["way"]) for row in loads] == [(1.0, "up"), (10.0, "up"), (1.0, "back")]
    assert [row["one"] for row in loads] == [1.0, 1.0, 1.0]
    assert sum(row["requests"] for row in loads) == journalled["asked"] == journalled["journalled"]
    assert (journalled["one"], journalled["strangers"]) == (1.0, 0)
    assert loads[1]["utility_per_s"] > loads[0]["utility_per_s"] > 0.0

"""A split of the demo's groups, written into its repository, profiled, served live: a small piece of `horizon-live`."""

import numpy as np
import pytest

from peekserve.errors import DataUnavailable
from peekserve.experiments.horizon.answered import NAMES
from peekserve.experiments.horizon.live import ENTRANTS, divide, job, shop, turns
from peekserve.experiments.horizon.splits import drawn, shipped

pytestmark = pytest.mark.whole


@pytest.fixture(scope="module")
def rows():
    # Too short to say who leads.
    return job(0.5, quick=True)(0)


def test_everybody_serves_the_same_requests_of_every_application(rows):
    assert {row["policy"] for row in rows} == {who.name for who in ENTRANTS}
    for name in NAMES:
        own = [row for row in rows if row["application"] == name]
        assert len(own) == len(ENTRANTS)
        assert len({row["requests"] for row in own}) == 1
        assert own[0]["requests"] > 10
        assert all(0.0 <= row["utility"] <= row["accuracy"] <= 1.0 for row in own)


def test_a_split_moves_whole_groups_and_loses_no_sample(rows):
    profiled = drawn(shipped()[1], 0)
    for name, own in shipped()[1].items():
        parts = [dict(np.load(shop(True).root / name / f"{part}.npz")) for part in ("validation", "test")]
        assert (parts[0]["labels"] == own.labels[profiled[name]]).all()
        assert (parts[1]["labels"] == own.labels[~profiled[name]]).all()
        assert not set(parts[0]["groups"].tolist()) & set(parts[1]["groups"].tolist())


def test_data_that_are_not_the_recorded_ones_are_refused(tmp_path):
    own = shipped()[1]["digits"]
    for part in ("validation", "test"):
        np.savez(tmp_path / f"{part}.npz", labels=np.zeros(3, np.int64))
    with pytest.raises(DataUnavailable, match="digits are not those of recorded"):
        divide(tmp_path, own, own.test)


def test_each_comes_first_as_often_as_the_others():
    assert {turns(seed)[0].name for seed in range(3)} == {who.name for who in ENTRANTS}
    assert all(sorted(w.name for w in turns(s)) == sorted(w.name for w in ENTRANTS) for s in range(4))

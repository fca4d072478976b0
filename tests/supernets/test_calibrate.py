"""SubnetNorm's statistics: what they are, what they are made of, and what happens without them."""

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

from peekserve.errors import InvalidConfiguration, InvalidData  # noqa: E402
from peekserve.supernets.calibrate import calibrate, drawn  # noqa: E402
from peekserve.supernets.measure import probabilities  # noqa: E402
from peekserve.supernets.operators import Supernet  # noqa: E402
from peekserve.supernets.space import Subnet  # noqa: E402
from tests.supernets.beats import ANSWERS, ROWS, SPACE, UNSEEN, trained  # noqa: E402


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    return trained(epochs=16)[0]


def accuracy(supernet: Supernet, subnet: Subnet) -> float:
    supernet.actuate(subnet)
    return float((probabilities(supernet, UNSEEN).argmax(1) == ANSWERS).mean())


def test_a_subnet_collapses_with_statistics_that_are_not_its_own(supernet: Supernet):
    narrow = Subnet((1, 1), (0.25, 0.25))
    calibrate(supernet, [narrow, SPACE.largest], ROWS)
    own = accuracy(supernet, narrow)
    largest = supernet.norms[SPACE.largest.name]
    lent = {
        name: tuple(whole[: len(mean)] for whole in largest[name])
        for name, (mean, _) in supernet.norms[narrow.name].items()
    }
    supernet.keep_norms(narrow, lent)
    borrowed = accuracy(supernet, narrow)
    calibrate(supernet, [narrow], ROWS)
    assert accuracy(supernet, narrow) == own
    assert own > 0.9
    assert borrowed < own - 0.4


def test_the_statistics_are_the_means_over_the_rows(supernet: Supernet):
    narrow = SPACE.smallest
    calibrate(supernet, [narrow], ROWS)
    mean, var = supernet.norms[narrow.name]["stem.norm"]
    # Four channels of sixteen; 192 rows are one batch, so its own mean and biased variance are all there is.
    kernel = supernet.network.stem.conv.weight[:4, :, 0].detach()
    stem = torch.nn.functional.conv1d(torch.from_numpy(ROWS), kernel, padding=2)
    assert mean.shape == (4,)
    torch.testing.assert_close(mean, stem.mean((0, 2)))
    torch.testing.assert_close(var, stem.var((0, 2), correction=0))


def test_each_subnet_keeps_its_own(supernet: Supernet):
    calibrate(supernet, [SPACE.smallest], ROWS)
    before = {name: mean.clone() for name, (mean, _) in supernet.norms[SPACE.smallest.name].items()}
    calibrate(supernet, [Subnet((2, 1), (0.25, 0.25))], ROWS[:100])
    after = supernet.norms[SPACE.smallest.name]
    assert all(torch.equal(mean, after[name][0]) for name, mean in before.items())


def test_each_is_named_as_it_is_done(supernet: Supernet):
    done: list[str] = []
    calibrate(supernet, SPACE.all(), ROWS[:64], lambda subnet: done.append(subnet.name))
    assert done == [subnet.name for subnet in SPACE.all()]
    assert set(supernet.norms) == set(done)


def test_a_row_alone_has_no_statistics(supernet: Supernet):
    with pytest.raises(InvalidData, match="1 rows"):
        calibrate(supernet, [SPACE.smallest], ROWS[:1])


def test_a_subnet_outside_the_space_is_refused(supernet: Supernet):
    with pytest.raises(InvalidConfiguration, match="stage 0 cannot run 3 blocks"):
        calibrate(supernet, [Subnet((3, 1), (1.0, 1.0))], ROWS)


def test_the_rows_drawn_are_the_same_each_time_and_mixed():
    rows = np.arange(500, dtype=np.float32)[:, None]
    some = drawn(rows, 100)
    assert np.array_equal(some, drawn(rows, 100))
    assert len(np.unique(some)) == 100
    assert some.max() > 400

"""Short stories: devices, goals and loads as people write them."""

import pytest

from peekserve.errors import InvalidConfiguration, ProfileMissing
from peekserve.planner.loads import Loads
from peekserve.planner.problem import Slo, devices, models
from tests.planner.worlds import a_problem, an_application


def test_devices_are_counted_by_kind():
    found = devices("2xcpu=1GiB, cuda, cpu=64MiB")
    assert [d.name for d in found] == ["cpu:0", "cpu:1", "cuda:0", "cpu:2"]
    assert [d.budget_bytes >> 20 for d in found] == [1024, 1024, 1 << 20, 64]


@pytest.mark.parametrize("text", ["", "0xcpu", "cpu=5", "CPU", "cpu:0,cpu:0", "2 cpu"])
def test_devices_that_cannot_be(text):
    with pytest.raises(InvalidConfiguration, match="device"):
        devices(text)


@pytest.mark.parametrize(
    "text", ["", "p95=400", "p95=0ms", "accuracy=2", "accuracy=0", "p99=1s", "accuracy=95%"]
)
def test_goals_that_cannot_be(text):
    with pytest.raises(InvalidConfiguration, match="a goal is"):
        Slo.parse(text)


@pytest.mark.parametrize("text", ["p95=400ms", "accuracy=0.95", "p95=20ms,accuracy=0.9"])
def test_a_goal_reads_back_as_it_was_written(text):
    assert str(Slo.parse(text)) == text
    assert Slo.parse(str(Slo.parse(text))) == Slo.parse(text)


def test_measured_rates_weigh_the_ranges_that_they_fall_into():
    loads = Loads.measured([5.0, 12.0, 19.0, 500.0], 30.0, 3)
    assert loads.edges == (0.0, 10.0, 20.0, 30.0)
    assert loads.weights == (0.25, 0.5, 0.25)


def test_loads_from_a_file(tmp_path):
    (tmp_path / "rates").write_text("5\n12\n19\n29\n")
    assert Loads.parse(str(tmp_path / "rates"), 30.0, 3).weights == (0.25, 0.5, 0.25)
    assert Loads.parse("zipf:0", 30.0, 3).weights == pytest.approx((1 / 3,) * 3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Loads.zipf(0.0, 10),
        lambda: Loads.zipf(100.0, 0),
        lambda: Loads.zipf(float("inf"), 2),
        lambda: Loads.given((0.0, 10.0, 10.0), (1.0, 1.0)),
        lambda: Loads.parse("0-50:1,50-50:1", 100.0, 2),
    ],
)
def test_an_empty_load_range_is_refused(make):
    with pytest.raises(InvalidConfiguration, match="an empty load range"):
        make()


@pytest.mark.parametrize("text", ["often", "0-50:1,60-70:1", "0-50:0", "5-50:1", "0-50:-1,50-60:2"])
def test_loads_that_cannot_be(text):
    with pytest.raises(InvalidConfiguration, match="load"):
        Loads.parse(text, 100.0, 2)


def test_nobody_measured_anything():
    with pytest.raises(InvalidConfiguration, match="no rate was measured"):
        Loads.measured([], 100.0, 2)


def test_variants_without_a_timing_there_are_left_out():
    assert len(models(an_application(), ["cpu", "cuda"])) == 3
    with pytest.raises(ProfileMissing, match="no variant is timed on cuda; run peekserve profile"):
        models(an_application(), ["cuda"])


def test_a_sample_costs_what_it_does_on_the_quickest_kind():
    assert a_problem().seconds() == pytest.approx({"tiny": 0.0005, "small": 30e-3 / 16, "large": 0.010})
    assert a_problem(batch=1).seconds()["large"] == pytest.approx(0.020)

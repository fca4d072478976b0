"""Which subnets there are, and what they are called."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.errors import InvalidConfiguration
from peekserve.supernets.space import Space, Subnet, kept_units

STAGES = Space("conv1d", (3, 2), (1, 2), (0.25, 0.5, 1.0), uniform=False)


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    stages = draw(st.integers(1, 3))
    least = tuple(draw(st.integers(1, 3)) for _ in range(stages))
    depths = tuple(n + draw(st.integers(0, 2)) for n in least)
    percents = draw(st.sets(st.integers(1, 99), max_size=3))
    widths = tuple(percent / 100 for percent in sorted(percents | {100}))
    return Space("conv2d", depths, least, widths, draw(st.booleans()))


@given(spaces())
def test_a_space_lists_each_of_its_subnets_once(space: Space):
    listed = list(space.all())
    assert len(listed) == len(set(listed)) == len({subnet.name for subnet in listed}) == space.size
    assert (listed[0], listed[-1]) == (space.smallest, space.largest)
    for subnet in listed:
        space.check(subnet)
        assert Subnet.parse(subnet.name) == subnet


@given(spaces(), st.integers(0, 2**32))
def test_what_is_drawn_lies_in_the_space_and_a_seed_draws_it_again(space: Space, seed: int):
    drawn = space.sample(np.random.default_rng(seed))
    space.check(drawn)
    assert space.sample(np.random.default_rng(seed)) == drawn


@given(st.integers(1, 100), st.integers(1, 4096))
def test_a_width_keeps_the_smallest_number_that_is_no_less_than_its_share(percent: int, units: int):
    kept = kept_units(percent / 100, units)
    assert 100 * (kept - 1) < percent * units <= 100 * kept


def test_one_width_for_all_stages_is_written_once():
    assert Subnet((2, 2, 1), (0.5, 0.5, 0.5)).name == "d2-2-1.w50"
    assert Subnet((2, 2), (0.5, 1.0)).name == "d2-2.w50-100"
    assert Subnet.parse("d2-2.w50-50") == Subnet.parse("d2-2.w50")


@given(st.integers(1, 24).flatmap(lambda most: st.tuples(st.just(most), st.integers(1, most))))
def test_a_transformer_leaves_out_blocks_evenly(blocks: tuple[int, int]):
    most, depth = blocks
    space = Space("transformer", (most,), (1,), (1.0,))
    (kept,) = space.kept(Subnet((depth,), (1.0,)))
    assert kept[0] == 0
    assert len(set(kept)) == depth
    gaps = np.diff([*kept, most])
    assert gaps.min() >= most // depth
    assert gaps.max() <= -(-most // depth)


def test_nine_of_twelve_blocks_are_those_of_dynaberts_released_code():
    space = Space("transformer", (12,), (1,), (1.0,))
    assert space.kept(Subnet((9,), (1.0,))) == ((0, 1, 2, 4, 5, 6, 8, 9, 10),)


def test_a_convolutional_stage_keeps_its_first_blocks():
    assert STAGES.kept(Subnet((2, 2), (1.0, 1.0))) == ((0, 1), (0, 1))


@pytest.mark.parametrize(
    ("subnet", "says"),
    [
        (Subnet((3,), (1.0,)), "1 depths.*2 stages"),
        (Subnet((3, 2), (1.0,)), "1 widths.*2 stages"),
        (Subnet((4, 2), (1.0, 1.0)), "stage 0 cannot run 4 blocks, only 1 to 3"),
        (Subnet((1, 1), (1.0, 1.0)), "stage 1 cannot run 1 blocks, only 2 to 2"),
        (Subnet((1, 2), (1.0, 0.75)), "stage 1 has no width 0.75, only 0.25, 0.5, 1.0"),
    ],
)
def test_a_subnet_outside_the_space_is_told_which_stage_and_what_would_be_right(subnet: Subnet, says: str):
    with pytest.raises(InvalidConfiguration, match=says):
        STAGES.check(subnet)


def test_stages_of_different_widths_need_a_space_that_has_them():
    with pytest.raises(InvalidConfiguration, match="one width for all stages"):
        Space("conv1d", (3, 2), (1, 2), (0.5, 1.0)).check(Subnet((3, 2), (0.5, 1.0)))


@pytest.mark.parametrize("text", ["", "d2", "w50", "d2-2.w", "d2-2.w50.onnx", "d2-.w50", "2-2.50"])
def test_what_is_no_name_is_refused(text: str):
    with pytest.raises(InvalidConfiguration, match=r"like d2-2-1\.w50"):
        Subnet.parse(text)


def test_a_name_with_one_width_too_few_is_refused():
    with pytest.raises(InvalidConfiguration, match="3 depths and 2 widths"):
        Subnet.parse("d1-1-1.w50-100")


@pytest.mark.parametrize(
    ("architecture", "depths", "least", "widths", "says"),
    [
        ("lstm", (1,), (1,), (1.0,), "'lstm' is not known; there are conv1d, conv2d, transformer"),
        ("conv1d", (), (), (1.0,), "one stage or more"),
        ("conv1d", (2, 2), (1,), (1.0,), "one of each for every stage"),
        ("conv1d", (2, 2), (1, 3), (1.0,), "stage 1 runs 3 to 2"),
        ("conv1d", (2,), (0,), (1.0,), "stage 0 runs 0 to 2"),
        ("transformer", (2, 2), (1, 1), (1.0,), "one stage, not 2"),
        ("conv1d", (2,), (1,), (), "the last 1.0"),
        ("conv1d", (2,), (1,), (0.5,), "the last 1.0"),
        ("conv1d", (2,), (1,), (0.5, 0.25, 1.0), "rising"),
        ("conv1d", (2,), (1,), (0.0, 1.0), "above 0"),
        ("conv1d", (2,), (1,), (0.333, 1.0), "whole percents"),
    ],
)
def test_an_impossible_space_says_what_is_wrong(architecture, depths, least, widths, says):
    with pytest.raises(InvalidConfiguration, match=says):
        Space(architecture, depths, least, widths)

"""Memory in rows, over a supernet so small that only the shape of the table means something."""

import os

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

from peekserve.errors import InvalidData
from peekserve.experiments.superserve.memory import measure, resident, spread
from peekserve.supernets.space import Space
from peekserve.supernets.storage import Description, Offered, save
from tests.supernets.nets import SIZES, SPACES, a_supernet


def test_six_spread_models_are_a_ladder_of_sizes_with_both_ends():
    subnets = list(Space("conv1d", (3, 3), (1, 1), (0.5, 1.0)).all())
    sizes = [10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 40, 41, 60, 80, 81, 82, 83, 100]
    chosen = spread(subnets, sizes)
    assert [sizes[subnets.index(one)] for one in chosen] == [10, 20, 41, 60, 80, 100] or len(set(chosen)) == 6
    assert chosen[0] == subnets[0]
    assert chosen[-1] == subnets[-1]


def test_fewer_subnets_than_models_are_told():
    subnets = list(Space("conv1d", (2,), (1,), (1.0,)).all())
    with pytest.raises(InvalidData, match="6 spread models are asked of 2 subnets"):
        spread(subnets, [1, 2])


def test_a_process_that_is_gone_is_named():
    assert resident(os.getpid())[0] > 1e6
    with pytest.raises(InvalidData, match="process 2147483646"):
        resident(2147483646)


@pytest.mark.whole
def test_every_mode_has_a_line_for_six_and_for_all(tmp_path):
    space = SPACES["conv2d"]
    subnets = list(space.all())[:9]
    offered = tuple(Offered(s, 9, 10, 1000 + i, 1) for i, s in enumerate(subnets))
    classes = tuple(f"class {i}" for i in range(SIZES["conv2d"]["classes"]))
    described = Description(space, SIZES["conv2d"], classes, (1, 8, 8), offered=offered)
    save(a_supernet("conv2d", subnets), tmp_path / "wide", described)
    modes = ("subnets, ONNX Runtime, one copy", "separate models, ONNX Runtime")
    lines = measure(tmp_path / "wide", tmp_path / "work", modes)
    assert [(line.mode, line.models) for line in lines] == [(mode, n) for mode in modes for n in (6, 9)]
    for less, more in (lines[:2], lines[2:]):
        assert more.weights_bytes > less.weights_bytes
        assert more.one_more_bytes == pytest.approx((more.growth_bytes - less.growth_bytes) / 3)
        assert less.one_more_bytes is None
        assert less.empty_bytes > 1e6

"""Networks from plain sizes."""

import pytest

torch = pytest.importorskip("torch")

from peekserve.errors import InvalidConfiguration  # noqa: E402
from peekserve.supernets.networks import LARGE, LARGE_SPACE, LogMel, build  # noqa: E402
from peekserve.supernets.operators import Supernet  # noqa: E402
from tests.supernets.nets import SIZES  # noqa: E402

FRONT = {"shape": [400], "front": [9, 16, 8, 6], "classes": 3}


@pytest.mark.parametrize("architecture", list(SIZES))
def test_an_example_is_one_row_and_always_the_same(architecture: str):
    network = build(architecture, SIZES[architecture]).eval()
    example = network.example()
    assert list(example.shape) == [1, *SIZES[architecture]["shape"]]
    assert torch.equal(example, network.example())
    assert network(example.repeat(3, *(1 for _ in SIZES[architecture]["shape"]))).shape == (
        3,
        SIZES[architecture]["classes"],
    )


@pytest.mark.parametrize(
    ("architecture", "sizes"),
    [
        ("conv1d", {"channels": [4], "blocks": [1]}),
        ("conv2d", {"channels": [4], "blocks": [1]}),
        ("transformer", {"tokens": [49, 6], "width": 8, "heads": 2, "inner": 9, "blocks": 2}),
    ],
)
def test_a_front_turns_samples_into_what_the_network_reads(architecture: str, sizes):
    network = build(architecture, FRONT | sizes).eval()
    assert network(network.example()).shape == (1, 3)


def test_loudness_does_not_matter_behind_a_front():
    front = LogMel(frequencies=4, window=16, hop=8, bands=3)
    generator = torch.Generator().manual_seed(0)
    front.transform.copy_(torch.randn(front.transform.shape, generator=generator))
    front.bands.copy_(torch.rand(front.bands.shape, generator=generator))
    clip = torch.randn(2, 100, generator=generator)
    energies = front(clip)
    assert energies.shape == (2, 1, 3, 11)
    assert torch.allclose(energies, front(10 * clip), atol=1e-3)


def test_the_large_one_has_ten_million_parameters_and_can_be_sliced():
    with torch.device("meta"):
        network = build(LARGE_SPACE.architecture, LARGE)
    assert sum(parameter.numel() for parameter in network.parameters()) >= 10_000_000
    assert LARGE["blocks"] == list(LARGE_SPACE.depths)


def test_a_twin_of_the_large_one_can_be_sliced():
    network = build(LARGE_SPACE.architecture, {**LARGE, "channels": [8, 12, 16]})
    assert Supernet(network, LARGE_SPACE).actuated == LARGE_SPACE.largest


@pytest.mark.parametrize(
    ("architecture", "changed", "says"),
    [
        ("lstm", {}, "'lstm' is not known; there are conv1d, conv2d, transformer"),
        ("conv1d", {"kernels": 3}, r"unknown \['kernels'\]"),
        ("conv1d", {"kernel": 0}, "size kernel .* integers above 0"),
        ("conv1d", {"kernel": [3]}, "size kernel: .* one integer"),
        ("conv1d", {"channels": 8}, "size channels: 8; a list"),
        ("conv1d", {"channels": []}, "size channels"),
        ("conv1d", {"channels": [8]}, "one of each for every stage"),
        ("conv2d", {"shape": [1, 8]}, "3 numbers are right"),
        ("conv2d", {"front": [9, 16, 8, 6]}, "1 numbers are right"),
        ("transformer", {"heads": 5}, "multiple of the heads"),
        ("transformer", {"tokens": [3]}, "how many, and the features"),
        ("transformer", {"shape": [40], "front": [9, 16]}, "frequencies, window, hop and bands"),
    ],
)
def test_impossible_sizes_are_named(architecture: str, changed, says: str):
    with pytest.raises(InvalidConfiguration, match=says):
        build(architecture, SIZES.get(architecture, {}) | changed)


def test_a_missing_size_is_named():
    with pytest.raises(InvalidConfiguration, match=r"missing \['blocks', 'channels'\]"):
        build("conv1d", {"shape": [1, 8], "classes": 2})

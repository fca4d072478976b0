"""Small supernets of every architecture, with statistics that differ from the first ones."""

from collections.abc import Iterable

import pytest

torch = pytest.importorskip("torch")

from torch import Tensor, nn  # noqa: E402

from peekserve.supernets.networks import build  # noqa: E402
from peekserve.supernets.operators import Supernet  # noqa: E402
from peekserve.supernets.space import Space, Subnet  # noqa: E402

SIZES = {
    "conv1d": {
        "shape": [2, 36],
        "classes": 5,
        "channels": [7, 12],
        "blocks": [2, 3],
        "kernel": 5,
        "stem_stride": 2,
    },
    "conv2d": {"shape": [1, 8, 8], "classes": 10, "channels": [6, 10, 13], "blocks": [2, 1, 2]},
    "transformer": {
        "shape": [6, 11],
        "classes": 4,
        "width": 24,
        "heads": 6,
        "inner": 33,
        "blocks": 5,
    },
}
SPACES = {
    "conv1d": Space("conv1d", (2, 3), (1, 1), (0.25, 0.5, 0.75, 1.0), uniform=False),
    "conv2d": Space("conv2d", (2, 1, 2), (1, 1, 1), (0.3, 0.6, 1.0)),
    "transformer": Space("transformer", (5,), (2,), (0.3, 0.5, 1.0)),
}


def a_network(architecture: str, seed: int = 0) -> nn.Module:
    """In evaluation, after some batches in training, so that no statistics are still those it began with."""
    torch.manual_seed(seed)
    network = build(architecture, SIZES[architecture]).train()
    with torch.no_grad():
        for _ in range(3):
            network(rows_of(architecture, 16))
    return network.eval()


def rows_of(architecture: str, rows: int, seed: int = 1) -> Tensor:
    return torch.randn((rows, *SIZES[architecture]["shape"]), generator=torch.Generator().manual_seed(seed))


def a_supernet(architecture: str, calibrated: Iterable[Subnet] = ()) -> Supernet:
    supernet = Supernet(a_network(architecture), SPACES[architecture])
    for subnet in calibrated:
        with supernet.collecting(subnet):
            supernet(rows_of(architecture, 12, seed=2))
    return supernet

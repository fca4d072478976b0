"""Which subnets a supernet has: plain numbers, no torch, so that a registry can read them.

A subnet is the control tuple (D, W) of SuperServe (section 3.1): D says how many blocks of each stage run, W which
fraction of a stage's channels (of a block's heads and inner features, in a transformer). Both always keep a prefix
of the weights, so every subnet lies inside the one set of weights.
"""

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from peekserve.errors import InvalidConfiguration

ARCHITECTURES = ("conv1d", "conv2d", "transformer")
NAME = re.compile(r"d(\d+(?:-\d+)*)\.w(\d+(?:-\d+)*)")


def kept_units(width: float, units: int) -> int:
    """ceil(width * units) of channels, heads or inner features, in whole percents: 0.55 of 100 is 55, not 56.

    >>> kept_units(0.5, 33), kept_units(0.55, 100), kept_units(1.0, 7)
    (17, 55, 7)
    """
    return -(-round(width * 100) * units // 100)


@dataclass(frozen=True, slots=True)
class Subnet:
    """The blocks that run and the fraction of the width that is used, one number for each stage.

    >>> Subnet((2, 2, 1), (0.5, 0.5, 0.5)).name
    'd2-2-1.w50'
    >>> Subnet.parse("d3-1.w50-100")
    Subnet(depths=(3, 1), widths=(0.5, 1.0))
    """

    depths: tuple[int, ...]
    widths: tuple[float, ...]

    @property
    def name(self) -> str:
        percents = [f"{round(width * 100)}" for width in self.widths]
        same = len(set(percents)) == 1
        return f"d{'-'.join(map(str, self.depths))}.w{percents[0] if same else '-'.join(percents)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """A name read back; raises InvalidConfiguration where it is none."""
        found = NAME.fullmatch(text)
        if found is None:
            raise InvalidConfiguration(
                f"{text!r} names no subnet; blocks of each stage, then widths in percent, like d2-2-1.w50"
            )
        depths = tuple(int(part) for part in found[1].split("-"))
        widths = tuple(int(part) / 100 for part in found[2].split("-"))
        if len(widths) not in (1, len(depths)):
            raise InvalidConfiguration(
                f"{text!r} has {len(depths)} depths and {len(widths)} widths; one width for all, or one each"
            )
        return cls(depths, widths if len(widths) == len(depths) else widths * len(depths))


@dataclass(frozen=True, slots=True)
class Space:
    """Stage s runs `least[s]` to `depths[s]` blocks at one of `widths`: one for all stages if `uniform`.

    `widths` are fractions in whole percents, rising, the last 1.0. Raises InvalidConfiguration otherwise.

    >>> space = Space("conv1d", (2, 2), (1, 1), (0.5, 1.0), uniform=True)
    >>> space.size, space.smallest.name, space.largest.name
    (8, 'd1-1.w50', 'd2-2.w100')
    """

    architecture: str
    depths: tuple[int, ...]
    least: tuple[int, ...]
    widths: tuple[float, ...]
    uniform: bool = True

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise InvalidConfiguration(
                f"architecture {self.architecture!r} is not known; there are {', '.join(ARCHITECTURES)}"
            )
        if not self.depths or len(self.least) != len(self.depths):
            raise InvalidConfiguration(
                f"depths {self.depths} and least {self.least}: one of each for every stage, one stage or more"
            )
        if self.architecture == "transformer" and len(self.depths) != 1:
            raise InvalidConfiguration(f"a transformer has one stage, not {len(self.depths)}")
        for stage, (least, most) in enumerate(zip(self.least, self.depths, strict=True)):
            if not 1 <= least <= most:
                raise InvalidConfiguration(f"stage {stage} runs {least} to {most} blocks: 1 <= least <= most")
        rising = all(a < b for a, b in itertools.pairwise(self.widths))
        if not self.widths or not rising or self.widths[0] <= 0.0 or self.widths[-1] != 1.0:
            raise InvalidConfiguration(f"widths {self.widths}: above 0, rising, and the last 1.0")
        for width in self.widths:
            if width != round(width * 100) / 100:
                raise InvalidConfiguration(
                    f"width {width}: whole percents only, since names are written in them"
                )

    @property
    def stages(self) -> int:
        return len(self.depths)

    @property
    def size(self) -> int:
        """How many subnets there are."""
        of_depths = math.prod(m - n + 1 for n, m in zip(self.least, self.depths, strict=True))
        return int(of_depths * len(self.widths) ** (1 if self.uniform else self.stages))

    @property
    def largest(self) -> Subnet:
        """All blocks, full width: the plain network itself."""
        return Subnet(self.depths, (1.0,) * self.stages)

    @property
    def smallest(self) -> Subnet:
        return Subnet(self.least, self.widths[:1] * self.stages)

    def check(self, subnet: Subnet) -> None:
        """Raises InvalidConfiguration where `subnet` is none of this space: at which stage, and what would be right."""
        for what, given in (("depths", subnet.depths), ("widths", subnet.widths)):
            if len(given) != self.stages:
                raise InvalidConfiguration(
                    f"a subnet of {len(given)} {what} {given}; this space has {self.stages} stages"
                )
        for stage, depth in enumerate(subnet.depths):
            if not self.least[stage] <= depth <= self.depths[stage]:
                raise InvalidConfiguration(
                    f"{subnet.name}: stage {stage} cannot run {depth} blocks, "
                    f"only {self.least[stage]} to {self.depths[stage]}"
                )
        for stage, width in enumerate(subnet.widths):
            if width not in self.widths:
                raise InvalidConfiguration(
                    f"{subnet.name}: stage {stage} has no width {width}, only {', '.join(map(str, self.widths))}"
                )
        if self.uniform and len(set(subnet.widths)) > 1:
            raise InvalidConfiguration(f"{subnet.name}: this space has one width for all stages")

    def kept(self, subnet: Subnet) -> tuple[tuple[int, ...], ...]:
        """For each stage, which of its blocks run, from 0 (LayerSelect).

        The first D of a convolutional stage. Of a transformer's L blocks those at floor(i * L / D), as DynaBERT's
        released code keeps them: SuperServe prints the rule of the blocks that are left out.

        >>> Space("transformer", (6,), (2,), (1.0,)).kept(Subnet((4,), (1.0,)))
        ((0, 1, 3, 4),)
        """
        if self.architecture == "transformer":
            most, depth = self.depths[0], subnet.depths[0]
            return (tuple(i * most // depth for i in range(depth)),)
        return tuple(tuple(range(depth)) for depth in subnet.depths)

    def all(self) -> Iterator[Subnet]:
        """Every subnet once, the smallest first and the largest last; the same order every time."""
        each = [range(n, m + 1) for n, m in zip(self.least, self.depths, strict=True)]
        of_widths: Iterator[tuple[float, ...]] = (
            ((width,) * self.stages for width in self.widths)
            if self.uniform
            else itertools.product(self.widths, repeat=self.stages)
        )
        for widths in of_widths:
            for depths in itertools.product(*each):
                yield Subnet(depths, widths)

    def sample(self, rng: np.random.Generator) -> Subnet:
        """One subnet: each depth, and each width, with equal chance."""
        depths = tuple(int(rng.integers(n, m + 1)) for n, m in zip(self.least, self.depths, strict=True))
        drawn = rng.integers(0, len(self.widths), 1 if self.uniform else self.stages)
        widths = tuple(self.widths[int(i)] for i in drawn)
        return Subnet(depths, widths * self.stages if self.uniform else widths)

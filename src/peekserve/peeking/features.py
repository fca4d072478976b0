"""Cheap features of raw inputs: what the neighbours are searched by.

A peek's features are a list of steps. The *sources* read the inputs and are set side by side:

    raw           the values themselves; with `bins`, each series read at that many points (lengths may vary)
    statistics    mean, std, min, max, mean absolute difference and mean square of each channel
    spectrum      log power of each channel in `bins` bands (16 unless said)
    onnx          the first output of the network `model`, flattened

and the *maps* that follow work on what the sources gave, each fitted on the reference data:

    standardise   each feature to mean 0 and deviation 1
    pca           the first `components` principal components

With no source, `raw` is meant. A series runs along the axis whose length varies, else along the row's longest
axis (the last of equals); the other axes are channels. Several inputs follow one another in the order they
were fitted in.

A NaN counts as missing and is replaced by the reference mean: of that very element where shapes are fixed, of
the channel where lengths vary. Arithmetic is in float64 and the result float32; a row's features do not
depend on its padding, and on the rows beside it only by the last bit of a float32 where a `pca` or `onnx`
step is used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from peekserve.domain.application import FeatureStep
from peekserve.errors import InvalidConfiguration, InvalidData, InvalidTensor
from peekserve.peeking import signals
from peekserve.peeking.affine import Affine
from peekserve.peeking.base import Inputs, Lengths
from peekserve.peeking.seeing import Seen, SeenInput, Varying, learn

Floats = npt.NDArray[np.float64]

SOURCES = ("raw", "statistics", "spectrum", "onnx")
MAPS = ("standardise", "pca")
KINDS = SOURCES + MAPS


class _Source(Protocol):
    def __call__(self, seen: Mapping[str, Seen]) -> Floats: ...


@dataclass(frozen=True, slots=True)
class _Raw:
    points: int

    def __call__(self, seen: Mapping[str, Seen]) -> Floats:
        if self.points:
            return _beside([signals.waveform(one.series, one.lengths, self.points) for one in seen.values()])
        return _beside([one.values.reshape(len(one.values), -1) for one in seen.values()])


@dataclass(frozen=True, slots=True)
class _Statistics:
    def __call__(self, seen: Mapping[str, Seen]) -> Floats:
        return _beside([signals.statistics(one.series, one.lengths) for one in seen.values()])


@dataclass(frozen=True, slots=True)
class _Spectrum:
    """`sizes`: points of the transform for each input. `floor`: what is added to the power before the
    logarithm, a millionth of the reference's mean, so that silence is low but not minus infinity, whatever
    the unit."""

    sizes: tuple[int, ...]
    bins: int
    floor: float

    def power(self, seen: Mapping[str, Seen]) -> Floats:
        pairs = zip(seen.values(), self.sizes, strict=True)
        return _beside([signals.band_power(one.series, one.lengths, size, self.bins) for one, size in pairs])

    def __call__(self, seen: Mapping[str, Seen]) -> Floats:
        return np.log(self.power(seen) + self.floor)


class NetworkRun(Protocol):
    def __call__(self, inputs: Mapping[str, Floats]) -> Floats: ...


@dataclass(frozen=True, slots=True)
class _Network:
    run: NetworkRun

    def __call__(self, seen: Mapping[str, Seen]) -> Floats:
        return self.run({name: one.values for name, one in seen.items()})


@dataclass(frozen=True, slots=True)
class Features:
    """Fitted features: `transform` turns raw inputs into float32 [n, width]."""

    inputs: tuple[SeenInput, ...]
    sources: tuple[_Source, ...]
    map: Affine

    @classmethod
    def fit(
        cls,
        steps: Sequence[FeatureStep],
        inputs: Inputs,
        lengths: Lengths | None = None,
        varying: Mapping[str, Varying] | None = None,
        models: Path = Path(),
    ) -> "Features":
        """Learn from reference inputs, name -> [n, *row shape].

        `lengths`: for each input whose length varies, int [n]. `varying`: its axis and its longest; without
        it the row's longest axis and the reference's own width. `models`: the folder of `onnx` steps.

        Raises InvalidConfiguration for steps that cannot be, InvalidData for a reference that cannot be
        fitted.
        """
        rows = {len(values) for values in inputs.values()}
        if len(rows) != 1 or 0 in rows:
            raise InvalidData(
                f"a peek's reference inputs have one and the same number of rows, 1 or more, not {rows}"
            )
        try:
            known = tuple(learn(name, inputs[name], lengths or {}, varying or {}) for name in inputs)
            seen = {one.name: one.see(inputs, lengths or {}) for one in known}
        except InvalidTensor as error:
            # The same checks as for a request, but this is the owner's file and no client's mistake.
            raise InvalidData(f"the peek's reference: {error}") from error
        sources, maps = _arranged(steps)
        made = tuple(_make(step, known, seen, models) for step in sources)
        reference = _beside([source(seen) for source in made])
        affine = Affine.identity(reference.shape[1])
        for step in maps:
            if step.kind == "pca":
                affine = affine.projected(reference, step.components)
            else:
                affine = affine.standardised(reference)
        return cls(known, made, affine)

    @property
    def width(self) -> int:
        return len(self.map.offset)

    def transform(self, inputs: Inputs, lengths: Lengths | None = None) -> npt.NDArray[np.float32]:
        """float32 [n, width], C-contiguous, for n rows of one shape. Raises InvalidTensor for inputs that are
        absent, of another shape, or without their lengths."""
        seen = {one.name: one.see(inputs, lengths or {}) for one in self.inputs}
        if len(seen) > 1 and len({len(one.values) for one in seen.values()}) > 1:
            raise InvalidTensor(
                f"inputs differ in rows: { {name: len(one.values) for name, one in seen.items()} }"
            )
        values = _beside([source(seen) for source in self.sources])
        return np.ascontiguousarray(self.map.apply(values), dtype=np.float32)


def _arranged(steps: Sequence[FeatureStep]) -> tuple[Sequence[FeatureStep], Sequence[FeatureStep]]:
    """The sources and the maps of a list of steps; sources come first."""
    for step in steps:
        if step.kind not in KINDS:
            raise InvalidConfiguration(
                f"peek features: no step is called {step.kind!r}; there are {', '.join(KINDS)}"
            )
    first_map = next((i for i, step in enumerate(steps) if step.kind in MAPS), len(steps))
    late = [step.kind for step in steps[first_map:] if step.kind in SOURCES]
    if late:
        raise InvalidConfiguration(
            f"peek features: {late[0]!r} reads the inputs and stands before {steps[first_map].kind!r}, "
            "which works on features"
        )
    return steps[:first_map] or (FeatureStep("raw"),), steps[first_map:]


def _make(step: FeatureStep, known: Sequence[SeenInput], seen: Mapping[str, Seen], models: Path) -> _Source:
    varying = [one.name for one in known if one.varies]
    if step.bins < 0:
        raise InvalidConfiguration(f"peek features: bins of {step.kind!r} is not negative, but {step.bins}")
    if step.kind == "raw":
        if varying and not step.bins:
            raise InvalidConfiguration(
                f"peek features: the length of {', '.join(varying)} varies; give 'raw' a number of "
                "bins to read it at"
            )
        return _Raw(step.bins)
    if step.kind == "statistics":
        return _Statistics()
    if step.kind == "spectrum":
        sizes = tuple(one.longest for one in known)
        bins = step.bins or 16
        if bins > min(sizes) // 2 + 1:
            raise InvalidConfiguration(
                f"peek features: a series of {min(sizes)} samples has a spectrum of at most "
                f"{min(sizes) // 2 + 1} bins, not {bins}"
            )
        mean = float(_Spectrum(sizes, bins, 0.0).power(seen).mean())
        return _Spectrum(sizes, bins, max(1e-6 * mean, float(np.finfo(np.float32).tiny)))
    if varying:
        raise InvalidConfiguration(
            f"peek features: an onnx step would see the padding of {', '.join(varying)}; its "
            "answer would depend on it"
        )
    if not step.model:
        raise InvalidConfiguration("peek features: an onnx step names its model")
    # Imported here: most peeks need no network, and the runtime is 40 MB of the front's memory.
    from peekserve.peeking.onnx_features import OnnxFeatures

    return _Network(OnnxFeatures(models / step.model, tuple(one.name for one in known)))


def _beside(parts: Sequence[Floats]) -> Floats:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

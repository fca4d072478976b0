"""From an application's inputs to a model's tensors, and from its output to class scores.

The scores are the one output contract of an application: float64 [n, C], no NaN, each row sums to 1, whatever the
model gives (logits, probabilities or labels).
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from peekserve.domain.tensors import DATATYPES, InputMap, LogMel, OutputForm, OutputMap
from peekserve.errors import BackendError

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]

# Below this a mel band counts as silent: the floor of a 16-bit recording, so that silence is no -inf.
LOG_FLOOR = 1e-6


def feeds(maps: tuple[InputMap, ...], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The model's tensors by name. Raises BackendError when the batch lacks an input that a map reads."""
    tensors = {}
    for one in maps:
        if one.source not in inputs:
            raise BackendError(
                f"tensor {one.name!r} is made of input {one.source!r}; the batch has {sorted(inputs)}"
            )
        tensors[one.name] = apply(one, inputs[one.source])
    return tensors


def apply(how: InputMap, rows: Array) -> Array:
    """One application input [n, *row] as one model tensor [n, ...]: the map's fields, in their order.

    Arithmetic is float32 (float64 where the input is); without `cast` it stays so. A map that only renames gives
    the very array back. Raises BackendError when the shapes do not fit.
    """
    x = rows
    try:
        if how.logmel is not None:
            x = logmel(x, how.logmel)
        if how.resize is not None:
            x = resize(x, *how.resize)
        if how.reshape is not None:
            x = x.reshape(len(x), *how.reshape)
        if how.transpose is not None:
            x = x.transpose(0, *(axis + 1 for axis in how.transpose))
    except ValueError as error:
        raise BackendError(
            f"input {how.source!r} of shape {rows.shape[1:]} cannot become {how.name!r}: {error}"
        ) from error
    if how.scale != 1.0 or how.offset != 0.0:
        floats = _floats(x)
        x = floats * floats.dtype.type(how.scale) + floats.dtype.type(how.offset)
    if how.cast is not None:
        x = x.astype(DATATYPES[how.cast], copy=False)
    return np.ascontiguousarray(x)


def logmel(waveforms: Array, how: LogMel) -> Array:
    """Natural logarithm of mel-band power: [..., samples] -> float32 [..., bands, frames].

    Periodic Hann window, no padding at the ends (a waveform shorter than one window is filled up with zeros), an FFT
    of the next power of two, HTK's mel scale from 0 to rate / 2, triangles of height 1.
    """
    window, hop = max(round(how.window_s * how.rate), 1), max(round(how.hop_s * how.rate), 1)
    x = _floats(waveforms)
    if x.shape[-1] < window:
        x = np.concatenate([x, np.zeros((*x.shape[:-1], window - x.shape[-1]), x.dtype)], axis=-1)
    hann, bank = _filters(how.rate, window, how.bands)
    frames = np.lib.stride_tricks.sliding_window_view(x, window, axis=-1)[..., ::hop, :]
    size = 2 * (bank.shape[1] - 1)
    power = np.square(np.abs(np.fft.rfft(frames * hann, n=size, axis=-1))).astype(np.float32)
    mel = power @ bank.T
    log: Floats = np.log(mel + np.float32(LOG_FLOOR))
    return np.swapaxes(log, -1, -2)


@lru_cache(maxsize=16)
def _filters(rate: int, window: int, bands: int) -> tuple[Floats, Floats]:
    """The window float32 [window] and the mel filters float32 [bands, bins]."""
    size = 1 << (window - 1).bit_length()
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(window) / window)
    top = 2595.0 * np.log10(1.0 + rate / 2.0 / 700.0)
    corners = 700.0 * (10.0 ** (np.linspace(0.0, top, bands + 2) / 2595.0) - 1.0)
    bins = np.arange(size // 2 + 1) * rate / size
    rising = (bins - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    falling = (corners[2:, None] - bins) / (corners[2:] - corners[1:-1])[:, None]
    bank = np.maximum(0.0, np.minimum(rising, falling))
    return hann.astype(np.float32), bank.astype(np.float32)


def resize(images: Array, height: int, width: int) -> Array:
    """Bilinear, with pixel centres at one half and no smoothing: [n, H, W, ...] -> float [n, height, width, ...]."""
    if images.ndim < 3:
        raise ValueError(f"a resize needs rows of two axes or more, not {images.ndim - 1}")
    x = _floats(images)
    for axis, size in ((1, height), (2, width)):
        low, high, share = _between(x.shape[axis], size)
        weight = share.astype(x.dtype).reshape((-1,) + (1,) * (x.ndim - axis - 1))
        x = x.take(low, axis) * (1 - weight) + x.take(high, axis) * weight
    return x


def _between(old: int, new: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Scores]:
    """For each of `new` places along an axis: its two neighbours among `old`, and the share of the second."""
    at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0.0, old - 1)
    low = np.floor(at).astype(np.intp)
    return low, np.minimum(low + 1, old - 1), at - low


def scores(how: OutputMap, output: Array, rows: int, classes: int) -> Scores:
    """Class scores float64 [rows, classes] of a model's output tensor; each row sums to 1.

    Raises BackendError when the output is not a number for each row and class, is NaN, or holds an unknown label.
    """
    try:
        flat = np.asarray(output).reshape(rows, -1).astype(np.float64)
    except (TypeError, ValueError) as error:
        kind = f"{np.asarray(output).dtype} {np.asarray(output).shape}"
        raise BackendError(f"output {how.name!r} is {kind}; {rows} rows of numbers are needed") from error
    if how.form is OutputForm.LABEL:
        return _one_hot(how, flat, classes)
    columns = len(how.order) or classes
    if flat.shape[1] != columns:
        raise BackendError(f"output {how.name!r} has {flat.shape[1]} columns; {columns} are needed")
    with np.errstate(invalid="ignore", divide="ignore"):
        raised = flat
        if how.form is OutputForm.LOGITS:
            raised = np.exp(flat - flat.max(axis=1, keepdims=True))
        share: Scores = raised / raised.sum(axis=1, keepdims=True)
    # Two reductions find every fault (NaN compares false); which one it is matters only once there is one.
    if not (raised.min() >= 0.0 and share.max() <= 1.0):
        raise BackendError(f"output {how.name!r} {_fault(how, flat)}")
    if how.order:
        parts, share = share, np.zeros((rows, classes))
        for column, index in enumerate(how.order):
            share[:, index] += parts[:, column]  # += because a model may split one of our classes in two
    return share


def _fault(how: OutputMap, flat: Scores) -> str:
    """What is wrong with an output that gives no shares."""
    for row, values in enumerate(flat):
        if np.isnan(values).any():
            return f"is NaN in row {row} of {len(flat)}"
        if np.isposinf(values).any() or np.isneginf(values).all():
            return f"is infinite in row {row} of {len(flat)}"
        if how.form is OutputForm.PROBABILITIES and (values < 0.0).any():
            return f"has a negative probability, {values.min():.6g}, in row {row}; are these logits?"
    return "has a row whose probabilities are all 0"


def _one_hot(how: OutputMap, flat: Scores, classes: int) -> Scores:
    if flat.shape[1] != 1:
        raise BackendError(f"output {how.name!r} has {flat.shape[1]} columns; a label is one for each row")
    table = {float(value): index for value, index in how.labels}
    hot = np.zeros((len(flat), classes))
    for row, value in enumerate(flat[:, 0].tolist()):
        if value not in table:
            raise BackendError(
                f"output {how.name!r} gave the label {value:g}; known are {sorted(v for v, _ in how.labels)}"
            )
        hot[row, table[value]] = 1.0
    return hot


def _floats(x: Array) -> Array:
    return x if x.dtype == np.float64 else x.astype(np.float32, copy=False)

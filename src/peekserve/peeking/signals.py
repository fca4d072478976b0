"""Features of series, many rows at a time: waveform, statistics per channel, spectrum.

A series is float64 [n, channels, L], C-contiguous. Where lengths vary, `lengths` int64 [n] says how much of L
is true, and what lies beyond (padding) never changes a result, not in its last bit: sums run over each row's
own span and not over zeros that stand in for nothing.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

STATISTICS = ("mean", "std", "min", "max", "mean absolute difference", "mean square")


def as_series(values: Floats, axis: int) -> Floats:
    """[n, *row shape] -> [n, channels, L], L being the row's axis number `axis` and the others channels."""
    moved = np.moveaxis(values, axis + 1, -1)
    return np.ascontiguousarray(moved.reshape(len(values), -1, moved.shape[-1]))


def waveform(series: Floats, lengths: Ints | None, points: int) -> Floats:
    """[n, channels * points]: each channel read at `points` equally spaced places from its first to its last
    true sample, linear in between. No filter goes before it: what is faster than the new rate folds back."""
    n, channels, longest = series.shape
    last = np.full(n, longest - 1) if lengths is None else lengths - 1
    at = np.linspace(0.0, 1.0, points) * last[:, None]
    below = np.minimum(at.astype(np.int64), np.maximum(last - 1, 0)[:, None])
    above = np.minimum(below + 1, last[:, None])
    share = (at - below)[:, None, :]
    low = np.take_along_axis(series, below[:, None, :], axis=2)
    high = np.take_along_axis(series, above[:, None, :], axis=2)
    return (low + (high - low) * share).reshape(n, channels * points)


def statistics(series: Floats, lengths: Ints | None) -> Floats:
    """[n, channels * 6], channel by channel in the order of STATISTICS. Means are over the true samples, so
    that a long row and a short one of the same process look alike; a row of one sample has difference 0."""
    n, channels, longest = series.shape
    count = _samples(series, lengths)
    out = np.empty((n, channels, len(STATISTICS)))
    mean = _over_time(np.add, series, lengths) / count
    apart = series - mean[:, :, None]
    out[:, :, 0] = mean
    out[:, :, 1] = np.sqrt(_over_time(np.add, apart * apart, lengths) / count)
    out[:, :, 2] = _over_time(np.minimum, series, lengths)
    out[:, :, 3] = _over_time(np.maximum, series, lengths)
    if longest > 1:
        steps = np.abs(series[:, :, 1:] - series[:, :, :-1])
        if lengths is None:
            out[:, :, 4] = _over_time(np.add, steps, None) / (longest - 1)
        else:
            least = np.maximum(lengths - 1, 1)
            travelled = _over_time(np.add, steps, least) / least[:, None]
            out[:, :, 4] = np.where(lengths[:, None] > 1, travelled, 0.0)
    else:
        out[:, :, 4] = 0.0
    out[:, :, 5] = _over_time(np.add, series * series, lengths) / count
    return out.reshape(n, channels * len(STATISTICS))


def band_power(series: Floats, lengths: Ints | None, size: int, bins: int) -> Floats:
    """[n, channels * bins]: power per sample of the signal less its mean, in `bins` bands of equal width from
    0 to half the sampling rate. `size`: points of the transform, the same for every row, no fewer than its
    true length; needs bins <= size // 2 + 1."""
    n, channels, longest = series.shape
    count = _samples(series, lengths)
    apart = series - (_over_time(np.add, series, lengths) / count)[:, :, None]
    if lengths is not None:
        apart = np.where(np.arange(longest) < lengths[:, None, None], apart, 0.0)
    coefficients = np.fft.rfft(apart, n=size, axis=2)
    power = coefficients.real**2 + coefficients.imag**2
    edges = np.arange(bins + 1) * power.shape[2] // bins
    bands = np.add.reduceat(power, edges[:-1], axis=2) / np.diff(edges)
    scaled: Floats = bands / count[:, :, None]
    return scaled.reshape(n, channels * bins)


def _samples(series: Floats, lengths: Ints | None) -> Floats:
    """[n, 1]: the number of true samples of each row."""
    if lengths is None:
        return np.full((len(series), 1), float(series.shape[2]))
    return lengths[:, None].astype(np.float64)


def _over_time(ufunc: np.ufunc, values: Floats, lengths: Ints | None) -> Floats:
    """[n, channels]: the ufunc folded over each row's true span."""
    if lengths is None:
        folded: Floats = ufunc.reduce(values, axis=2)
        return folded
    n, channels, longest = values.shape
    # reduceat folds from each index to the next: start, end, start, end ...; every second result is a true
    # span. An end that is the next start, or the end of everything, needs no span of its own.
    index = np.empty((n * channels, 2), dtype=np.int64)
    index[:, 0] = np.arange(n * channels) * longest
    index[:, 1] = index[:, 0] + np.repeat(lengths, channels)
    flat = np.ascontiguousarray(values).reshape(-1)
    bounds = index.reshape(-1)
    if bounds[-1] == flat.size:
        bounds = bounds[:-1]
    spans: Floats = ufunc.reduceat(flat, bounds)[::2].reshape(n, channels)
    return spans

"""One stream: rings, holes, and the windows that are found in it."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.domain.application import Application, Variant
from peekserve.domain.streams import Normalise, Onset, RPeak, Sliding, StreamSpec, TrackSpec
from peekserve.domain.tensors import InputMap, TensorSpec
from peekserve.errors import InvalidConfiguration
from peekserve.peeking.streams import Stream, as_row, normalised

RATE = 180.0


def an_application(*inputs):
    maps = tuple(InputMap(spec.name, spec.name) for spec in inputs)
    return Application("app", ("a", "b"), (Variant("only", "r", "w", maps),), (1.0, 1.0), inputs=inputs)


def a_stream(finder, *, rate=100.0, length=10, channels=1, **options):
    shape = (length,) if channels == 1 else (length, channels)
    application = an_application(TensorSpec("x", "FP32", shape))
    spec = StreamSpec((TrackSpec("x", rate, length, channels),), finder, **options)
    return Stream(application, spec)


def ramp(first, count):
    return {"x": np.arange(first, first + count, dtype=np.float32)[:, None]}


def firsts(windows):
    return [window.first for window in windows]


def test_sliding_windows_come_with_the_last_sample_they_need():
    stream = a_stream(Sliding(5))
    assert stream.push(0, ramp(0, 9)) == []
    (window,) = stream.push(9, ramp(9, 1))
    assert (window.number, window.first, window.ended_s) == (1, 0, 0.0)
    assert window.inputs["x"].tolist() == [list(range(10))]
    assert firsts(stream.push(10, ramp(10, 12))) == [5, 10]
    assert stream.push(22, ramp(22, 3))[0].inputs["x"][0, -1] == 24


def test_a_window_knows_how_much_newer_the_newest_sample_is():
    assert [w.ended_s for w in a_stream(Sliding(5)).push(0, ramp(0, 20))] == pytest.approx([0.1, 0.05, 0.0])


def test_a_stream_may_begin_at_any_number():
    assert firsts(a_stream(Sliding(10)).push(1000, ramp(1000, 20))) == [1000, 1010]


def test_a_chunk_that_comes_early_waits_for_the_one_before_it():
    stream = a_stream(Sliding(10), reorder_s=0.1)
    stream.push(0, ramp(0, 5))
    assert stream.push(7, ramp(7, 8)) == []
    (window,) = stream.push(5, ramp(5, 2))
    assert window.inputs["x"].tolist() == [list(range(10))]
    assert (stream.tally.late, stream.tally.filled) == (0, 0)


def test_a_hole_is_filled_along_a_line_once_nothing_can_come_for_it():
    stream = a_stream(Sliding(10), reorder_s=0.1, max_gap_s=0.05)
    stream.push(0, ramp(0, 4))
    assert (
        stream.push(7, ramp(7, 7)) == []
    )  # the newest is 10 ahead: the hole may still be filled by its owner
    (window,) = stream.push(14, ramp(14, 1))
    assert window.inputs["x"].tolist() == [list(range(10))]
    assert stream.push(4, ramp(4, 3)) == []
    assert (stream.tally.filled, stream.tally.late, stream.tally.resets) == (1, 3, 0)


def test_a_hole_that_is_too_long_begins_afresh_behind_it():
    stream = a_stream(Sliding(10), reorder_s=0.1, max_gap_s=0.05)
    stream.push(0, ramp(0, 8))
    windows = stream.push(14, ramp(14, 20))
    assert firsts(windows) == [14, 24]
    assert (stream.tally.resets, stream.tally.cut, stream.tally.filled) == (1, 1, 0)


def test_a_jump_far_ahead_begins_afresh_and_costs_no_memory():
    stream = a_stream(Sliding(10))
    stream.push(0, ramp(0, 15))
    assert firsts(stream.push(10**12, ramp(0, 10))) == [10**12]
    assert stream.tally.resets == 1
    assert stream.push(3, ramp(3, 2)) == []
    assert stream.tally.late == 2


def test_what_came_twice_is_taken_once():
    stream = a_stream(Sliding(10), reorder_s=0.2)
    stream.push(0, ramp(0, 5))
    stream.push(8, {"x": np.full((2, 1), 8.0, np.float32)})
    stream.push(8, {"x": np.full((2, 1), 99.0, np.float32)})
    (window,) = stream.push(4, ramp(4, 4))
    assert window.inputs["x"][0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 8]
    assert (stream.tally.duplicates, stream.tally.late) == (2, 1)


def test_channels_stay_together_and_take_the_shape_of_the_input():
    application = an_application(TensorSpec("x", "INT16", (2, 10)))
    spec = StreamSpec((TrackSpec("x", 100.0, 10, 2, axis=1),), Sliding(10))
    values = np.stack([np.arange(10), 100.4 + np.arange(10)], axis=1).astype(np.float32)
    (window,) = Stream(application, spec).push(0, {"x": values})
    assert window.inputs["x"].dtype == np.int16
    assert window.inputs["x"].tolist() == [[list(range(10)), list(range(100, 110))]]


def test_a_length_that_varies_is_padded_to_its_bucket():
    application = an_application(TensorSpec("x", "FP32", (-1,), buckets=(8, 16)))
    stream = Stream(application, StreamSpec((TrackSpec("x", 100.0, 10),), Sliding(10)))
    (window,) = stream.push(0, ramp(0, 10))
    assert window.inputs["x"].shape == (1, 16)
    assert (window.bucket, window.lengths["x"].tolist()) == (1, [10])


# ---- several inputs -----------------------------------------------------------------------------------------


def two_tracks(**options):
    application = an_application(TensorSpec("fast", "FP32", (10,)), TensorSpec("slow", "FP32", (4,)))
    tracks = (TrackSpec("fast", 50.0, 10), TrackSpec("slow", 20.0, 4))
    return Stream(application, StreamSpec(tracks, Sliding(10), **options))


def column(first, count):
    return np.arange(first, first + count, dtype=np.float32)[:, None]


@pytest.mark.parametrize("slow_first", [True, False])
def test_a_window_takes_the_same_time_of_every_input(slow_first):
    stream = two_tracks()
    chunks = [{"fast": column(0, 20)}, {"slow": column(0, 8)}]
    found = [w for chunk in (chunks[::-1] if slow_first else chunks) for w in stream.push(0, chunk)]
    assert [w.inputs["slow"][0].tolist() for w in found] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [w.inputs["fast"][0, 0] for w in found] == [0, 10]


def test_a_window_does_not_wait_for_ever_for_the_other_input():
    stream = two_tracks(wait_s=0.5)
    stream.push(0, {"slow": column(0, 4)})
    assert len(stream.push(0, {"fast": column(0, 20)})) == 1
    assert stream.push(20, {"fast": column(20, 24)}) == []
    (window,) = stream.push(44, {"fast": column(44, 1)})
    assert (window.first, list(window.inputs)) == (10, ["fast"])
    assert stream.tally.partial == 1


@pytest.mark.parametrize("names", ["ab", "ba"])
def test_a_window_does_not_go_without_an_input_that_came_in_the_same_chunk(names):
    application = an_application(*(TensorSpec(name, "FP32", (10,)) for name in "ab"))
    spec = StreamSpec(tuple(TrackSpec(name, 100.0, 10) for name in "ab"), Sliding(10), wait_s=0.2)
    stream = Stream(application, spec)
    windows = stream.push(0, dict.fromkeys(names, column(0, 300)))
    assert (len(windows), stream.tally.partial) == (30, 0)


def test_a_hole_between_the_largest_samples_is_filled_with_numbers():
    stream = a_stream(Sliding(10), reorder_s=0.1, max_gap_s=0.05)
    stream.push(0, {"x": np.full((4, 1), 3e38, np.float32)})
    (window, *_) = stream.push(7, {"x": np.full((20, 1), -3e38, np.float32)})
    assert window.inputs["x"][0, 4:7] == pytest.approx([1.5e38, 0.0, -1.5e38], abs=1e32)


# ---- normalising --------------------------------------------------------------------------------------------


def test_normalising_looks_at_each_channel_alone():
    values = np.array([[1, 5], [2, 5], [6, 5]], np.float32)
    assert normalised(values, Normalise.CENTRE).tolist() == [[-1, 0], [0, 0], [4, 0]]
    scaled = normalised(values, Normalise.ZSCORE)
    assert scaled.mean(axis=0) == pytest.approx([0, 0], abs=1e-6)
    assert scaled.std(axis=0) == pytest.approx([1, 0])


def test_whole_numbers_are_held_within_their_range():
    row = as_row(
        np.array([[-5.0], [300.0], [7.6]], np.float32), TrackSpec("x", 1.0, 3), TensorSpec("x", "UINT8", (3,))
    )
    assert row.tolist() == [[0, 255, 8]]


@pytest.mark.parametrize("datatype", ["INT64", "UINT64", "INT32", "FP16"])
def test_no_finite_sample_becomes_an_infinity_or_another_sign(datatype):
    values, spec = np.array([[3e38], [-3e38]], np.float32), TensorSpec("x", datatype, (2,))
    high, low = as_row(values, TrackSpec("x", 1.0, 2), spec)[0].astype(np.float64)
    assert 6e4 < high < 1e20
    assert -1e20 < low <= 0.0
    centred = normalised(np.array([[3e38], [-3e38], [-3e38]], np.float32), Normalise.CENTRE)
    assert np.isfinite(centred).all()


# ---- whatever the chunking ----------------------------------------------------------------------------------


def a_heart(seconds, rng):
    """Spikes at irregular times on a drifting, noisy line, and where they stand."""
    count = int(seconds * RATE)
    times = np.arange(count) / RATE
    signal = 0.3 * np.sin(2 * np.pi * 0.2 * times) + 0.02 * rng.standard_normal(count)
    peaks, at = [], 0.5
    while at < seconds - 1.0:
        peaks.append(round(at * RATE))
        signal += np.exp(-(((times - at) / 0.012) ** 2)) + 0.15 * np.exp(-(((times - at - 0.25) / 0.04) ** 2))
        at += rng.uniform(0.5, 1.1)
    return signal.astype(np.float32), peaks


def noise_and_words(seconds, rng, rate=RATE):
    """Quiet noise with a louder half second every two seconds."""
    count = int(seconds * rate)
    signal = 0.01 * rng.standard_normal(count)
    starts = [round((2 * i + 1) * rate) for i in range(int(seconds // 2))]
    for start in starts:
        signal[start : start + round(rate / 2)] += 0.3 * rng.standard_normal(round(rate / 2))
    return signal.astype(np.float32), starts


FINDERS = {
    "sliding": Sliding(37),
    "onset": Onset(frame=2, pre_roll=20, apart=160),
    "r_peak": RPeak(72),
}
RNG = np.random.default_rng(11)
SIGNALS = {
    "sliding": a_heart(12, RNG)[0],
    "onset": noise_and_words(12, RNG)[0],
    "r_peak": a_heart(12, RNG)[0],
}


def windows_of(name, pieces, **options):
    stream = a_stream(FINDERS[name], rate=RATE, length=180, **options)
    signal = SIGNALS[name]
    found = []
    for low, high in pieces:
        found += stream.push(low, {"x": signal[low:high, None]})
    return [(w.first, w.inputs["x"].tobytes()) for w in found], stream.tally


def pieces_of(borders, holes=()):
    edges = [0, *sorted(set(borders)), 12 * int(RATE)]
    pieces = [(a, b) for a, b in pairwise(edges) if a < b]
    for low, high in holes:
        pieces = [p for a, b in pieces for p in ((a, min(b, low)), (max(a, high), b)) if p[0] < p[1]]
    return pieces


def in_reach(pieces):
    """No chunk longer than a stream takes."""
    return [(a, min(a + 600, b)) for low, b in pieces for a in range(low, b, 600)]


BORDERS = st.lists(st.integers(1, 12 * int(RATE) - 1), max_size=60)


@pytest.mark.parametrize("name", FINDERS)
@settings(max_examples=40, deadline=None)
@given(borders=BORDERS)
def test_any_cut_of_the_same_samples_finds_the_same_windows(name, borders):
    whole, _ = windows_of(name, in_reach(pieces_of([])))
    found, _ = windows_of(name, in_reach(pieces_of(borders)))
    assert found == whole
    assert len(whole) >= 4


@pytest.mark.parametrize("name", FINDERS)
@settings(max_examples=30, deadline=None)
@given(borders=BORDERS, holes=st.lists(st.tuples(st.integers(100, 1700), st.integers(1, 90)), max_size=3))
def test_holes_do_not_change_that(name, borders, holes):
    spans = [(low, low + size) for low, size in holes]
    one, tally = windows_of(name, in_reach(pieces_of([], spans)))
    found, again = windows_of(name, in_reach(pieces_of(borders, spans)))
    assert found == one
    assert (again.filled, again.resets, again.windows) == (tally.filled, tally.resets, tally.windows)


@pytest.mark.parametrize("name", FINDERS)
@settings(max_examples=30, deadline=None)
@given(borders=BORDERS, order=st.randoms(use_true_random=False))
def test_chunks_within_the_horizon_may_come_in_any_order_and_twice(name, borders, order):
    whole, _ = windows_of(name, in_reach(pieces_of([])), reorder_s=1.0)
    pieces = in_reach(pieces_of([*borders, *range(20, 2160, 60)]))
    # Each chunk is late by less than the horizon less the longest chunk: it must find its place.
    keyed = [(a + order.uniform(0, 119), (a, b)) for a, b in pieces[1:]]
    shuffled = [pieces[0], *(piece for _, piece in sorted(keyed))]
    doubled = [piece for piece in shuffled for _ in range(order.choice((1, 1, 2)))]
    found, tally = windows_of(name, doubled, reorder_s=1.0)
    assert found == whole
    assert (tally.filled, tally.resets, tally.samples) == (0, 0, 2160)


# ---- the finders --------------------------------------------------------------------------------------------


def test_every_beat_is_found_where_it_is():
    signal, peaks = a_heart(40, np.random.default_rng(3))
    stream = a_stream(RPeak(72), rate=RATE, length=180)
    found = [
        w for low in range(0, len(signal), 9) for w in stream.push(low, {"x": signal[low : low + 9, None]})
    ]
    assert all(min(abs(w.first + 72 - p) for p in peaks) <= 1 for w in found)
    assert len(found) == len(peaks)
    # A window of the stable part is named before its last sample is here.
    assert max(w.ended_s for w in found[4:]) < 0.06


def test_a_weak_beat_is_found_when_one_is_due():
    signal, peaks = a_heart(30, np.random.default_rng(4))
    weak = peaks[len(peaks) // 2]
    signal[weak - 8 : weak + 9] *= 0.42
    found = a_stream(RPeak(72), rate=RATE, length=180, max_chunk_s=60).push(0, {"x": signal[:, None]})
    assert any(abs(w.first + 72 - weak) <= 2 for w in found)


@pytest.mark.parametrize("jerk", [1.0, 10.0])
def test_after_a_jerk_of_the_lead_beats_are_found_again(jerk):
    signal, peaks = a_heart(40, np.random.default_rng(4))
    at = round(jerk * RATE)
    signal[at : at + 5] += 30.0
    found = a_stream(RPeak(72), rate=RATE, length=180, max_chunk_s=60).push(0, {"x": signal[:, None]})
    later = [p for p in peaks if p > at + 8 * RATE]
    assert len(later) > 20
    assert all(any(abs(w.first + 72 - p) <= 2 for w in found) for p in later)


def test_a_flat_lead_has_no_beats():
    stream = a_stream(RPeak(72), rate=RATE, length=180, max_chunk_s=60)
    assert stream.push(0, {"x": np.full((5400, 1), 0.7, np.float32)}) == []


def test_every_word_is_found_once_and_a_fan_is_got_used_to():
    signal, starts = noise_and_words(20, np.random.default_rng(5), rate=1000.0)
    onset = Onset(frame=10, pre_roll=100, apart=900)
    stream = a_stream(onset, rate=1000.0, length=1000, max_chunk_s=60)
    found = stream.push(0, {"x": signal[:, None]})
    assert len(found) == len(starts) == 10
    assert all(abs(w.first + 100 - s) <= 10 for w, s in zip(found, starts, strict=True))
    fan = 0.2 * np.random.default_rng(6).standard_normal((20_000, 1)).astype(np.float32)
    assert len(stream.push(len(signal), {"x": fan})) <= 4


def test_a_window_that_began_before_the_stream_is_counted_and_left_out():
    signal, peaks = a_heart(10, np.random.default_rng(3))
    low = peaks[0] - 20
    stream = a_stream(RPeak(72), rate=RATE, length=180, max_chunk_s=60)
    found = stream.push(0, {"x": signal[low:, None]})
    assert stream.tally.cut == 1
    assert len(found) == len(peaks) - 1


# ---- what cannot be -----------------------------------------------------------------------------------------


def test_a_spec_that_cannot_be_says_so():
    track = TrackSpec("x", 180.0, 180)
    with pytest.raises(InvalidConfiguration, match="sample 200"):
        StreamSpec((track,), RPeak(200))
    with pytest.raises(InvalidConfiguration, match="8000 Hz"):
        StreamSpec((replace(track, rate=8000.0),), RPeak(72))
    with pytest.raises(InvalidConfiguration, match="pre-roll"):
        StreamSpec((track,), Onset(frame=2, pre_roll=180, apart=10))
    with pytest.raises(InvalidConfiguration, match="lengthen the stride"):
        StreamSpec((TrackSpec("x", 8000.0, 8000),), Sliding(1))
    with pytest.raises(InvalidConfiguration, match="two or more"):
        TrackSpec("x", 180.0, 1)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peekserve.domain.application import FeatureStep
from peekserve.errors import InvalidConfiguration, InvalidData, InvalidTensor
from peekserve.peeking.features import Features
from peekserve.peeking.seeing import Varying

RAW, STANDARDISE = FeatureStep("raw"), FeatureStep("standardise")
STATISTICS, SPECTRUM = FeatureStep("statistics"), FeatureStep("spectrum", bins=8)
SIGNAL_STEPS = (FeatureStep("raw", bins=12), STATISTICS, SPECTRUM, STANDARDISE)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_raw_inputs_stand_side_by_side_in_order():
    inputs = {"b": noise(4, 2, 3), "a": noise(4, 5)}
    made = Features.fit((), inputs).transform(inputs)
    assert np.array_equal(made, np.concatenate([inputs["b"].reshape(4, 6), inputs["a"]], axis=1))
    assert made.dtype == np.float32
    assert made.flags.c_contiguous


def test_standardised_features_have_mean_0_and_deviation_1_and_a_constant_one_stays_0():
    x = np.concatenate([noise(50, 3) * [1, 10, 0.1] + 5, np.full((50, 1), 0.1)], axis=1)
    made = Features.fit((RAW, STANDARDISE), {"x": x}).transform({"x": x})
    assert np.allclose(made.mean(axis=0), 0.0, atol=1e-6)
    assert np.allclose(made.std(axis=0), [1, 1, 1, 0], atol=1e-5)


def test_principal_components_keep_what_varies_and_have_one_sign():
    rng = np.random.default_rng(3)
    along = rng.normal(size=(60, 1)) * 5
    x = along @ np.array([[3.0, -4.0]]) / 5 + rng.normal(size=(60, 2)) * 0.01
    features = Features.fit((FeatureStep("pca", components=1),), {"x": x})
    made = features.transform({"x": x})
    # The largest entry of the axis is the second; it is made positive.
    assert np.allclose(made[:, 0], -(along[:, 0] - along.mean()), atol=0.05)


def test_pca_after_standardise_equals_the_two_done_apart():
    x = noise(40, 6) * np.arange(1, 7) + 3
    both = Features.fit((RAW, STANDARDISE, FeatureStep("pca", components=3), STANDARDISE), {"x": x})
    z = (x.astype(float) - x.mean(axis=0, dtype=float)) / x.std(axis=0, dtype=float)
    axes = np.linalg.svd(z, full_matrices=False)[2][:3]
    apart = z @ axes.T
    apart = apart / apart.std(axis=0)
    assert np.allclose(np.abs(both.transform({"x": x})), np.abs(apart), atol=1e-4)


def test_statistics_are_those_of_each_channel():
    x = noise(3, 40, 2, seed=5)
    made = Features.fit((STATISTICS,), {"x": x}).transform({"x": x}).reshape(3, 2, 6)
    for row in range(3):
        for channel in range(2):
            s = x[row, :, channel].astype(float)
            expected = [s.mean(), s.std(), s.min(), s.max(), np.abs(np.diff(s)).mean(), (s * s).mean()]
            assert made[row, channel] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_a_tone_is_loudest_in_its_own_band():
    time = np.arange(128) / 128
    tones = np.stack([np.sin(2 * np.pi * f * time) for f in (4, 20, 44, 60)])
    made = Features.fit((SPECTRUM,), {"x": tones}).transform({"x": tones})
    assert made.argmax(axis=1).tolist() == [0, 2, 5, 7]


def test_silence_has_a_spectrum_too():
    x = np.concatenate([noise(5, 32), np.zeros((1, 32), np.float32)])
    assert np.isfinite(Features.fit((SPECTRUM,), {"x": x}).transform({"x": x})).all()


def test_the_unit_of_a_signal_only_shifts_its_spectrum():
    x = noise(6, 64)
    small, large = (Features.fit((SPECTRUM,), {"x": x * s}).transform({"x": x * s}) for s in (1e-6, 1e6))
    assert np.allclose(large - small, np.log(1e24), atol=1e-3)


def a_signal_peek(seed=0, rows=20, longest=48):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2, longest)).astype(np.float32)
    lengths = rng.integers(1, longest + 1, size=rows)
    features = Features.fit(SIGNAL_STEPS, {"x": x}, {"x": lengths}, {"x": Varying(1, longest)})
    return features, x, lengths


@given(st.integers(0, 1000), st.sampled_from([0.0, 1e6, np.nan, np.inf]))
@settings(max_examples=40)
def test_a_rows_features_are_its_own_whatever_its_padding_and_its_batch(seed, padding):
    features, x, lengths = a_signal_peek(seed)
    filled = np.where(np.arange(x.shape[2]) < lengths[:, None, None], x, np.float32(padding))
    with np.errstate(invalid="ignore"):
        together = features.transform({"x": filled}, {"x": lengths})
    for row, length in enumerate(lengths):
        tight = features.transform({"x": x[row : row + 1, :, :length]}, {"x": lengths[row : row + 1]})
        assert np.array_equal(tight[0], together[row])


@pytest.mark.parametrize(
    "steps",
    [(RAW,), (STATISTICS, SPECTRUM, STANDARDISE), (RAW, STATISTICS), (RAW, FeatureStep("pca", components=5))],
)
def test_features_of_one_row_equal_its_features_in_a_batch(steps):
    x = noise(30, 64, 3)
    features = Features.fit(steps, {"x": x})
    together = features.transform({"x": x})
    alone = np.concatenate([features.transform({"x": x[i : i + 1]}) for i in range(30)])
    if steps[-1].kind == "pca":
        assert np.allclose(alone, together, rtol=3e-7, atol=1e-7)
    else:
        assert np.array_equal(alone, together)


def test_nan_is_replaced_by_the_reference_mean_of_that_element():
    x = noise(20, 4)
    x[3, 2] = np.nan
    features = Features.fit((RAW,), {"x": x})
    assert features.transform({"x": x})[3, 2] == pytest.approx(np.nanmean(x[:, 2]), rel=1e-5)
    nothing = np.full((1, 4), np.nan, np.float32)
    assert np.allclose(features.transform({"x": nothing}), np.nanmean(x, axis=0), atol=1e-6)


def test_nan_in_a_varying_input_is_replaced_by_the_mean_of_the_true_samples():
    x = np.array([[1.0, 3.0, 100.0], [5.0, 7.0, 9.0]])
    features = Features.fit((FeatureStep("raw", bins=2),), {"x": x}, {"x": np.array([2, 3])})
    made = features.transform({"x": np.array([[np.nan, 2.0]])}, {"x": np.array([2])})
    assert made.tolist() == [[5.0, 2.0]]


def test_whole_numbers_and_booleans_are_inputs_too():
    x = np.arange(12, dtype=np.uint8).reshape(4, 3)
    assert np.array_equal(Features.fit((RAW,), {"x": x}).transform({"x": x}), x.astype(np.float32))
    flags = np.array([[True, False], [False, True]])
    assert Features.fit((RAW,), {"x": flags}).transform({"x": flags}).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ((FeatureStep("wavelet"),), "no step is called 'wavelet'"),
        ((STANDARDISE, RAW), "stands before 'standardise'"),
        ((RAW, FeatureStep("pca", components=9)), "1 to 4 .* not 9"),
        ((RAW, FeatureStep("pca")), "1 to 4 .* not 0"),
        ((FeatureStep("spectrum", bins=9),), "at most 3 bins, not 9"),
        ((FeatureStep("raw", bins=-1),), "not negative"),
        ((FeatureStep("onnx"),), "names its model"),
    ],
)
def test_steps_that_cannot_be_are_named(steps, says):
    with pytest.raises(InvalidConfiguration, match=says):
        Features.fit(steps, {"x": noise(10, 4)})


def test_a_varying_length_needs_a_step_that_can_take_it():
    lengths = {"x": np.full(10, 4)}
    with pytest.raises(InvalidConfiguration, match="varies; give 'raw'"):
        Features.fit((RAW,), {"x": noise(10, 4)}, lengths)
    with pytest.raises(InvalidConfiguration, match="padding"):
        Features.fit((FeatureStep("onnx", model="m.onnx"),), {"x": noise(10, 4)}, lengths)


@pytest.mark.parametrize(
    ("inputs", "lengths"),
    [
        ({}, None),
        ({"x": noise(10, 4), "y": noise(9, 4)}, None),
        ({"x": noise(0, 4)}, None),
        ({"x": noise(10)}, None),
        ({"x": np.full((3, 2), np.inf)}, None),
        ({"x": noise(3, 4)}, {"x": np.array([1, 2, 5])}),
    ],
)
def test_a_reference_that_cannot_be_fitted_is_refused(inputs, lengths):
    with pytest.raises(InvalidData):
        Features.fit((STATISTICS,), inputs, lengths)


def test_requests_that_do_not_fit_are_refused_with_the_shape_that_would():
    features = Features.fit((RAW,), {"x": noise(5, 4), "y": noise(5, 2)})
    with pytest.raises(InvalidTensor, match="needs input 'y'; there is x"):
        features.transform({"x": noise(1, 4)})
    with pytest.raises(InvalidTensor, match=r"rows have shape \(3,\); the peek knows \(4,\)"):
        features.transform({"x": noise(1, 3), "y": noise(1, 2)})
    with pytest.raises(InvalidTensor, match="differ in rows"):
        features.transform({"x": noise(1, 4), "y": noise(2, 2)})


@pytest.mark.parametrize("lengths", [None, [0], [49], [3, 4]])
def test_lengths_are_wanted_and_checked(lengths):
    features, x, _ = a_signal_peek()
    given_lengths = None if lengths is None else {"x": np.array(lengths)}
    with pytest.raises(InvalidTensor, match="length"):
        features.transform({"x": x[:1]}, given_lengths)

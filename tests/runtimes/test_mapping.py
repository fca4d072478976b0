import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from peekserve.domain.tensors import InputMap, LogMel, OutputForm, OutputMap
from peekserve.errors import BackendError
from peekserve.runtimes.mapping import apply, feeds, logmel, resize, scores

LOGITS = OutputMap("y", OutputForm.LOGITS)
PROBABILITIES = OutputMap("y", OutputForm.PROBABILITIES)


def test_a_map_that_only_renames_copies_nothing():
    x = np.ones((2, 3), np.float32)
    assert feeds((InputMap("signal", "x"),), {"signal": x})["x"] is x


def test_the_fields_are_applied_in_their_order():
    image = np.arange(2 * 4 * 6, dtype=np.uint8).reshape(2, 4, 6)
    how = InputMap(
        "image",
        "x",
        resize=(2, 3),
        reshape=(2, 3, 1),
        transpose=(2, 0, 1),
        scale=2.0,
        offset=1.0,
        cast="FP16",
    )
    x = apply(how, image)
    assert (x.shape, x.dtype, x.flags.c_contiguous) == ((2, 1, 2, 3), np.float16, True)
    # Halving both sides averages blocks of four.
    assert np.array_equal(x[0, 0], 2 * image[0].reshape(2, 2, 3, 2).mean(axis=(1, 3)) + 1)


def test_whole_numbers_become_float32_when_scaled_and_stay_themselves_when_not():
    x = np.array([[255]], np.uint8)
    assert apply(InputMap("i", "x", scale=1 / 255), x).dtype == np.float32
    assert apply(InputMap("i", "x", scale=1 / 255), x.astype(np.float64)).dtype == np.float64
    assert apply(InputMap("i", "x"), x).dtype == np.uint8


def test_a_resize_to_the_same_size_changes_nothing_and_channels_stay_apart():
    x = np.random.default_rng(0).random((2, 5, 7, 3)).astype(np.float32)
    assert np.allclose(resize(x, 5, 7), x)
    assert np.allclose(resize(x, 9, 4)[..., 1], resize(x[..., 1], 9, 4))


def test_a_resize_hits_the_points_in_between():
    assert resize(np.array([[[0.0, 1.0]]]), 1, 4).tolist() == [[[0.0, 0.25, 0.75, 1.0]]]


def test_a_tone_shows_in_its_own_mel_band():
    how = LogMel(rate=16_000, window_s=0.025, hop_s=0.010, bands=40)
    seconds = np.arange(16_000) / 16_000
    low, high = (logmel(np.sin(2 * np.pi * f * seconds)[None], how) for f in (300.0, 4000.0))
    assert low.shape == (1, 40, 98)  # 1 + (16000 - 400) // 160
    assert low.dtype == np.float32
    assert set(low[0].argmax(axis=0)) < set(range(2, 9))
    assert set(high[0].argmax(axis=0)) < set(range(26, 34))


def test_log_mel_of_silence_and_of_less_than_a_window_is_finite():
    how = LogMel(rate=8000, window_s=0.025, hop_s=0.010, bands=20)
    x = logmel(np.zeros((3, 50), np.int16), how)
    assert x.shape == (3, 20, 1)
    assert np.allclose(x, np.log(1e-6))


@pytest.mark.parametrize(
    ("how", "word"),
    [
        (InputMap("i", "x", reshape=(7,)), "reshape"),
        (InputMap("i", "x", transpose=(0, 1)), "axes"),
        (InputMap("i", "x", resize=(2, 2)), "two axes"),
    ],
)
def test_shapes_that_do_not_fit_are_named(how, word):
    with pytest.raises(BackendError, match=word):
        apply(how, np.zeros((2, 5), np.float32))


def test_a_missing_input_is_named():
    with pytest.raises(BackendError, match=r"'gyro'.*'accel'"):
        feeds((InputMap("gyro", "x"),), {"accel": np.zeros((1, 2))})


def test_logits_so_large_that_exp_would_overflow():
    assert scores(LOGITS, np.array([[1e4, 0.0], [-1e4, -1e4]]), 2, 2).tolist() == [[1.0, 0.0], [0.5, 0.5]]


def test_a_masked_logit_is_a_share_of_nothing():
    assert scores(LOGITS, np.array([[0.0, -np.inf]]), 1, 2).tolist() == [[1.0, 0.0]]


def test_probabilities_that_nearly_sum_to_one_do_so_after():
    assert scores(PROBABILITIES, np.array([[0.2, 0.2]]), 1, 2).tolist() == [[0.5, 0.5]]


def test_columns_go_where_the_order_says_and_two_may_go_to_one_class():
    how = OutputMap("y", OutputForm.PROBABILITIES, order=(2, 0, 0))
    assert np.allclose(scores(how, np.array([[0.5, 0.25, 0.25]]), 1, 3), [[0.5, 0.0, 0.5]])


def test_labels_become_certainty():
    how = OutputMap("label", OutputForm.LABEL, labels=((10, 0), (20, 2)))
    assert scores(how, np.array([20, 10]), 2, 3).tolist() == [[0, 0, 1], [1, 0, 0]]
    with pytest.raises(BackendError, match=r"label 30; known are \[10, 20\]"):
        scores(how, np.array([[30]]), 1, 3)


@pytest.mark.parametrize(
    ("how", "output", "word"),
    [
        (LOGITS, [[np.nan, 0.0]], "NaN in row 0"),
        (LOGITS, [[0.0, 0.0], [np.inf, 0.0]], "infinite in row 1"),
        (LOGITS, [[-np.inf, -np.inf]], "infinite in row 0"),
        (LOGITS, [[0.0, 0.0, 0.0]], "3 columns; 2 are needed"),
        (PROBABILITIES, [[np.nan, 0.5]], "NaN in row 0"),
        (PROBABILITIES, [[-1.0, -2.0]], "are these logits"),
        (PROBABILITIES, [[0.0, 0.0]], "all 0"),
        (LOGITS, [["a", "b"]], "numbers are needed"),
    ],
)
def test_outputs_that_are_no_scores_are_refused(how, output, word):
    with pytest.raises(BackendError, match=word):
        scores(how, np.array(output), len(output), 2)


@given(arrays(np.float32, (4, 3), elements=st.floats(-(2.0**99), 2.0**99, width=32)))
def test_any_finite_logits_become_shares(logits):
    out = scores(LOGITS, logits, 4, 3)
    assert np.allclose(out.sum(axis=1), 1.0)
    assert (out[np.arange(4), logits.argmax(axis=1)] == out.max(axis=1)).all()

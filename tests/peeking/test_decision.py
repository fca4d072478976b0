import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.awareness.posterior import posterior_mean
from peekserve.awareness.priors import uninformative
from peekserve.domain.application import Application, PeekSpec, Variant
from peekserve.domain.tensors import InputMap, TensorSpec
from peekserve.errors import InvalidConfiguration, InvalidTensor
from peekserve.peeking.base import Glance
from peekserve.peeking.decision import Decision
from peekserve.peeking.peek import deciding_peek


@given(st.integers(0, 10_000))
def test_a_decision_raises_the_belief_in_one_class_and_lowers_all_others(seed):
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 10))
    alpha = rng.uniform(0.1, 3.0, classes)
    scores = rng.normal(size=(4, classes)).astype(np.float32)
    counts = Decision(classes).counts(scores)
    assert counts.sum(axis=1).tolist() == [1.0] * 4
    theta = posterior_mean(alpha, counts)
    said = scores.argmax(axis=1)
    assert theta[range(4), said] == pytest.approx((alpha[said] + 1) / (alpha.sum() + 1))
    others = counts == 0.0
    assert (theta < alpha / alpha.sum())[others].all()


def test_scores_that_cannot_be_are_refused():
    with pytest.raises(InvalidTensor, match="3 classes"):
        Decision(3).counts(np.ones((1, 2), np.float32))
    with pytest.raises(InvalidTensor, match="NaN"):
        Decision(2).counts(np.array([[1.0, np.nan]], np.float32))


class Averages:
    """A runtime with one model in it: rows of two pixels are scored by how bright they are beside one half."""

    def __init__(self):
        self.loaded = []

    def load(self, variant, classes):
        self.loaded.append((variant.name, classes))
        return 0

    def run(self, variant, classes, inputs):
        pixels = inputs["image"].reshape(len(inputs["image"]), -1)
        return np.column_stack([pixels[:, 0], pixels[:, -1], np.full(len(pixels), 0.5)])


MODEL = Variant("evidence", "1", "tiny", inputs=(InputMap("image", "x"),))
SPEC = PeekSpec(("image",), (), decision=MODEL)


def an_application(shape=(2, 2), buckets=()):
    return Application(
        "digits",
        ("a", "b", "c"),
        (Variant("net", "1", "net"),),
        uninformative(3),
        inputs=(TensorSpec("image", "FP32", shape, buckets), TensorSpec("other", "FP32", (1,))),
    )


def test_a_model_says_one_class_of_each_row_and_needs_no_reference():
    runtime = Averages()
    peek = deciding_peek(SPEC, an_application(), runtime)
    assert runtime.loaded == [("evidence", 3)]
    images = np.zeros((3, 2, 2), np.float32)
    images[0, 0, 0] = images[1, 1, 1] = 2.0
    assert peek.look({"image": images}).tolist() == np.eye(3).tolist()
    together = peek.look_all([Glance({"image": images[:1]}), Glance({"image": images[1:]})])
    assert np.concatenate(together).tolist() == np.eye(3).tolist()


def test_models_and_inputs_that_do_not_fit_are_named():
    with pytest.raises(InvalidConfiguration, match="padding of image"):
        deciding_peek(SPEC, an_application((-1,), (4,)), Averages())
    with pytest.raises(InvalidConfiguration, match="names no model"):
        deciding_peek(PeekSpec(("image",), ()), an_application(), Averages())
    with pytest.raises(InvalidTensor, match="needs input 'image'; there is other"):
        deciding_peek(SPEC, an_application(), Averages()).look({"other": np.ones((1, 1), np.float32)})

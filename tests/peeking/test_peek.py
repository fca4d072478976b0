from dataclasses import replace

import numpy as np
import pytest

from peekserve.awareness.priors import uninformative
from peekserve.clock import ManualClock
from peekserve.domain.application import Application, FeatureStep, PeekSpec, Variant
from peekserve.domain.tensors import TensorSpec
from peekserve.errors import InvalidConfiguration, InvalidData
from peekserve.peeking.base import Glance
from peekserve.peeking.neighbours import Neighbours
from peekserve.peeking.peek import Peek, build_peek, calibrate, profile_peek, votes_on_reference

SPEC = PeekSpec(("signal",), (FeatureStep("statistics"), FeatureStep("standardise")), neighbours=5)


def an_application(shape=(32,), buckets=()):
    return Application(
        "hum",
        ("low", "middle", "high"),
        (Variant("net", "1", "net"),),
        uninformative(3),
        inputs=(TensorSpec("signal", "FP32", shape, buckets), TensorSpec("other", "FP32", (4,))),
    )


def hums(seed, rows=90):
    """Noise whose level tells the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(rows) % 3
    signal = rng.normal(size=(rows, 32)) + 2.0 * labels[:, None]
    return {"signal": signal.astype(np.float32)}, labels


def a_peek():
    inputs, labels = hums(1)
    return build_peek(SPEC, an_application(), inputs, labels)


def test_votes_go_to_the_class_that_the_data_look_like():
    inputs, labels = hums(2)
    counts = a_peek().look(inputs)
    assert counts.shape == (90, 3)
    assert (counts.sum(axis=1) == 5).all()
    assert (counts.argmax(axis=1) == labels).mean() > 0.95


class Searches:
    """Passes features on to real evidence and keeps how many rows each search had."""

    def __init__(self, evidence):
        self.evidence, self.rows = evidence, []

    def counts(self, features):
        self.rows.append(len(features))
        return self.evidence.counts(features)


def test_requests_of_several_shapes_share_one_search():
    rng = np.random.default_rng(4)
    x = rng.normal(size=(40, 24)).astype(np.float32)
    lengths = rng.integers(5, 25, size=40)
    peek = build_peek(
        SPEC, an_application((-1,), (12, 24)), {"signal": x}, np.arange(40) % 3, {"signal": lengths}
    )
    searches = Searches(peek.evidence)
    peek = Peek(peek.features, searches)
    glances = [
        Glance({"signal": x[:2, :12]}, {"signal": np.array([7, 12])}),
        Glance({"signal": x[2:3]}, {"signal": np.array([20])}),
        Glance({"signal": x[3:6, :12]}, {"signal": np.array([12, 1, 9])}),
    ]
    together = peek.look_all(glances)
    assert searches.rows == [6]
    for glance, counts in zip(glances, together, strict=True):
        assert np.array_equal(counts, peek.look(glance.inputs, glance.lengths))


def test_a_peeks_profile_is_its_answers_on_data_that_it_does_not_hold():
    inputs, labels = hums(3)
    quality, latency, votes = profile_peek(
        a_peek(), uninformative(3), inputs, labels, TickingClock(0.001), rounds=4
    )
    confusion = np.zeros((3, 3), int)
    np.add.at(confusion, (labels, votes.argmax(axis=1)), 1)
    assert quality.confusion == tuple(map(tuple, confusion.tolist()))
    assert quality.accuracy > 0.95
    assert latency.batch_sizes == (1, 8, 32)
    assert latency.median_s == pytest.approx((0.001, 0.001, 0.001))
    assert len(latency.p99_s) == 3


class TickingClock(ManualClock):
    """Each look at it moves it on."""

    def __init__(self, tick):
        super().__init__()
        self.tick = tick

    def now(self):
        self.advance(self.tick)
        return super().now()


def test_rows_of_subjects_that_the_peek_knows_are_left_out_of_its_calibration():
    """Subjects 0 to 2 are in the reference: of course their neighbours are right."""
    labels = np.arange(120) % 3
    groups = np.repeat(np.arange(6), 20)
    rng = np.random.default_rng(0)
    votes = np.where(groups[:, None] < 3, 5.0 * np.eye(3)[labels], rng.multinomial(5, [1 / 3] * 3, 120))
    app = an_application()
    kept = calibrate(app, votes, labels, groups, np.array([0, 1, 2]))
    assert kept.fitted_on == 60
    assert kept == calibrate(app, votes[60:], labels[60:], groups[60:], None)
    # If nobody else is there, what is there must do.
    assert calibrate(app, votes, labels, groups, np.arange(6)).fitted_on == 120


class Plain:
    """Looks at one input as it is."""

    def transform(self, inputs, lengths=None):
        return inputs["x"]


def test_a_reference_of_many_groups_tells_what_votes_are_worth_beside_few_of_validation():
    """Two classes lie together for everybody but the two people of the validation data."""
    rng = np.random.default_rng(0)
    groups, labels = np.repeat(np.arange(12), 20), np.tile(np.repeat([0, 1], 10), 12)
    inputs = {"x": (rng.normal(labels, 2.0)[:, None]).astype(np.float32)}
    app, peek = an_application(), Peek(Plain(), Neighbours(inputs["x"], labels, 3, 5))
    beside = votes_on_reference(peek, inputs, labels, groups)
    assert (beside.counts.sum(axis=1) == 5.0).all()
    assert beside.labels.tolist() == labels.tolist()
    own = np.tile([0, 0, 1, 2], 10)
    sure, people = 5.0 * np.eye(3)[own], np.repeat([100, 101], 20)
    alone, both = (calibrate(app, sure, own, people, groups, more) for more in (None, beside))
    assert both.fitted_on == alone.fitted_on + 240
    assert both.votes[0][0] < alone.votes[0][0]
    assert both.frequencies == alone.frequencies  # the reference's mix is its maker's choice
    # Nobody knows whose neighbours they are.
    assert calibrate(app, sure, own, None, None, beside).fitted_on == 40


def test_rows_of_a_reference_are_not_voted_on_by_their_own_kind():
    features = np.repeat(np.arange(4.0), 5)[:, None].astype(np.float32)
    labels, groups = np.repeat([0, 1, 0, 1], 5), np.repeat(np.arange(4), 5)
    peek = Peek(Plain(), Neighbours(features, labels, 2, 5))
    told = votes_on_reference(peek, {"x": features}, labels, groups)
    assert not told.counts[np.arange(20), labels].any()  # the nearest others are all of the other class
    assert votes_on_reference(peek, {"x": features}, labels, None) is None
    assert votes_on_reference(peek, {"x": features}, labels, np.zeros(20, int)) is None


def test_a_calibration_is_fitted_to_the_mix_that_the_owner_expects():
    labels = np.repeat([0, 1, 2], [60, 30, 30])
    rng = np.random.default_rng(0)
    votes = np.array([rng.multinomial(5, 0.4 * np.eye(3)[c] + 0.2) for c in labels], dtype=float)
    plain = an_application()
    expecting = replace(plain, prior=(0.8, 0.1, 0.1), prior_learns=None)
    assert (
        calibrate(expecting, votes, labels, None, None).loss
        < calibrate(plain, votes, labels, None, None).loss
    )


def test_fewer_validation_samples_than_rows_in_a_batch_are_enough():
    inputs, labels = hums(3, rows=3)
    latency = profile_peek(
        a_peek(), uninformative(3), inputs, labels, TickingClock(0.002), (1, 16), rounds=2
    ).latency
    assert latency.batch_sizes == (1, 16)


def test_validation_labels_are_checked():
    inputs, labels = hums(3)
    with pytest.raises(InvalidData, match=r"0 \.\. 2"):
        profile_peek(a_peek(), uninformative(3), inputs, labels + 1, ManualClock())
    with pytest.raises(InvalidData, match="rows"):
        profile_peek(a_peek(), uninformative(3), inputs, labels[:5], ManualClock())


@pytest.mark.parametrize(
    ("spec", "error", "says"),
    [
        (
            replace(SPEC, inputs=("sound",)),
            InvalidConfiguration,
            "reads 'sound'; its inputs are signal, other",
        ),
        (replace(SPEC, inputs=()), InvalidConfiguration, "names no input"),
        (replace(SPEC, inputs=("other",)), InvalidData, "holds no 'other'"),
        (replace(SPEC, neighbours=91), InvalidConfiguration, "91 of 90"),
    ],
)
def test_a_peek_that_cannot_be_built_says_why(spec, error, says):
    inputs, labels = hums(1)
    with pytest.raises(error, match=says):
        build_peek(spec, an_application(), inputs, labels)


def test_a_reference_must_fit_its_application():
    inputs, labels = hums(1)
    with pytest.raises(InvalidData, match="from 0 to 3"):
        build_peek(SPEC, an_application(), inputs, np.where(labels == 2, 3, labels))
    with pytest.raises(InvalidData, match="5 labels"):
        build_peek(SPEC, an_application(), inputs, labels[:5])
    with pytest.raises(InvalidData, match="no lengths"):
        build_peek(SPEC, an_application((-1,), (32,)), inputs, labels)

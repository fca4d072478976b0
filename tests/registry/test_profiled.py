from dataclasses import replace

from peekserve.domain.application import CHOSEN
from peekserve.domain.profile import Calibration, LatencyCurve, Quality, Timing
from peekserve.registry.profiled import (
    peek_key,
    profile_key,
    unprofiled,
    validation_sha,
    votes_key,
    why_untimed,
    with_profiles,
)
from peekserve.registry.repository import read_repository
from peekserve.state.store import Store
from tests.registry.folders import repository

MEASURED = Timing((LatencyCurve((1,), (0.5,)),), 0.1, 99, "ort")
QUALITY = Quality((1.0, 0.0), (0.5, 0.5))
CALIBRATION = Calibration(((0.7, 0.3), (0.2, 0.8)), 0.4, 5.0, (0.1, 0.5, 0.9), (0.5, 0.5), 90, 0.7, 0.5, 0.6)
APART = ((0.9, 0.0), (1.0, 0.0), (1.0, 0.1), (1.0, 0.2))


def digits(tmp_path):
    return read_repository(repository(tmp_path / "repo")).sound().applications[0]


def test_what_is_stated_serves_until_something_is_measured(tmp_path):
    application = digits(tmp_path)
    with Store(tmp_path / "s.db") as store:
        stated = with_profiles(application, store, "box", validation_sha(application), device="cpu")
        linear, two = stated.variants
        assert linear.timing["cpu"].curve(0).seconds(8) == 0.009
        assert linear.quality == Quality((0.7, 0.9), (0.5, 0.5))
        assert (two.timing, two.quality) == ({}, None)
        assert unprofiled(stated) == ("2",)


def test_what_was_measured_wins_over_what_is_stated(tmp_path):
    application = digits(tmp_path)
    sha, linear, peek = validation_sha(application), application.variants[0], application.peek
    with Store(tmp_path / "s.db") as store:
        store.put_quality(profile_key(application, linear), sha, QUALITY)
        store.put_timing(profile_key(application, linear), "box", MEASURED)
        store.put_peek_quality(peek_key(application, peek), sha, QUALITY)
        store.put_peek_latency(peek_key(application, peek), "box", MEASURED.curves[0])
        here = with_profiles(application, store, "box", sha, device="cpu:0")
        assert (here.variants[0].quality, here.variants[0].timing["cpu:0"]) == (QUALITY, MEASURED)
        assert here.peek is not None
        assert (here.peek.quality, here.peek.latency) == (QUALITY, MEASURED.curves[0])

        elsewhere = with_profiles(application, store, "laptop", sha, device="cpu:0")
        assert elsewhere.variants[0].timing["cpu:0"].runtime == "stated"
        assert "was timed on box, and this device is laptop" in why_untimed(
            application, linear, store, "laptop"
        )
        assert "was never timed" in why_untimed(application, application.variants[1], store, "laptop")


def test_what_votes_are_worth_goes_with_the_peek_that_gives_them(tmp_path):
    application = digits(tmp_path)
    sha, linear, peek = validation_sha(application), application.variants[0], application.peek
    key = profile_key(application, linear)
    with Store(tmp_path / "s.db") as store:
        store.put_calibration(peek_key(application, peek), sha, CALIBRATION)
        store.put_agreement(key, votes_key(application, peek, sha), APART)
        bare = with_profiles(application, store, "box", sha)
        assert bare.peek.calibration == CALIBRATION
        assert bare.variants[0].quality.by_agreement == ()  # recalls that are stated are not told apart
        store.put_quality(key, sha, QUALITY)
        assert with_profiles(application, store, "box", sha).variants[0].quality.by_agreement == APART

        seven = replace(application, peek=replace(peek, neighbours=7))
        other = with_profiles(seven, store, "box", sha)
        assert other.peek.calibration is None
        assert other.variants[0].quality == QUALITY


def test_recalls_by_agreement_outlive_another_prior_and_a_calibration_does_not(tmp_path):
    """The models need not be run again for it, unless the prior has a part in how many neighbours vote."""
    application = digits(tmp_path)
    peek, other = application.peek, replace(application, prior=(0.5, 0.5))
    assert votes_key(application, peek, "v") == votes_key(other, peek, "v")
    assert peek_key(application, peek) != peek_key(other, peek)
    chosen = replace(peek, neighbours=CHOSEN)
    assert votes_key(application, chosen, "v") != votes_key(other, chosen, "v")


def test_a_profile_goes_with_the_maps_it_was_measured_through(tmp_path):
    """The same bytes of a model fed at another scale are worth something else."""
    application = digits(tmp_path)
    linear = application.variants[0]
    other = replace(linear, inputs=(replace(linear.inputs[0], scale=1.0),))
    assert profile_key(application, linear) != profile_key(application, other)
    assert profile_key(application, linear) == profile_key(
        application, replace(linear, name="b", max_batch=1)
    )


def test_an_application_outside_any_repository_keeps_what_it_states(tmp_path):
    application = replace(digits(tmp_path), validation="")
    peek = replace(application.peek, reference="reference.npz")
    with Store(tmp_path / "s.db") as store:
        same = with_profiles(replace(application, peek=peek), store, "box", validation_sha(application))
    assert same.peek == peek

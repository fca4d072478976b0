"""The section `stream:` of application.yaml."""

import pytest

from peekserve.domain.streams import Normalise, Onset, Recurring, RPeak, Sliding, TrackSpec
from peekserve.registry.repository import read_repository
from tests.registry.folders import DIGITS, repository, untouched

TWO = DIGITS.replace(
    "  image: {datatype: FP32, shape: [2, 2]}\n",
    "  image: {datatype: FP32, shape: [180]}\n  tags: {datatype: FP32, shape: [60, 4, 6]}\n"
    "  wave: {datatype: INT16, shape: [2, -1], buckets: [100, 200]}\n",
).replace("reshape: [4], ", "")


def stream_of(root, section):
    found = read_repository(repository(root, TWO + "stream:\n" + section), untouched).sound()
    return found.applications[0].stream


def problem_of(root, section):
    found = read_repository(repository(root, TWO + "stream:\n" + section), untouched)
    assert found.applications == ()
    return " / ".join(str(problem) for problem in found.problems)


def test_an_application_without_the_section_takes_no_streams(tmp_path):
    assert read_repository(repository(tmp_path, TWO), untouched).sound().applications[0].stream is None


def test_a_heart(tmp_path):
    spec = stream_of(
        tmp_path,
        "  rate: {image: 180}\n  window: 1s\n  finder: {kind: r_peak, at: 400ms}\n  max_age: 2s\n  max_gap: 50ms\n"
        "  query: {every: event, type: urgent}\n  normalise: zscore\n",
    )
    assert spec.tracks == (TrackSpec("image", 180.0, 180),)
    assert spec.finder == RPeak(72)
    assert (spec.max_age_s, spec.max_gap_s, spec.reorder_s) == (2.0, 0.05, 0.25)
    assert spec.recurring == Recurring(None, "urgent")
    assert spec.normalise is Normalise.ZSCORE


def test_several_inputs_at_rates_of_their_own(tmp_path):
    spec = stream_of(
        tmp_path,
        "  rate: {wave: 50, tags: 20}\n  window: 3s\n  finder: {kind: sliding, stride: 500ms}\n"
        "  query: {every: 750ms}\n",
    )
    assert spec.tracks == (
        TrackSpec("wave", 50.0, 150, channels=2, axis=1),
        TrackSpec("tags", 20.0, 60, channels=24, axis=0),
    )
    assert spec.finder == Sliding(25)
    assert spec.recurring == Recurring(0.75)


def test_an_onset_and_its_defaults(tmp_path):
    spec = stream_of(
        tmp_path, "  rate: {image: 1000}\n  window: 180\n  finder: {kind: onset, pre_roll: 30ms}\n"
    )
    assert spec.finder == Onset(frame=10, pre_roll=30, apart=150, rise=8.0, sustain=3, least=0.0)
    assert spec.recurring is None


def test_windows_that_follow_one_another_are_what_a_bare_name_asks_for(tmp_path):
    assert stream_of(tmp_path, "  rate: {image: 10}\n  window: 180\n  finder: sliding\n").finder == Sliding(
        180
    )


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("  window: 1s\n  finder: sliding\n", "needs the key 'rate'"),
        ("  rate: 0\n  window: 1s\n  finder: sliding\n", "above 0"),
        ("  rate: {other: 5}\n  window: 1s\n  finder: sliding\n", "no input 'other'"),
        (
            "  rate: {image: 100}\n  window: 1s\n  finder: sliding\n",
            "has 100 samples; no axis of input 'image'",
        ),
        ("  rate: {wave: 300}\n  window: 1s\n  finder: sliding\n", "longest bucket: 200"),
        ("  rate: {image: 180}\n  window: 1\n  finder: sliding\n", "has 1 samples"),
        ("  rate: {image: 180}\n  window: 1s\n  finder: qrs\n", "unknown finder 'qrs'"),
        ("  rate: {image: 180}\n  window: 1s\n  finder: r_peak\n", "needs the key 'at'"),
        ("  rate: {image: 180}\n  window: 1s\n  finder: {kind: r_peak, at: 200}\n", "sample 200"),
        ("  rate: {image: 180}\n  window: 1s\n  finder: {kind: onset, stride: 3}\n", "unknown key 'stride'"),
        ("  rate: {image: 180}\n  window: 1s\n  finder: sliding\n  max_age: 0s\n", "not above zero"),
        ("  rate: {image: 180}\n  window: 1s\n  finder: sliding\n  max_gap: 100\n", "has no unit"),
        (
            "  rate: {image: 180}\n  window: 1s\n  finder: sliding\n  query: {every: 1s, type: no}\n",
            "query type",
        ),
        (
            "  rate: {image: 180}\n  window: 1s\n  finder: sliding\n  query: {every: evnt}\n",
            "'evnt' is neither event nor a time",
        ),
        ("  rate: {image: 180}\n  window: 1s\n  finder: sliding\n  normalize: none\n", "'normalise'"),
    ],
)
def test_a_section_that_cannot_be_says_where_and_why(tmp_path, section, says):
    assert says in problem_of(tmp_path, section)

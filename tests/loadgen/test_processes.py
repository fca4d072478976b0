"""Processes by their words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.errors import InvalidConfiguration
from peekserve.loadgen.processes import PROCESSES, Bursty, Gamma, Poisson, Ramp, arrive, parse_process


def test_a_word_with_its_options():
    assert parse_process("poisson") == Poisson()
    assert parse_process("gamma:cv2=4") == Gamma(4.0)
    assert parse_process("bursty: base=1500, varying=4900, cv2=2") == Bursty(1500.0, 4900.0, 2.0)
    assert parse_process("ramp:start=10,end=20,tau=5") == Ramp(10.0, 20.0, 5.0, 8.0, 0.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gama:cv2=4", "unknown process 'gama'; did you mean 'gamma'?"),
        ("", "known: poisson, gamma, bursty, ramp, segments, functions"),
        ("gamma", "needs cv2; write gamma:cv2=NUMBER"),
        ("bursty:base=1", "write bursty:base=1,varying=NUMBER,cv2=NUMBER"),
        ("gamma:cv2", "'cv2' is not OPTION=NUMBER"),
        ("gamma:cv=4", "unknown option 'cv'; did you mean 'cv2'?"),
        ("gamma:cv2=nan", "'nan' is not a number"),
        ("gamma:cv2=-1", "-1 is not from 0"),
        ("gamma:cv2=1,cv2=2", "twice"),
        ("poisson:cv2=1", "it takes none"),
        ("bursty:base=0,varying=0,cv2=1", "nothing ever comes"),
        ("segments:low=5,high=1", "low is 5, above high, 1"),
        ("functions:functions=2.5", "not a whole number"),
        ("functions:functions=1", "is not from 3 to"),
    ],
)
def test_what_is_wrong_with_a_word_is_said(text: str, message: str):
    with pytest.raises(InvalidConfiguration) as refused:
        parse_process(text)
    assert message in str(refused.value)
    assert str(refused.value).startswith("--arrivals")


@given(st.text(max_size=40) | st.from_regex(r"(poisson|gamma|bursty|ramp|segments):[a-z0-9=,.]{0,30}"))
def test_any_word_is_a_process_or_an_error_of_ours(text: str):
    try:
        found = parse_process(text)
    except InvalidConfiguration:
        return
    assert type(found) in PROCESSES.values()


WORDS = [
    "poisson",
    "gamma:cv2=4",
    "bursty:base=15,varying=49,cv2=4",
    "ramp:start=25,end=68,tau=5",
    "functions:functions=100",
]


@pytest.mark.parametrize("word", WORDS)
def test_every_process_keeps_the_mean_rate_it_is_given(word: str):
    process = parse_process(word)
    played = [arrive(process, 300.0, 20.0, np.random.default_rng(seed)) for seed in range(12)]
    for one in played:
        assert one.seconds == 20.0
        assert (np.diff(one.at) >= 0.0).all()
        assert (one.at[0] >= 0.0) & (one.at[-1] < 20.0)
    # 6,000 each with a CV^2 of 8 at most.
    assert np.mean([len(one.at) for one in played]) == pytest.approx(6000, abs=4 * np.sqrt(6000 * 8 / 12))


@pytest.mark.parametrize(
    ("word", "rate"),
    [("bursty:base=15,varying=49,cv2=4", 64.0), ("poisson", 200.0), ("ramp:start=50,end=50,tau=1", 50.0)],
)
def test_a_process_without_a_rate_has_its_own(word: str, rate: float):
    counts = [len(arrive(parse_process(word), None, 20.0, np.random.default_rng(s)).at) for s in range(20)]
    assert np.mean(counts) / 20.0 == pytest.approx(rate, abs=4 * np.sqrt(rate * 8 / 20 / 20))


def test_segments_are_shares_of_the_rate():
    """Low and high alike: every segment has the given rate."""
    played = arrive(
        parse_process("segments:count=4,low=2,high=2,cv2=0"), 100.0, 8.0, np.random.default_rng(0)
    )
    assert np.histogram(played.at, 4, (0.0, 8.0))[0] == pytest.approx([400] * 4, abs=1)


@given(
    word=st.sampled_from([*WORDS[:4], "segments"]),
    rate=st.floats(1e-3, 1e12),
    seconds=st.floats(1e-6, 1e12),
)
def test_whatever_is_asked_for_is_drawn_or_refused(word: str, rate: float, seconds: float):
    if 1e5 < rate * seconds <= 2e7:
        return  # would be drawn, and takes its time
    try:
        played = arrive(parse_process(word), rate, seconds, np.random.default_rng(0))
    except InvalidConfiguration:
        return
    assert (np.diff(played.at) >= 0.0).all()
    assert ((played.at >= 0.0) & (played.at < seconds)).all()

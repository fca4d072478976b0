"""Claims: every one is measured, judged by its interval, and the file says what it must."""

import numpy as np
import pytest

from peekserve.errors import InvalidConfiguration
from peekserve.experiments.claims import Claim, judge, read_claims
from peekserve.experiments.run import EXPERIMENTS
from peekserve.experiments.table import Interval

pytestmark = pytest.mark.core


def a_claim(holds: str, id: str = "c", experiment: str = "e") -> Claim:
    return Claim(id, experiment, "the paper says so", "a quantity", holds)


@pytest.mark.parametrize(
    ("holds", "interval", "said"),
    [
        ("low > 0", (0.5, 0.1, 0.9), True),
        ("low > 0", (0.5, 0.0, 0.9), False),
        ("low >= 0", (0.5, 0.0, 0.9), True),
        ("high < -0.5", (-0.7, -0.8, -0.6), True),
        ("low >= -0.05 and high <= 0.05", (0.0, -0.01, 0.06), False),
        ("measured <= 2", (2.0, 1.0, 3.0), True),
        ("low > 0", (float("nan"), float("nan"), float("nan")), False),
    ],
)
def test_a_claim_holds_when_its_interval_says_so(holds, interval, said):
    assert a_claim(holds).judge(Interval(*interval)) is said


def test_every_claim_of_the_file_belongs_to_an_experiment_and_every_experiment_has_some():
    claims = read_claims()
    assert {c.experiment for c in claims} == set(EXPERIMENTS)
    assert len({c.id for c in claims}) == len(claims)
    assert all(c.paper and c.claim for c in claims)


def test_what_is_claimed_must_be_measured_and_what_is_measured_claimed():
    claims = (a_claim("low > 0"),)
    assert judge("e", {"c": np.array([1.0, 0.9, 1.1])}, claims)[0].holds
    for measured in ({}, {"c": np.ones(3), "d": np.ones(3)}):
        with pytest.raises(InvalidConfiguration, match="claimed and not measured"):
            judge("e", measured, claims)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[claim]]\nid = "x"', "lacks"),
        (
            '[[claim]]\nid = "x"\nexperiment = "e"\npaper = "p"\nclaim = "c"\nholds = "low is high"',
            "no condition",
        ),
        (
            2 * '[[claim]]\nid = "x"\nexperiment = "e"\npaper = "p"\nclaim = "c"\nholds = "low > 0"\n',
            "two claims",
        ),
    ],
)
def test_a_claim_that_cannot_be_judged_is_refused(tmp_path, text, message):
    path = tmp_path / "claims.toml"
    path.write_text(text)
    with pytest.raises(InvalidConfiguration, match=message):
        read_claims(path)

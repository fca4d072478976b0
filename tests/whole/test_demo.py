"""The demo from its beginning to its table, with few policies and little load."""

import json

import pytest

from peekserve.cli.demo import Demo

pytestmark = pytest.mark.whole


def test_it_compares_policies_live_and_simulated(capsys):
    demo = Demo(
        ["digits"], 0.5, 1.5, seed=1, quiet=True, policies=["lo-edf", "sneakpeek", "horizon"], passes=1
    )
    assert demo.run(None, keep=False) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told["policies"]) == [
        *("lo-edf", "lo-edf+aware", "lo-edf+aware+sc"),
        *("sneakpeek-sc", "sneakpeek", "sneakpeek+calibrated"),
        *("horizon-escalate", "horizon"),
    ]
    for name, policy in told["policies"].items():
        # What a policy is worth in half a second on a machine that is busy with other tests is not for a test to say.
        assert policy["requests"] > 20, name
        assert 0.0 <= policy["low"] <= policy["utility"] <= policy["high"] <= 1.0, name
        assert 0.0 <= policy["simulated"] <= 1.0, name
    assert {(d["name"], d["against"]) for d in told["differences"]} >= {
        ("sneakpeek", "lo-edf"),
        ("horizon", "sneakpeek"),
    }

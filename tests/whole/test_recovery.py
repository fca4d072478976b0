"""A small piece of `trust-kills`, `trust-cycles` and `trust-soak`, on real servers."""

import pytest

from peekserve.experiments.trust.blows import struck
from peekserve.experiments.trust.cycles import alone, through_server
from peekserve.experiments.trust.fronts import lives

pytestmark = pytest.mark.whole


def test_a_worker_that_is_struck_under_load_serves_again_and_nobody_is_left_without_an_outcome(here):
    blow, requests = struck(here, 1, seed=1, after_s=2.0)
    assert blow["recovered"] == 1.0
    assert requests["requests"] == requests["arrived"] > 50
    assert requests["answered"] > 0
    for column in ("without_reply", "without_outcome", "several_outcomes", "disagree", "exit_status"):
        assert requests[column] == 0, column


def test_a_front_that_is_killed_under_load_leaves_all_that_it_acknowledged(here):
    (row,) = lives(here, 1, seed=3)
    assert row["taught"] > 0
    assert row["steps"] > 0
    assert row["broken_frames"] <= 1.0
    for column in ("unwritten", "several_outcomes", "damaged", "changed"):
        assert row[column] == 0, column
    assert (row["lessons_lost"], row["keys_lost"], row["unanswered"]) == (0, 0.0, 0.0)


def test_loads_and_unloads_by_the_protocol_give_the_memory_back(here):
    rows = through_server(here, 5, seed=0)
    assert {row["who"] for row in rows} == {"front", "worker"}
    (worker,) = (row for row in rows if row.get("end") and row["who"] == "worker")
    assert worker["given_back"] >= 1.0
    assert worker["rss_ratio"] < 1.1  # five cycles; two hundred are the experiment's
    assert (worker["more_files"], worker["more_threads"]) == (0, 0)


def test_a_worker_alone_gives_it_back_too(here):
    rows = alone(here, ["mlp", "committee"], 5, seed=0)
    (worker,) = (row for row in rows if row.get("end"))
    assert worker["given_back"] >= 1.0
    assert worker["rss_ratio"] < 1.1

"""Blows, ledgers and flatness, without a server."""

import subprocess

import numpy as np
import pytest

from peekserve.domain.messages import Answer, Arrived, Woke
from peekserve.domain.request import Outcome, Reason
from peekserve.experiments.table import Interval, Table
from peekserve.experiments.trust import cycles, kills, soak
from peekserve.experiments.trust.blows import HUNG, KILLED, Blow, Striker, planned
from peekserve.experiments.trust.flatness import growth, thirds
from peekserve.experiments.trust.ledger import DOWN, SERVED, UP, Ledger, Recovery, follow, recovery
from peekserve.experiments.trust.watching import Held
from peekserve.state.journal import Step
from tests.core.stories import a_request

pytestmark = pytest.mark.core


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ([(0.0, UP), (1.5, DOWN), (2.0, UP), (2.5, SERVED)], Recovery(0.5, 1.0, 1.5)),
        # A batch that had ended before the blow was noticed is nobody's recovery.
        ([(0.0, UP), (1.25, SERVED), (1.5, DOWN), (2.0, UP), (2.5, SERVED)], Recovery(0.5, 1.0, 1.5)),
        # Struck while it was starting: its next coming up is what follows.
        ([(0.0, UP), (0.5, DOWN), (2.0, UP), (2.5, SERVED)], Recovery(0.0, 1.0, 1.5)),
        # Struck again before it served.
        ([(0.0, UP), (1.5, DOWN), (2.0, UP), (2.5, DOWN), (3.0, UP), (4.0, SERVED)], Recovery(0.5, 1.0, 3.0)),
        ([(0.0, UP), (1.5, DOWN)], Recovery(0.5, None, None)),
        ([(0.0, UP), (3.0, SERVED)], Recovery(None, None, None)),
    ],
)
def test_a_recovery_is_read_from_what_followed_the_blow(told, found):
    assert recovery(1.0, told) == found


def test_a_ledger_counts_who_got_none_and_who_got_two():
    ledger = Ledger()
    answers = {
        "one": [Answer("one", Outcome.ANSWERED, Reason.OK)],
        "two": [
            Answer("two", Outcome.LATE, Reason.LATE),
            Answer("two", Outcome.FAILED, Reason.BACKEND_ERROR),
        ],
        "none": [],
    }
    steps = [Step(0.0, Arrived(a_request(name)), ()) for name in answers]
    steps += [Step(1.0, Woke(), tuple(each)) for each in answers.values()]
    follow(ledger, [*steps, Step(2.0, Woke(), (Answer("nobody", Outcome.REFUSED, Reason.OVERLOADED),))])
    assert (ledger.without, ledger.several, ledger.steps) == (1, 2, 7)
    assert ledger.answered == {"one", "two"}


def test_blows_are_planned_by_their_seed_a_second_apart_and_every_fifth_is_a_hang():
    first, again = (planned(25, np.random.default_rng(3)) for _ in range(2))
    assert first == again
    assert [blow.how for blow in first].count(HUNG) == 5
    assert {blow.how for blow in first} == {HUNG, KILLED}
    assert min(np.diff([blow.at for blow in first])) >= 1.0


def test_nobody_is_struck_where_the_front_is_gone():
    gone = subprocess.Popen(["true"])
    gone.wait()
    striker = Striker(gone.pid, [Blow(0.0, KILLED)])
    striker.run()
    assert not striker.struck


def test_a_flat_series_is_flat_and_one_that_grows_grows():
    rng, hours = np.random.default_rng(0), np.linspace(0.0, 0.5, 54)
    noise = rng.normal(0.0, 0.2, 54)
    flat, rising = 100.0 + noise, 100.0 + 20.0 * hours + noise
    assert Interval.of(thirds(flat)).high < 1.01
    assert -0.01 < Interval.of(growth(hours, flat)).low < Interval.of(growth(hours, flat)).high < 0.01
    assert Interval.of(thirds(rising)).low > 1.05
    assert Interval.of(growth(hours, rising)).measured == pytest.approx(20.0 / 105.0, rel=0.1)
    assert Interval.of(growth(hours, rising)).low > 0.1


def a_look(mib, files=9):
    return Held(rss=mib << 20, pss=mib << 19, own=mib << 19, files=files, threads=2)


def test_memory_that_stays_after_unloads_is_seen():
    def rows(full, empty):
        samples = {("worker", "loaded"): full, ("worker", "unloaded"): empty}
        (row,) = (r for r in cycles._rows("big", samples, float(40 << 20), 0) if r.get("end"))
        return row

    sound = rows([a_look(100)] * 12, [a_look(60)] * 11)
    assert (sound["rss_ratio"], sound["given_back"], sound["more_files"]) == (1.0, 1.0, 0)
    leaking = rows([a_look(100 + i) for i in range(12)], [a_look(60 + i, 9 + i) for i in range(11)])
    assert leaking["rss_ratio"] > 1.05
    kept = rows([a_look(100, 9 + i) for i in range(12)], [a_look(98)] * 11)
    assert (kept["given_back"], kept["more_files"]) == (0.05, 11)


def rows_of_kills(**worse):
    """Of one seed, everything well but for `worse`."""
    blows = [
        {"part": "workers", "how": how, "blow": 1, "seed": 0, "recovered": 1.0}
        | {"noticed_s": 0.01, "up_s": 0.3, "served_s": 0.4}
        for how in (KILLED, HUNG)
    ]
    asked = {"part": "workers", "how": "requests", "seed": 0, "requests": 9, "answered": 9} | dict.fromkeys(
        ("without_reply", "without_outcome", "several_outcomes", "disagree"), 0
    )
    front = {
        "part": "fronts",
        "seed": 0,
        "ready_s": 1.0,
        "workers_gone_s": 0.1,
        "taught": 3,
        "registrations": 1.0,
    } | dict.fromkeys(
        [
            *("unwritten", "several_outcomes", "damaged", "changed", "lessons_lost"),
            *("keys_lost", "unanswered", "broken_frames"),
        ],
        0.0,
    )
    return [
        *blows,
        {k: worse.get(k, v) for k, v in asked.items()},
        {k: worse.get(k, v) for k, v in front.items()},
    ]


@pytest.mark.parametrize(
    ("worse", "claim", "measured"),
    [
        ({}, "kills-outcomes", 0.0),
        ({}, "kills-front-state", 0.0),
        ({"disagree": 2}, "kills-outcomes", 2.0),
        ({"lessons_lost": 3}, "kills-front-state", 3.0),
        ({"broken_frames": 1.0}, "kills-front-journal", 1.0),
        ({"ready_s": 7.0}, "kills-front-ready", 7.0),
    ],
)
def test_what_went_wrong_with_a_kill_shows_in_its_claim(worse, claim, measured):
    table = Table(rows_of_kills(**worse))
    assert kills._measure(table)[claim][0] == measured
    assert kills._tables(table)
    assert kills._panels(table)


def test_a_soak_is_judged_without_its_warm_up():
    def piece(i):
        # Grows for a tenth of the run, within the warm-up, and is flat from then on.
        memory = 50.0 + 10.0 * min(i, 6)
        return (
            {"seed": 0, "piece": i, "minute": i / 2.0, "capacity": 60.0, "requests": 100, "in_time": 0.9}
            | {"without_reply": 0, "client_cpu": 0.1, "client_lag_ms": 1.0}
            | {f"p{q}_ms": 10.0 for q in (50, 95, 99)}
            | {f"{who}_{what}": memory for who in ("front", "worker") for what in ("rss", "own", "pss")}
            | {f"{who}_{what}": 5 for who in ("front", "worker") for what in ("files", "threads")}
        )

    table = Table([piece(i) for i in range(60)])
    found = soak._measure(table)
    assert found["soak-front-thirds"][0] == 1.0
    assert found["soak-front-growth"][0] == pytest.approx(0.0)
    assert found["soak-files"][0] == found["soak-outcomes"][0] == 0.0
    assert soak._tables(table)
    assert soak._panels(table)

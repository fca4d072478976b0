"""When a server is alive."""

import pytest

from peekserve.live.health import Health

pytestmark = pytest.mark.core


def a_server(*lives):
    """(from, to) for each life of its one worker; `to` None: it is up still."""
    health = Health(proven_s=10.0, patience_s=60.0)
    for start, end in lives:
        health.up("cpu-0", start)
        if end is not None:
            health.down("cpu-0", end)
    return health


def test_a_server_that_starts_is_alive_however_long_that_takes():
    assert Health().live(1e6)


def test_a_worker_that_was_well_may_be_gone_for_a_minute():
    health = a_server((0.0, 100.0))
    assert health.live(100.0)
    assert health.live(159.9)
    assert not health.live(160.0)


def test_one_that_comes_back_late_makes_it_alive_again_when_it_has_lived_for_a_while():
    health = a_server((0.0, 100.0), (200.0, None))
    assert not health.live(209.0)
    assert health.live(210.0)
    assert health.live(1e6)


def test_workers_that_die_again_and_again_are_no_life_not_even_while_one_is_up():
    health = a_server((0.0, 100.0), *((at, at + 0.5) for at in range(101, 170, 5)))
    assert not health.live(170.0)
    health.up("cpu-0", 170.0)
    assert not health.live(171.0)
    health.down("cpu-0", 180.0)  # long enough to be more than another try
    assert health.live(239.0)


def test_one_that_never_lives_long_from_the_first_on_is_not_alive_after_a_minute():
    health = a_server(*((float(at), at + 0.5) for at in range(0, 60, 5)))
    assert health.live(59.0)
    assert not health.live(60.0)


def test_one_of_two_is_enough():
    health = Health(proven_s=10.0, patience_s=60.0)
    health.up("a", 0.0)
    health.up("b", 0.0)
    health.down("a", 50.0)
    assert health.live(1000.0)
    health.down("b", 1000.0)
    assert health.live(1059.0)
    assert not health.live(1060.0)


def test_a_down_of_a_worker_that_was_never_up_changes_nothing():
    health = Health()
    health.down("a", 5.0)
    assert health.live(1e6)
    assert health.live(6.0)

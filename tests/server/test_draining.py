"""When it is worth asking again."""

from peekserve.server.draining import MOST_S, Draining


def test_it_is_when_what_waits_should_be_gone():
    draining = Draining()
    assert draining.retry_after_s() == 1
    for i in range(100):  # ten rows a second go, and as many come
        draining.came(1, 0.1 * i)
        draining.went(1, False, 0.1 * i)
    draining.came(42, 10.0)
    assert draining.retry_after_s() == 5
    draining.went(40, False, 10.0)
    assert draining.retry_after_s() == 1


def test_refused_rows_are_no_work_that_was_done():
    draining = Draining()
    for i in range(200):
        draining.came(1, 0.01 * i)
        draining.went(1, True, 0.01 * i)
    draining.came(50, 2.0)
    assert draining.retry_after_s() == MOST_S
    draining.went(50, False, 3.0)
    assert draining.retry_after_s() == 1


def test_nobody_is_told_anything_before_something_was_seen():
    draining = Draining()
    draining.came(10**6, 0.0)
    draining.went(1, False, 0.5)
    assert draining.retry_after_s() == 1
    draining.went(1, False, 2.0)
    assert draining.retry_after_s() == MOST_S
    draining.went(10**6 - 2, False, 1e9)
    assert draining.retry_after_s() == 1

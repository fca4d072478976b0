import threading
from collections import Counter

import numpy as np
import pytest

from peekserve.peeking.peeker import Peeker
from peekserve.peeking.scripted import ScriptedPeek, ScriptedPeeks

SOON_S = 10.0


class Heard:
    """Collects reports; `wait(n)` returns once n requests have been reported."""

    def __init__(self):
        self.turns = []
        self.changed = threading.Condition()

    def __call__(self, results):
        with self.changed:
            self.turns.append(results)
            self.changed.notify_all()

    @property
    def results(self):
        return [result for turn in self.turns for result in turn]

    def wait(self, number):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.results) >= number, SOON_S)
        return dict(self.results)


def rows(number):
    return {"x": np.full((number, 1), float(number))}


def stumbles(glance):
    """Raises for requests of three rows, answers with the number of rows otherwise."""
    if glance.rows == 3:
        raise ValueError("three is too many")
    return np.full((glance.rows, 2), float(glance.rows))


def gated(gate):
    """A peek that waits to be let through before it answers."""

    def answer(glance):
        assert gate.wait(SOON_S)
        return np.ones((glance.rows, 2))

    return ScriptedPeek(answer)


def test_a_submitted_request_is_looked_at_and_reported():
    heard = Heard()
    peeker = Peeker({"ecg": ScriptedPeek.always([2, 3])}, heard)
    peeker.start()
    peeker.submit("r1", "ecg", rows(2))
    assert heard.wait(1)["r1"].tolist() == [[2, 3], [2, 3]]
    peeker.stop()


def test_what_waited_is_looked_at_in_one_turn_and_one_search_for_each_application():
    heard, ecg, falls = Heard(), ScriptedPeek.always([1, 0]), ScriptedPeek.always([0, 1])
    peeker = Peeker({"ecg": ecg, "falls": falls}, heard)
    for number in range(6):
        peeker.submit(f"r{number}", "falls" if number % 2 else "ecg", rows(1))
    peeker.start()
    peeker.stop()
    assert len(heard.turns) == 1
    assert ecg.calls == [3]
    assert falls.calls == [3]
    assert dict(heard.results)["r3"].tolist() == [[0, 1]]


def test_a_long_queue_is_several_turns_so_that_the_first_need_not_wait_for_the_last():
    heard = Heard()
    peeker = Peeker({"ecg": ScriptedPeek.always([1, 0])}, heard, turn_rows=10)
    for number in range(8):
        peeker.submit(f"r{number}", "ecg", rows(4))
    peeker.start()
    peeker.stop()
    assert [len(turn) for turn in heard.turns] == [3, 3, 2]


def test_a_peek_that_raises_costs_only_the_requests_that_it_raised_for():
    heard = Heard()
    peeker = Peeker({"ecg": ScriptedPeek(stumbles)}, heard)
    for name, number in (("a", 1), ("b", 3), ("c", 2)):
        peeker.submit(name, "ecg", rows(number))
    peeker.start()
    results = heard.wait(3)
    assert results["b"] is None
    assert results["a"].tolist() == [[1, 1]]
    assert results["c"].tolist() == [[2, 2], [2, 2]]
    assert "three is too many" in peeker.last_error
    peeker.submit("d", "ecg", rows(1))
    assert heard.wait(4)["d"] is not None
    peeker.stop()


def test_every_request_is_reported_exactly_once_from_many_threads_with_stumbling_peeks():
    heard = Heard()
    peeker = Peeker({"ecg": ScriptedPeek(stumbles), "falls": ScriptedPeek.always([1, 1])}, heard, capacity=50)
    peeker.start()

    def client(name):
        for number in range(100):
            peeker.submit(f"{name}-{number}", ("ecg", "falls", "none")[number % 3], rows(1 + number % 4))

    clients = [threading.Thread(target=client, args=(name,)) for name in "abcd"]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    peeker.stop()
    seen = Counter(request_id for request_id, _ in heard.results)
    assert set(seen) == {f"{name}-{number}" for name in "abcd" for number in range(100)}
    assert set(seen.values()) == {1}


def test_a_full_queue_and_an_unknown_application_are_reported_at_once():
    heard, gate = Heard(), threading.Event()
    peeker = Peeker({"ecg": gated(gate)}, heard, capacity=2)
    for name in ("a", "b", "c"):
        peeker.submit(name, "ecg", rows(1))
    peeker.submit("d", "toaster", rows(1))
    assert heard.results == [("c", None), ("d", None)]
    peeker.start()
    gate.set()
    assert heard.wait(4)["a"] is not None
    peeker.stop()


def test_after_the_stop_nothing_is_lost_and_nothing_is_looked_at():
    heard = Heard()
    peeker = Peeker({"ecg": ScriptedPeek.always([1, 0])}, heard)
    peeker.start()
    peeker.submit("before", "ecg", rows(1))
    peeker.stop()
    peeker.submit("after", "ecg", rows(1))
    peeker.stop()
    results = dict(heard.results)
    assert results["before"] is not None
    assert results["after"] is None


def test_a_peeker_that_was_never_started_still_reports():
    heard = Heard()
    peeker = Peeker({"ecg": ScriptedPeek.always([1, 0])}, heard)
    peeker.submit("r1", "ecg", rows(1))
    peeker.stop()
    assert heard.results == [("r1", None)]


def test_a_report_that_fails_does_not_end_the_thread():
    heard = Heard()

    def deaf_at_first(results):
        heard(results)
        if len(heard.turns) == 1:
            raise RuntimeError("the loop is closed")

    peeker = Peeker({"ecg": ScriptedPeek.always([1, 0])}, deaf_at_first)
    peeker.start()
    peeker.submit("a", "ecg", rows(1))
    heard.wait(1)
    peeker.submit("b", "ecg", rows(1))
    heard.wait(2)
    assert "the loop is closed" in peeker.last_error
    peeker.stop()


@pytest.mark.parametrize("at_once", [True, False])
def test_the_scripted_twin_reports_alike_without_a_thread(at_once):
    heard = Heard()
    twin = ScriptedPeeks({"ecg": ScriptedPeek(stumbles)}, heard, at_once)
    twin.start()
    for name, application, number in (("a", "ecg", 1), ("b", "ecg", 3), ("c", "toaster", 1)):
        twin.submit(name, application, rows(number))
    assert len(heard.turns) == (3 if at_once else 0)
    twin.stop()
    results = dict(heard.results)
    assert results["a"].tolist() == [[1, 1]]
    assert results["b"] is None
    assert results["c"] is None

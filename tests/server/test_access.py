"""Who may do what, and how often."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peekserve.errors import Forbidden, InvalidConfiguration, RateLimited, Unauthenticated
from peekserve.server.access import FRESH_S, Access, key_of, scope_of, scope_of_call
from peekserve.server.rates import REMEMBERED, Buckets
from peekserve.state.keys import Keys, Scope

pytestmark = pytest.mark.core


class Time:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def keys(tmp_path):
    with Keys(tmp_path / "keys.sqlite") as opened:
        yield opened


def test_without_keys_everybody_may_do_everything():
    access = Access(None, None, Time())
    assert access.idle
    assert access.admit(Scope.ADMIN, None, "10.0.0.1").name == "10.0.0.1"


def test_a_key_opens_what_it_is_good_for_and_nothing_else(keys):
    told = keys.add("ward", [Scope.INFER], 0.0)
    access = Access(keys, None, Time())
    assert access.admit(Scope.INFER, told, "10.0.0.1").name == "ward"
    with pytest.raises(Forbidden, match="'ward' is good for infer; this needs admin"):
        access.admit(Scope.ADMIN, told, "10.0.0.1")
    assert access.admit(None, None, "10.0.0.1").key is None


def test_wrong_keys_are_refused_alike_and_never_repeated(keys):
    told = keys.add("ward", [Scope.INFER], 0.0)
    access = Access(keys, None, Time())
    sentences = set()
    for wrong in (told + "x", told[:-1], "pk_00000000_" + told[-43:], "nonsense", "pk_a_b", told.upper()):
        with pytest.raises(Unauthenticated) as refused:
            access.admit(Scope.INFER, wrong, "10.0.0.1")
        sentences.add(str(refused.value))
    assert len(sentences) == 1
    assert told[-43:] not in sentences.pop()
    with pytest.raises(Unauthenticated, match="this needs a key"):
        access.admit(Scope.INFER, None, "10.0.0.1")


def test_a_revoked_key_is_noticed_within_a_second_and_a_new_one_too(keys):
    time = Time()
    told = keys.add("ward", [Scope.INFER], 0.0)
    access = Access(keys, None, time)
    access.admit(Scope.INFER, told, "10.0.0.1")
    with Keys(keys.path) as elsewhere:
        elsewhere.revoke("ward")
        new = elsewhere.add("shop", [Scope.INFER], 0.0)
    time.now += FRESH_S
    with pytest.raises(Unauthenticated):
        access.admit(Scope.INFER, told, "10.0.0.1")
    assert access.admit(Scope.INFER, new, "10.0.0.1").name == "shop"


def test_a_key_that_goes_while_the_keys_are_read_is_missed_for_a_second_at_most(keys):
    class Interrupted(Keys):
        def all(self):
            known = super().all()
            with Keys(self.path) as elsewhere:
                if "ward" in {key.name for key in known.values()}:
                    elsewhere.revoke("ward")
            return known

    time, told = Time(), keys.add("ward", [Scope.INFER], 0.0)
    with Interrupted(keys.path) as interrupted:
        access = Access(interrupted, None, time)
        access.admit(Scope.INFER, told, "10.0.0.1")
        time.now += FRESH_S
        with pytest.raises(Unauthenticated):
            access.admit(Scope.INFER, told, "10.0.0.1")


def test_keys_that_cannot_be_read_are_tried_again(keys):
    class Damaged(Keys):
        damaged = True

        def edition(self):
            if self.damaged:
                raise InvalidConfiguration("disk I/O error")
            return super().edition()

    told = keys.add("ward", [Scope.INFER], 0.0)
    with Damaged(keys.path) as damaged:
        access = Access(damaged, None, Time())
        for _ in range(2):
            with pytest.raises(InvalidConfiguration):
                access.admit(Scope.INFER, told, "10.0.0.1")
        damaged.damaged = False
        assert access.admit(Scope.INFER, told, "10.0.0.1").name == "ward"


@pytest.mark.parametrize("scope", [Scope.INFER, Scope.FEEDBACK, Scope.ADMIN])
def test_a_rate_is_for_whatever_a_client_asks_and_not_for_health(scope):
    access = Access(None, Buckets(1.0, 1.0), Time())
    access.admit(scope, None, "10.0.0.1")
    with pytest.raises(RateLimited):
        access.admit(Scope.INFER, None, "10.0.0.1")
    access.admit(None, None, "10.0.0.1")


def test_a_client_that_asks_too_often_is_told_when_to_come_again(keys):
    time = Time()
    one, two = (keys.add(name, [Scope.INFER], 0.0) for name in ("one", "two"))
    access = Access(keys, Buckets(2.0, 3.0), time)
    for _ in range(3):
        access.admit(Scope.INFER, one, "10.0.0.1")
    with pytest.raises(
        RateLimited, match=r"'one' may ask 2 times a second, 3 at once: try again in 0\.5 s"
    ) as late:
        access.admit(Scope.INFER, one, "10.0.0.1")
    access.admit(Scope.INFER, two, "10.0.0.1")
    time.now += late.value.wait_s
    access.admit(Scope.INFER, one, "10.0.0.1")


@given(
    rate=st.floats(0.1, 1e4),
    burst=st.floats(1.0, 100.0),
    gaps=st.lists(st.floats(0.0, 2.0), min_size=1, max_size=60),
)
def test_never_more_than_the_rate_and_one_burst(rate, burst, gaps):
    buckets, now, got = Buckets(rate, burst), 0.0, 0
    for gap in gaps:
        now += gap
        wait_s = buckets.take("client", now)
        got += wait_s == 0.0
        assert 0.0 <= wait_s <= 1.0 / rate
        assert got <= burst + rate * now + 1e-6


def test_clients_that_were_forgotten_cost_nothing():
    buckets = Buckets(1.0, 1.0)
    for i in range(REMEMBERED + 10):
        assert buckets.take(str(i), float(i)) == 0.0
    assert len(buckets._filled) == REMEMBERED
    assert buckets.take(str(REMEMBERED + 9), float(REMEMBERED + 9)) > 0.0


@pytest.mark.parametrize(("rate", "burst"), [(0.0, 1.0), (1.0, 0.5), (float("nan"), 1.0)])
def test_buckets_that_hold_nothing_are_refused(rate, burst):
    with pytest.raises(InvalidConfiguration):
        Buckets(rate, burst)


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/v2/health/live", None),
        ("/v2/health/ready", None),
        ("/v2/models/a/infer", Scope.INFER),
        ("/v2/models/stats", Scope.INFER),
        ("/metrics", Scope.INFER),
        ("/v2/repository/index", Scope.INFER),
        ("/api/v1/streams/a/b", Scope.INFER),
        ("/api/v1/feedback", Scope.FEEDBACK),
        ("/v2/repository/models/a/load", Scope.ADMIN),
        ("/v2/repository/models/a/unload", Scope.ADMIN),
        ("/api/v1/admin/applications/a", Scope.ADMIN),
        ("/nowhere", Scope.INFER),
    ],
)
def test_every_path_has_its_scope(path, scope):
    assert scope_of(path) is scope


@pytest.mark.parametrize(
    ("method", "scope"),
    [
        ("/grpc.health.v1.Health/Check", None),
        ("/inference.GRPCInferenceService/ServerReady", None),
        ("/inference.GRPCInferenceService/ModelInfer", Scope.INFER),
        ("/inference.GRPCInferenceService/RepositoryModelLoad", Scope.ADMIN),
    ],
)
def test_every_call_has_its_scope(method, scope):
    assert scope_of_call(method) is scope


@pytest.mark.parametrize(
    ("authorization", "api_key", "key"),
    [
        ("Bearer k", "", "k"),
        ("bearer  k ", "", "k"),
        ("", "k", "k"),
        ("Basic abc", "k", "k"),
        ("Basic abc", "", None),
        ("Bearer ", "", None),
        ("", " ", None),
    ],
)
def test_a_key_comes_in_one_of_two_headers(authorization, api_key, key):
    assert key_of([("authorization", authorization), ("host", "a"), ("x-api-key", api_key)]) == key


@pytest.mark.parametrize("name", ["authorization", "x-api-key"])
def test_a_header_that_comes_twice_lets_nobody_in(tmp_path, name):
    with Keys(tmp_path / "keys.sqlite") as keys:
        said = ("Bearer " if name == "authorization" else "") + keys.add("ward", [Scope.INFER], 0.0)
        access = Access(keys, None, lambda: 0.0)
        assert access.admit(Scope.INFER, key_of([(name, said)]), "a").name == "ward"
        for twice in ((said, "Bearer other"), ("Bearer other", said), (said, said)):
            with pytest.raises(Unauthenticated):
                access.admit(Scope.INFER, key_of([(name, one) for one in twice]), "a")

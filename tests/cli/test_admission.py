"""When a server asks for keys, and when it does not start at all."""

from dataclasses import replace

import pytest

from peekserve.cli.admission import access_of, near, open_keys
from peekserve.errors import InvalidConfiguration, Unauthenticated
from peekserve.registry.doors import Address, Limits, Tls
from peekserve.registry.settings import ServerSettings
from peekserve.state.keys import Scope

pytestmark = pytest.mark.core

HERE, FAR = Address("127.0.0.1", 0), Address("0.0.0.0", 0)
PLAIN = ServerSettings(http=HERE, grpc=None)


@pytest.fixture
def add(tmp_path):
    def add():
        with open_keys(tmp_path, PLAIN) as keys:
            return keys.add("ward", [Scope.INFER], 0.0)

    return add


def nothing(sentence):
    pytest.fail(sentence)


def test_without_keys_this_machine_alone_is_served(tmp_path):
    assert access_of(tmp_path, PLAIN, nothing).idle
    for settings in (replace(PLAIN, http=FAR), replace(PLAIN, grpc=FAR)):
        with pytest.raises(InvalidConfiguration, match=r"at 0\.0\.0\.0:0 others can reach this server"):
            access_of(tmp_path, settings, nothing)
    assert access_of(tmp_path, replace(PLAIN, http=FAR, access="open"), nothing).idle


def test_as_soon_as_there_is_a_key_it_is_asked_for(tmp_path, add):
    key = add()
    access = access_of(tmp_path, PLAIN, nothing)
    with pytest.raises(Unauthenticated):
        access.admit(Scope.INFER, None, "127.0.0.1")
    assert access.admit(Scope.INFER, key, "127.0.0.1").name == "ward"
    assert access_of(tmp_path, replace(PLAIN, access="open"), nothing).idle


def test_where_keys_must_be_there_must_be_one(tmp_path):
    with pytest.raises(InvalidConfiguration, match=f"peekserve keys add {tmp_path} NAME"):
        access_of(tmp_path, replace(PLAIN, access="keys"), nothing)


def test_keys_in_the_open_are_told_of(tmp_path, add):
    add()
    told = []
    access_of(tmp_path, replace(PLAIN, grpc=FAR), told.append)
    assert "travel in the open" in told.pop()
    access_of(tmp_path, replace(PLAIN, http=FAR, tls=Tls("a", "b")), nothing)


def test_a_rate_needs_no_keys_and_brings_its_burst(tmp_path):
    access = access_of(tmp_path, replace(PLAIN, limits=Limits(rate=0.5)), nothing)
    assert not access.idle
    access.admit(Scope.INFER, None, "127.0.0.1")


@pytest.mark.parametrize(
    ("host", "is_near"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
        ("::", False), ("10.0.0.1", False), ("example.org", False), ("127.1", False), ("*", False),
    ],
)  # fmt: skip
def test_which_addresses_only_this_machine_can_reach(host, is_near):
    assert near(Address(host, 0)) is is_near

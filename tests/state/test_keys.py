"""Keys are told once, kept as digests, and good for what they were made for."""

import sqlite3
import stat

import pytest

from peekserve.errors import InvalidConfiguration
from peekserve.state.keys import Keys, Scope, digest, parts

pytestmark = pytest.mark.core


@pytest.fixture
def keys(tmp_path):
    with Keys(tmp_path / "state" / "keys.sqlite") as opened:
        yield opened


def test_a_key_is_found_again_by_what_was_told(keys):
    told = keys.add("ward 3", [Scope.INFER, Scope.FEEDBACK], 5.0)
    number, secret = parts(told)
    key = keys.all()[number]
    assert (key.name, key.made_at, key.digest) == ("ward 3", 5.0, digest(secret))
    assert key.may(Scope.INFER)
    assert key.may(Scope.FEEDBACK)
    assert not key.may(Scope.ADMIN)


def test_admin_may_do_everything(keys):
    number, _ = parts(keys.add("owner", [Scope.ADMIN], 0.0))
    assert all(keys.all()[number].may(scope) for scope in Scope)


def test_no_secret_is_in_the_file_and_nobody_else_may_read_it(keys):
    _, secret = parts(keys.add("ward", [Scope.INFER], 0.0))
    keys.close()
    written = b"".join(file.read_bytes() for file in keys.path.parent.iterdir())
    assert secret.encode() not in written
    assert digest(secret).encode() in written
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600


def test_another_process_that_writes_makes_a_new_edition(keys):
    before = keys.edition()
    with Keys(keys.path) as elsewhere:
        elsewhere.add("new", [Scope.INFER], 0.0)
    assert keys.edition() != before
    assert [key.name for key in keys.all().values()] == ["new"]


def test_a_name_is_taken_once_and_free_again_when_revoked(keys):
    first = keys.add("ward", [Scope.INFER], 0.0)
    with pytest.raises(InvalidConfiguration, match="'ward' already: revoke it first"):
        keys.add("ward", [Scope.INFER], 0.0)
    keys.revoke("ward")
    assert keys.add("ward", [Scope.INFER], 0.0) != first
    with pytest.raises(InvalidConfiguration, match="no key 'shop'; there are ward"):
        keys.revoke("shop")


@pytest.mark.parametrize(
    ("name", "scopes"), [("", [Scope.INFER]), ("a\nb", [Scope.INFER]), ("x" * 65, [Scope.INFER]), ("x", [])]
)
def test_what_cannot_be_a_key_is_refused(keys, name, scopes):
    with pytest.raises(InvalidConfiguration):
        keys.add(name, scopes, 0.0)
    assert not keys.all()


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "keys.sqlite"
    path.write_text("not a database, but long enough to be looked at as one " * 20)
    with pytest.raises(InvalidConfiguration, match="no state file of peekserve"):
        Keys(path).all()
    newer = tmp_path / "newer.sqlite"
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(InvalidConfiguration, match="newer peekserve"):
        Keys(newer).all()


def test_a_place_where_nothing_can_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InvalidConfiguration, match="cannot be made"):
        Keys(tmp_path / "file" / "keys.sqlite").all()


@pytest.mark.parametrize("text", ["", "pk", "pk_", "pk_a", "pk__b", "sk_a_b", "Bearer pk_a_b"])
def test_what_is_no_key_has_no_parts(text):
    assert parts(text) is None

"""`peekserve keys`: told once, listed without secrets, revoked."""

import json

import pytest
from typer.testing import CliRunner

from peekserve.cli.keys import app
from peekserve.errors import InvalidConfiguration

pytestmark = pytest.mark.core


@pytest.fixture
def keys(tmp_path):
    def keys(*words):
        command, *rest = words
        return CliRunner().invoke(app, [command, str(tmp_path), *rest], env={"COLUMNS": "200"})

    return keys


def test_a_key_is_made_listed_and_revoked(keys):
    made = keys("add", "ward 3", "--scopes", "infer, feedback")
    key = made.stdout.strip()
    assert key.startswith("pk_")
    assert "started again" in made.stderr
    assert "started again" not in keys("add", "shop").stderr
    told = json.loads(keys("list", "--json").stdout)["keys"]
    assert {one["name"]: one["scopes"] for one in told} == {
        "ward 3": ["feedback", "infer"],
        "shop": ["infer"],
    }
    listed = keys("list").stdout
    assert "ward 3" in listed
    assert key.split("_", 2)[2] not in listed
    assert keys("revoke", "ward 3").stdout == "revoked ward 3\n"
    assert "ward 3" not in keys("list").stdout


def test_a_name_is_no_markup(keys):
    keys("add", "[/red] ward")
    assert "[/red] ward" in keys("list").stdout


def test_an_unknown_scope_is_named(keys):
    refused = keys("add", "ward", "--scopes", "infer,root")
    assert isinstance(refused.exception, InvalidConfiguration)
    assert "unknown scope 'root'; scopes are infer, feedback, admin" in str(refused.exception)

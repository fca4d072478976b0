"""What the next server serves of what was registered with the one before."""

from dataclasses import replace

import pytest

from peekserve.cli.registered import with_registered
from peekserve.domain.application import Application, Variant
from peekserve.errors import InvalidConfiguration
from peekserve.registry.settings import PolicySettings, ServerSettings
from peekserve.state.registrations import NOTHING, OWN, Registration, Registrations
from peekserve.state.shelf import Shelf

YAML = """
classes: [a, b]
inputs: {x: {datatype: FP32, shape: [2]}}
deadline: 100ms
variants:
  net: {model: net/model.onnx, inputs: {x: x}, output: {name: y, form: logits}}
"""
OWN_APP = Application("plain", ("a", "b"), (Variant("net", "1", "net"),), (0.5, 0.5))
SETTINGS = ServerSettings()


@pytest.fixture
def state(tmp_path):
    return tmp_path / ".peekserve"


def put(state, name="plain", yaml=YAML):
    """A revision that is served: its name."""
    shelf = Shelf(state)
    desk = shelf.desk()
    (desk / "net").mkdir()
    (desk / "net" / "model.onnx").write_bytes(b"a model")
    (desk / "application.yaml").write_text(yaml)
    revision, sha = shelf.put(name, desk)
    with Registrations(state / "state.sqlite") as kept:
        kept.put(Registration(name, revision, sha))
        kept.swapped(name, revision, OWN if name == "plain" else NOTHING, 1.0)
    return revision


def served(tmp_path, *own):
    told: list[str] = []
    found = with_registered(own, tmp_path, SETTINGS, ["cpu"], told.append)
    return found, told


def test_without_registrations_everything_is_as_it_lies_there(tmp_path):
    found, told = served(tmp_path, OWN_APP)
    assert (found.applications, dict(found.own), told) == ((OWN_APP,), {"plain": OWN_APP}, [])


def test_a_registered_revision_goes_before_the_repositorys_own(tmp_path, state):
    revision = put(state)
    other = put(state, "another")
    found, told = served(tmp_path, OWN_APP)
    assert [app.key for app in found.applications] == [f"another@{other}", f"plain@{revision}"]
    assert (found.own["plain"], told) == (OWN_APP, [])
    with Registrations(state / "state.sqlite") as kept:
        kept.rolled_back("plain", 2.0)
        kept.swapped("another", NOTHING, other, 2.0)
    assert served(tmp_path, OWN_APP)[0].applications == (OWN_APP,)


def test_what_cannot_be_read_any_more_is_told_and_its_own_is_served(tmp_path, state):
    revision = put(state)
    (Shelf(state).folder("plain", revision) / "application.yaml").unlink()
    found, told = served(tmp_path, OWN_APP)
    assert found.applications == (OWN_APP,)
    assert f"revision {revision} of plain" in told[0]


def test_a_policy_with_a_plan_serves_what_the_plan_was_made_for(tmp_path, state):
    put(state)
    told: list[str] = []
    gears = ServerSettings(policy=PolicySettings("gears"))
    assert with_registered([OWN_APP], tmp_path, gears, ["cpu"], told.append).applications == (OWN_APP,)
    assert "for which its plan was made" in told[0]


def test_a_server_of_nothing_does_not_start(tmp_path, state):
    with Registrations(state / "state.sqlite") as kept:
        kept.swapped("plain", NOTHING, OWN, 1.0)
    with pytest.raises(InvalidConfiguration, match="withdrawn"):
        served(tmp_path, OWN_APP)
    other = replace(OWN_APP, name="other")
    assert served(tmp_path, OWN_APP, other)[0].applications == (other,)

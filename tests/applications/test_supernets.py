"""The supernets that are shipped: whole, with as many subnets and as much training as is said of them."""

import json
from pathlib import Path

import numpy as np
import pytest

from peekserve.applications.direct import class_names, declaration, session
from peekserve.applications.prepare import HOME, prepare
from peekserve.config import Severity
from peekserve.errors import DataUnavailable
from peekserve.registry.application import look_into
from peekserve.registry.repository import read_repository
from peekserve.supernets import packed
from peekserve.supernets.space import Subnet
from peekserve.supernets.storage import read_arrays, read_description

SHIPPED = sorted(path.parent for path in HOME.glob("*/supernets/*/supernet.json"))
NAMES = [f"{path.parents[1].name}/{path.name}" for path in SHIPPED]
# As docs/supernets.md adds it.
TOKENS = "  tokens: {path: tokens, inputs: {clip: {name: x}}, output: {name: logits, form: logits}}\n"
each = pytest.mark.parametrize("place", SHIPPED, ids=NAMES)


def test_three_applications_have_one():
    assert {"digits/wide", "ecg/wide", "keywords/wide"} <= set(NAMES)


@each
def test_it_is_of_its_application_and_whole(place: Path):
    pytest.importorskip("safetensors")
    found = read_description(place)
    assert list(found.classes) == class_names(declaration(place.parents[1] / "application.yaml"))
    assert read_arrays(place, found)["head.weight"].shape[0] == len(found.classes)
    assert {one.name for one in found.offered} <= set(found.calibrated)
    accuracies = [one.accuracy for one in found.offered]
    assert accuracies == sorted(accuracies)


@pytest.mark.parametrize("name", ["ecg", "keywords"])
def test_thirty_subnets_and_more_come_from_one_set_of_weights(name: str):
    assert len(read_description(HOME / name / "supernets" / "wide").calibrated) >= 30


@each
def test_it_had_twice_the_training_of_its_separate_models(place: Path):
    report = json.loads((place / "training.json").read_text())
    assert len(report["separate"]) == 5
    theirs = sum(one["work"] for one in report["separate"].values())
    assert report["supernet"]["work"] >= 2.0 * theirs


@each
def test_the_separate_models_are_of_the_subnets_sizes_and_answer(place: Path):
    found, report = read_description(place), json.loads((place / "training.json").read_text())
    for name, one in report["separate"].items():
        found.space.check(Subnet.parse(name))
        assert one["multiply_adds"] > 0
        scores = session(place / "separate" / f"{name}.onnx").run(
            None, {"x": np.zeros((3, *found.row), "f4")}
        )
        assert scores[0].shape == (3, len(found.classes))


@each
def test_every_offered_subnet_answers(place: Path):
    torch = pytest.importorskip("torch")
    from peekserve.supernets.storage import load

    supernet, found = load(place), read_description(place)
    rows = torch.zeros((2, *found.row))
    for one in found.offered:
        supernet.actuate(one.subnet)
        with torch.no_grad():
            assert supernet(rows).shape == (2, len(found.classes))


DECLARED = sorted(path.parent.parent.name for path in HOME.glob("*/supernets/supernets.yaml"))


@pytest.mark.parametrize("name", DECLARED)
def test_what_is_declared_comes_with_graphs_exported_from_these_very_weights(name: str):
    place = HOME / name / "supernets" / "wide"
    found = read_description(place)
    assert set(packed.graphs(place)) == {one.name for one in found.offered}
    assert packed.read_layout(packed.weights_of(place)).made_of == found.files["weights.safetensors"]


@pytest.mark.parametrize("name", ["digits", "ecg", "keywords"])
def test_a_prepared_repository_has_the_supernet_when_it_is_asked_for(name: str, tmp_path: Path):
    try:
        prepare(tmp_path, [name], supernets=True)
    except DataUnavailable as absent:
        pytest.skip(str(absent))
    found = read_repository(tmp_path, look_into)
    assert [str(p) for p in found.problems if p.severity is Severity.ERROR] == []
    subnets = [v for v in found.applications[0].variants if v.subnet]
    offered = read_description(tmp_path / name / "wide").offered
    assert sorted(v.name for v in subnets) == sorted(f"wide.{o.name}" for o in offered)
    assert len({v.weights for v in subnets}) == 1
    own = {path.stem for path in (HOME / name / "models").glob("*.onnx")}
    assert {v.name for v in found.applications[0].variants if not v.subnet} == own


def test_weights_without_graphs_come_along_and_are_exported_where_torch_is(tmp_path: Path):
    pytest.importorskip("torch")
    from peekserve.supernets.export import export
    from peekserve.supernets.storage import load

    try:
        prepare(tmp_path, ["keywords"], supernets=True)
    except DataUnavailable as absent:
        pytest.skip(str(absent))
    place = tmp_path / "keywords" / "tokens"
    offered = read_description(place).offered
    export(load(place), [one.subnet for one in offered], place)
    with (place.parent / "application.yaml").open("a") as declaration:
        declaration.write(TOKENS)
    (app,) = read_repository(tmp_path, look_into).sound().applications
    assert [v.subnet for v in app.variants if v.name.startswith("tokens.")] == [one.name for one in offered]
    assert len({v.weights for v in app.variants if v.subnet}) == 2

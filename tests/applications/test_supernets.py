"""The supernets that are shipped: whole, with as many subnets and as much training as is said of them."""

import json
from pathlib import Path

import numpy as np
import pytest

from peekserve.applications.direct import class_names, declaration, session
from peekserve.applications.prepare import HOME, prepare
from peekserve.registry.repository import read_repository
from peekserve.supernets.space import Subnet
from peekserve.supernets.storage import read_arrays, read_description

SHIPPED = sorted(path.parent for path in HOME.glob("*/supernets/*/supernet.json"))
NAMES = [f"{path.parents[1].name}/{path.name}" for path in SHIPPED]
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


def test_a_prepared_repository_has_the_supernet_when_it_is_asked_for(tmp_path):
    pytest.importorskip("sklearn")
    prepare(tmp_path, ["digits"], supernets=True)
    found = read_repository(tmp_path)
    subnets = [v for v in found.applications[0].variants if v.subnet]
    offered = read_description(tmp_path / "digits" / "wide").offered
    assert sorted(v.name for v in subnets) == sorted(f"wide.{o.name}" for o in offered)
    assert len({v.weights for v in subnets}) == 1
    assert {v.name for v in found.applications[0].variants} > {"linear", "mlp", "cnn", "committee"}

"""A supernet beside separate models of its sizes: both are trained, counted, written down and recorded."""

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from peekserve.applications.family import Family, make, recorded  # noqa: E402
from peekserve.applications.splits import Split, Splits  # noqa: E402
from peekserve.experiments.superserve.record import Scored, rounded  # noqa: E402
from peekserve.supernets.storage import read_description  # noqa: E402
from tests.supernets.beats import ANSWERS, LABELS, ROWS, SIZES, SPACE, UNSEEN, batches  # noqa: E402

ALONE = ("d1-1.w25", "d2-2.w100")


def a_part(rows: np.ndarray, labels: np.ndarray) -> Split:
    return Split({"row": rows[:, 0]}, labels, np.arange(len(labels)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Family, Path, list[str]]:
    train, test = a_part(ROWS, LABELS), a_part(UNSEEN, ANSWERS)
    family = Family(
        space=SPACE,
        sizes=SIZES,
        classes=("none", "up", "down"),
        splits=Splits(train, train, test.rows(np.arange(100)), test.rows(np.arange(100, 200))),
        epoch=batches,
        rows=lambda split: split.inputs["row"][:, None],
        epochs=4,
        separate=ALONE,
        separate_epochs=2,
        seed=0,
        peak=1e-2,
        most=8,
    )
    folder, said = tmp_path_factory.mktemp("family"), []
    make(family, folder, said.append)
    return family, folder, said


def test_both_budgets_are_written_down(made: tuple[Family, Path, list[str]]):
    family, folder, said = made
    report = json.loads((folder / "training.json").read_text())
    assert tuple(report["separate"]) == ALONE
    sizes = [one["parameters"] for one in report["separate"].values()]
    assert sizes[1] > 8 * sizes[0]
    # In each step the largest and the smallest, and two more: beyond the two that are trained alone as well.
    theirs = sum(one["work"] for one in report["separate"].values())
    assert report["supernet"]["work"] > theirs * family.epochs / family.separate_epochs
    assert report["work_of_the_supernet_over_all_separate"] == round(report["supernet"]["work"] / theirs, 2)
    assert sum("alone" in line for line in said) == 2


def test_every_subnet_is_calibrated_and_the_front_is_offered(made: tuple[Family, Path, list[str]]):
    _, folder, _ = made
    found = read_description(folder)
    assert sorted(found.calibrated) == sorted(subnet.name for subnet in SPACE.all())
    assert found.offered
    assert (folder / "separate" / "d2-2.w100.onnx").is_file()


def test_a_separate_model_is_of_its_subnets_size(made: tuple[Family, Path, list[str]]):
    family, folder, _ = made
    said = recorded(family, folder)
    for i, name in enumerate(said["separate"]):
        j = said["subnets"].index(name)
        assert said["separate_parameters"][i] == said["subnets_parameters"][j]
        assert said["separate_multiply_adds"][i] == said["subnets_multiply_adds"][j]


def test_what_is_recorded_fits_the_form(made: tuple[Family, Path, list[str]]):
    family, folder, _ = made
    said = recorded(family, folder)
    assert set(said) == {field.name for field in fields(Scored)}
    for name in ("subnets_test", "subnets_validation", "separate_test", "separate_validation"):
        said[name] = rounded(said[name])
    scored = Scored(**said)
    offered = {one.name: one.accuracy for one in read_description(folder).offered}
    for name, accuracy in scored.accuracies("validation").items():
        assert name not in offered or accuracy == pytest.approx(offered[name])
    assert scored.borrowed_accuracies()["d2-2.w100"] == scored.accuracies("test")["d2-2.w100"]

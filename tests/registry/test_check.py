import shutil
from pathlib import Path

import numpy as np
import pytest

import peekserve.applications.digits as digits
from peekserve.config import Severity
from peekserve.registry.check import check
from tests.registry.folders import DIGITS, labelled, repository, untouched


def fine(application, variants) -> tuple[str, ...]:
    return ("",) * len(variants)


def lines(root: Path, probe=fine, environment=None) -> list[str]:
    return [str(p).removeprefix(f"{root}/") for p in check(root, environment, probe, untouched)]


def test_a_sound_repository_has_nothing_to_tell(tmp_path):
    assert lines(repository(tmp_path)) == []


def test_faults_of_the_declaration_and_of_the_settings_are_listed(tmp_path):
    root = repository(tmp_path, DIGITS.replace("deadline: 150ms", "deadline: 150"))
    (root / "peekserve.yaml").write_text("log: info\nworkers:\n  - {device: cpu, memory: 0MiB}\n")
    assert lines(root, environment={"PEEKSERVE_MARGIN": "2"}) == [
        "digits/application.yaml:5: deadline: 150 has no unit; write 150ms or 150s",
        "peekserve.yaml:3: workers[0].memory: 0MiB is not above zero",
        "PEEKSERVE_MARGIN: margin: 2 has no unit; write 2ms or 2s",
    ]


def test_no_repository_is_one_problem(tmp_path):
    (problem,) = check(tmp_path / "absent", probe=fine)
    assert str(problem) == f"{tmp_path}/absent: there is no such folder"


def test_labelled_data_are_held_against_the_declaration(tmp_path):
    root = repository(tmp_path)
    labelled(root / "digits" / "validation.npz", labels=np.array([0, 1, 2, 0, 1, 0]))
    labelled(root / "digits" / "reference.npz", image=np.full((6, 2, 2), np.nan, np.float32))
    (root / "digits" / "application.yaml").write_text(DIGITS.replace("neighbours: 5", "neighbours: 7"))
    assert lines(root) == [
        "digits/application.yaml:27: validation: validation.npz: label 2 in row 2 is out of range: 2 classes have the "
        "labels 0 to 1 (1 such rows)",
        "digits/application.yaml:13: peek.reference: reference.npz: input 'image' "
        "holds NaN or infinity in 6 of 6 rows, first in "
        "row 0; write 'missing: missing' if that means a missing value",
    ]


def test_a_missing_modality_is_named(tmp_path):
    text = DIGITS.replace("[2, 2]}\n", "[2, 2]}\n  tags: {datatype: FP32, shape: [3]}\n")
    text = text.replace("inputs: {image: pixels}", "inputs: {image: pixels, tags: t}")
    root = repository(tmp_path, text.replace("inputs: [image]", "inputs: [image, tags]"))
    assert lines(root) == [
        "digits/application.yaml:14: peek.reference: reference.npz lacks the input 'tags', which the peek looks at",
        "digits/application.yaml:28: validation: validation.npz lacks the input 'tags', which the variant '2' needs: "
        "it cannot be profiled",
    ]


def test_what_makes_a_profile_doubtful_is_a_warning(tmp_path):
    root = repository(tmp_path)
    labelled(root / "digits" / "validation.npz", labels=np.zeros(6, int), groups=np.arange(6))
    labelled(root / "digits" / "reference.npz", groups=np.arange(4, 10))
    found = check(root, probe=fine)
    assert {p.severity for p in found} == {Severity.WARNING}
    assert [str(p).partition("warning: ")[2] for p in found] == [
        "validation: validation.npz has no row of class '1': its recall is a guess; add rows of that class",
        "validation: shares 2 groups with the peek's reference, first 4: the peek will look better than it is; keep "
        "subjects or recordings apart",
    ]


def test_a_peek_that_nobody_can_calibrate_is_a_warning_where_calibrated_beliefs_are_asked_for(tmp_path):
    stated = "profile: {recalls: {'0': 0.7, '1': 0.9}, latency: 3ms}"
    text = DIGITS.replace("validation: validation.npz\n", "")
    text = text.replace('order: ["1", "0"]}\n', f'order: ["1", "0"]}}\n    {stated}\n')
    root = repository(tmp_path, text)
    assert lines(root) == []
    assert lines(root, environment={"PEEKSERVE_BELIEFS": "calibrated"}) == [
        "digits/application.yaml:10: warning: peek: without validation data nobody can measure what its votes are "
        "worth: they are added to the prior, as with beliefs: dirichlet; add 'validation'"
    ]


def test_a_variant_without_any_profile_is_a_warning(tmp_path):
    root = repository(tmp_path, DIGITS.replace("validation: validation.npz\n", ""))
    assert lines(root) == [
        "digits/application.yaml:23: warning: variants.2: has no profile and there is no validation data: its accuracy "
        "stays unknown; add 'validation', or state a profile with recalls"
    ]


def test_what_the_probe_says_stands_at_the_model(tmp_path):
    def refuses(application, variants) -> tuple[str, ...]:
        return tuple("gives 3 columns" if variant.name == "2" else "" for variant in variants)

    assert lines(repository(tmp_path), refuses) == [
        "digits/application.yaml:24: variants.2.model: gives 3 columns"
    ]


@pytest.mark.whole
def test_real_models_are_tried_in_a_process_of_their_own(tmp_path):
    home = Path(digits.__file__).parent
    root = tmp_path / "repo"
    for name in ("good", "bad"):
        (root / name).mkdir(parents=True)
        shutil.copyfile(home / "models" / "linear.onnx", root / name / "linear.onnx")
    text = """\
classes: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
inputs:
  image: {datatype: FP32, shape: [8, 8]}
deadline: 1s
variants:
  linear:
    model: linear.onnx
    inputs: {image: {name: x, reshape: [64]}}
    output: {name: label, labels: {0: "0", 1: "1", 2: "2", 3: "3", 4: "4", 5: "5", 6: "6", 7: "7", 8: "8", 9: "9"}}
    profile: {recalls: {"0": 1, "1": 1, "2": 1, "3": 1, "4": 1, "5": 1, "6": 1, "7": 1, "8": 1, "9": 1}}
"""
    (root / "good" / "application.yaml").write_text(text)
    (root / "bad" / "application.yaml").write_text(text.replace("name: x", "name: y").replace("[64]", "[63]"))
    (root / "text").mkdir()
    (root / "text" / "linear.onnx").write_text("no model at all")
    (root / "text" / "application.yaml").write_text(text)
    bad, text_problem = check(root)
    assert str(bad).startswith(f"{root}/bad/application.yaml:7: variants.linear.model: ")
    assert "feeds ['y']; the model takes ['x']" in bad.what
    assert str(text_problem).startswith(f"{root}/text/application.yaml:7: variants.linear.model: ")
    assert "not a usable ONNX file" in text_problem.what

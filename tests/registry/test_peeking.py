"""The `peek`, the `score` and the `queries` of application.yaml."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import peekserve.applications.digits as shipped
from peekserve.config import Severity
from peekserve.domain.application import CHOSEN, IndexKind, IndexSpec, PeekSpec, QueryType, Score
from peekserve.domain.profile import LatencyCurve, Quality
from peekserve.domain.tensors import InputMap, OutputForm, OutputMap
from peekserve.domain.utility import Penalty
from peekserve.errors import DataUnavailable, InvalidConfiguration
from peekserve.registry.check import check
from peekserve.registry.peeks import peek_of
from peekserve.registry.profiled import peek_key, validation_sha, with_profiles
from peekserve.registry.repository import read_repository
from peekserve.state.store import Store
from tests.registry.folders import DIGITS, labelled, repository, untouched
from tests.registry.test_application import problems_of

PEEK = DIGITS[DIGITS.index("  features:") : DIGITS.index("  inputs: [image]")]
REFERENCE = "  reference: reference.npz\n"
MODEL = "kind: model, model: linear/model.onnx, inputs: {image: {name: x, scale: 0.5}}, output: {name: y, form: logits}"
BY_MODEL = DIGITS.replace(PEEK + "  inputs: [image]\n" + REFERENCE, f"  evidence: {{{MODEL}}}\n")


def read(tmp_path: Path, text: str):
    return read_repository(repository(tmp_path, text), untouched).sound().applications[0]


def neighbours(value: str) -> str:
    return DIGITS.replace(REFERENCE, f"{REFERENCE}  neighbours: {value}\n")


@pytest.mark.parametrize(
    ("value", "k", "index"),
    [
        ("9", 9, IndexSpec()),
        ("auto", CHOSEN, IndexSpec()),
        ("{k: auto}", CHOSEN, IndexSpec()),
        ("{index: flat}", 5, IndexSpec(IndexKind.FLAT)),
        ("{k: 3, index: ivf, cells: 64, probes: 8}", 3, IndexSpec(IndexKind.IVF, cells=64, probes=8)),
        ("{k: 3, index: hnsw, links: 16, breadth: 40}", 3, IndexSpec(IndexKind.HNSW, links=16, breadth=40)),
        ("{k: 3, index: lsh, bits: 128}", 3, IndexSpec(IndexKind.LSH, bits=128)),
    ],
)
def test_neighbours_are_a_number_or_a_choice_of_index(tmp_path, value, k, index):
    peek = read(tmp_path, neighbours(value)).peek
    assert (peek.neighbours, peek.index) == (k, index)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("0", "14: peek.neighbours: 0 is not from 1 to 1000"),
        ("many", "14: peek.neighbours: 'many' is neither a number nor auto"),
        ("{k: 5, index: ifv}", "14: peek.neighbours.index: unknown value 'ifv'; did you mean 'ivf'?"),
        ("{k: 5, cells: 4}", "14: peek.neighbours: 'cells' is an option of the index 'ivf', not of 'auto'"),
        ("{k: 5, index: lsh, bit: 4}", "14: peek.neighbours: unknown key 'bit'; did you mean 'bits'?"),
    ],
)
def test_mistakes_in_neighbours_are_named(tmp_path, value, message):
    assert problems_of(tmp_path, neighbours(value)) == [message]


def test_evidence_can_be_a_models_decision_and_then_there_is_no_reference(tmp_path):
    digits = read(tmp_path, BY_MODEL)
    model = digits.peek.decision
    assert model.model == str(tmp_path / "digits" / "linear" / "model.onnx")
    assert (model.inputs, model.needs) == ((InputMap("image", "x", scale=0.5),), ("image",))
    assert model.output == OutputMap("y", OutputForm.LOGITS)
    assert digits.peek == PeekSpec(
        ("image",), (), 1, "", Quality((0.8, 0.6), (0.5, 0.5)), LatencyCurve((1,), (0.0003,)), decision=model
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            BY_MODEL.replace("peek:", "peek:\n  neighbours: 5"),
            "11: peek.neighbours: has no meaning beside a model's decision; leave it out",
        ),
        (BY_MODEL.replace("model: linear/model.onnx, ", "", 1), "11: peek.evidence: needs the key 'model'"),
        (
            BY_MODEL.replace("kind: model", "kind: model, max_batch: 3"),
            "11: peek.evidence.max_batch: belongs to a",
        ),
        (BY_MODEL.replace("{name: x", "{nam: x", 1), "11: peek.evidence.inputs.image: unknown key 'nam'"),
        (
            BY_MODEL.replace("shape: [2, 2]", "shape: [-1], buckets: [4]"),
            "11: peek.evidence: a model's decision would depend on the padding of image; let neighbours be",
        ),
        (
            BY_MODEL.replace("kind: model,", "kind: modle,"),
            "11: peek.evidence.kind: unknown evidence 'modle'; did you mean 'model'?",
        ),
        (
            BY_MODEL.replace(f"{{{MODEL}}}", "model"),
            "11: peek.evidence: does not say which model; write for example {kind: model, model: tiny/model.onnx}",
        ),
        (
            BY_MODEL.replace(MODEL, "kind: stated, accuracy: 0.8"),
            "11: peek.evidence: evidence at a stated accuracy is drawn from the true labels, which no request brings; "
            "it is for experiments: peekserve.peeking.stated",
        ),
    ],
)
def test_evidence_that_cannot_be_is_refused(tmp_path, text, message):
    found = problems_of(tmp_path, text)
    assert any(line.startswith(message) for line in found), found


def test_a_peek_is_profiled_under_all_that_it_is_made_of(tmp_path):
    digits = read(tmp_path, DIGITS)
    peek = digits.peek
    linear, two = digits.variants
    others = [
        replace(peek, neighbours=3),
        replace(peek, index=IndexSpec(IndexKind.IVF)),
        replace(peek, index=IndexSpec(IndexKind.IVF, probes=2)),
        replace(peek, decision=linear, reference=""),
        replace(peek, decision=two, reference=""),
        replace(peek, decision=replace(linear, output=two.output), reference=""),
    ]
    assert len({peek_key(digits, spec) for spec in (peek, *others)}) == 7


def test_a_deciding_peeks_profile_is_found_again(tmp_path):
    digits = read(tmp_path / "repo", BY_MODEL)
    measured = Quality((0.5, 0.9), (0.5, 0.5))
    with Store(tmp_path / "s.db") as store:
        store.put_peek_quality(peek_key(digits, digits.peek), validation_sha(digits), measured)
        assert with_profiles(digits, store, "box", validation_sha(digits)).peek.quality == measured


def test_a_peek_is_built_from_the_files_of_its_application(tmp_path):
    root = repository(tmp_path, neighbours("auto"))
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = (rng.normal(size=(60, 2, 2)) + labels[:, None, None]).astype(np.float32)
    labelled(root / "digits" / "reference.npz", image=images, labels=labels, groups=np.arange(60) // 6)
    digits = read_repository(root, untouched).sound().applications[0]
    peek = peek_of(digits)
    assert peek is not None
    assert peek.look({"image": images[:2]}).sum(axis=1).tolist() == [peek.choice.k] * 2
    assert peek_of(replace(digits, peek=None)) is None
    (root / "digits" / "reference.npz").unlink()
    with pytest.raises(DataUnavailable, match="digits: the peek's reference data"):
        peek_of(digits)


def test_a_shipped_model_decides_through_its_maps(tmp_path):
    pytest.importorskip("onnxruntime")
    names = ", ".join(f'"{i}"' for i in range(10))
    labels = ", ".join(f'{i}: "{i}"' for i in range(10))
    model = (
        "model: linear/model.onnx\n    inputs: {image: {name: x, reshape: [64], scale: 0.0625}}\n"
        f"    output: {{name: label, form: label, labels: {{{labels}}}}}\n"
    )
    root = repository(
        tmp_path,
        f"application: digits\nclasses: [{names}]\ninputs:\n  image: {{datatype: FP32, shape: [8, 8]}}\n"
        f"deadline: 1s\npeek:\n  evidence:\n    kind: model\n    {model}variants:\n  linear:\n    {model}",
    )
    shutil.copyfile(
        Path(shipped.__file__).parent / "models" / "linear.onnx", root / "digits/linear/model.onnx"
    )
    digits = read_repository(root, untouched).sound().applications[0]
    images = np.random.default_rng(0).uniform(0.0, 16.0, (20, 8, 8)).astype(np.float32)
    counts = peek_of(digits).look({"image": images})

    from peekserve.runtimes.onnx import OnnxRuntime

    runtime = OnnxRuntime()
    runtime.load(digits.variants[0], 10)
    said = runtime.run(digits.variants[0], 10, {"image": images}).argmax(axis=1)
    assert np.array_equal(counts, np.eye(10)[said])
    assert len(set(said.tolist())) > 2


def told(root: Path) -> list[tuple[Severity, str]]:
    found = check(root, None, lambda application, variants: ("",) * len(variants), untouched)
    return [(p.severity, f"{p.line}: {p.what}") for p in found]


def test_check_holds_the_neighbours_against_the_reference(tmp_path):
    values = {"larger": "7", "cells": "{k: 2, index: ivf, cells: 7}", "auto": "auto"}
    found = {name: told(repository(tmp_path / name, neighbours(value))) for name, value in values.items()}
    assert found["larger"] == [
        (Severity.ERROR, "14: peek.neighbours: 7 neighbours are asked of 6 labelled rows")
    ]
    assert found["cells"] == [
        (Severity.ERROR, "14: peek.neighbours: an index of 7 cells is asked of 6 labelled rows")
    ]
    ((severity, what),) = found["auto"]
    assert severity is Severity.WARNING
    assert what.startswith("14: peek.neighbours: k is chosen without groups: reference.npz does not say")
    labelled(tmp_path / "auto" / "digits" / "reference.npz", groups=np.zeros(6, int))
    assert told(tmp_path / "auto") == [
        (Severity.ERROR, "14: peek.neighbours: k cannot be chosen from rows of one group")
    ]


def test_check_tries_the_model_that_decides(tmp_path):
    def refuses(application, variants) -> tuple[str, ...]:
        return tuple("gives 3 columns" if variant.name == "evidence" else "" for variant in variants)

    (problem,) = check(repository(tmp_path, BY_MODEL), None, refuses, untouched)
    assert (problem.line, problem.what) == (11, "peek.evidence: gives 3 columns")


@pytest.mark.parametrize("score", list(Score))
def test_an_application_says_what_its_answers_are_valued_by(tmp_path, score):
    assert read(tmp_path, f"{DIGITS}score: {score.value}\n").score is score


def test_an_unknown_score_is_named_and_none_is_accuracy(tmp_path):
    assert read(tmp_path / "plain", DIGITS).score is Score.ACCURACY
    assert problems_of(tmp_path / "wrong", f"{DIGITS}score: f1\n") == [
        "28: score: unknown value 'f1'; known: accuracy, weighted-f1, quadratic"
    ]


def test_a_query_type_has_its_own_deadline_penalty_and_maximum(tmp_path):
    text = DIGITS.replace(
        "penalty: step}}", "penalty: {kind: linear, width: 1s}, max_deadline: 1s}, idle: {}}"
    )
    assert read(tmp_path, text).queries == (
        ("default", QueryType(0.15, Penalty.sigmoid(0.015))),
        ("urgent", QueryType(0.06, Penalty.linear(1.0), 1.0)),
        ("idle", QueryType(0.15, Penalty.sigmoid(0.015))),
    )


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            "deadline: 2s, max_deadline: 1s",
            "8: queries.urgent: a deadline of 2 s is above its own max_deadline, 1 s",
        ),
        (
            "max_deadline: 11s",
            "8: queries.urgent: its max_deadline of 11 s is above that of the application, 10 s",
        ),
        (
            "penalty: {kind: table, points: [[0ms, 0], [5ms, 0.5], [9ms, 0.4]]}",
            "8: queries.urgent.penalty.points: a penalty may not fall with lateness: 0.4 at 0.009 s follows 0.5 at "
            "0.005 s",
        ),
    ],
)
def test_a_query_type_that_cannot_be_is_named(tmp_path, query, message):
    assert message in problems_of(tmp_path, DIGITS.replace("deadline: 60ms, penalty: step", query))


def test_a_prior_that_lacks_a_class_is_told_with_both_numbers(tmp_path):
    text = DIGITS.replace('{weak: {"0": 0.9, "1": 0.1}}', '{strong: {"0": 3}}')
    assert problems_of(tmp_path, text) == [
        "9: prior.strong: needs a value for each class; it lacks 1 (1 of 2 are there)"
    ]


def test_an_index_of_its_own_options_only(tmp_path):
    with pytest.raises(InvalidConfiguration, match="'bits' is an option of the index 'lsh'"):
        IndexSpec(IndexKind.IVF, bits=3)

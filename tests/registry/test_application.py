import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peekserve.config import Problems
from peekserve.domain.application import FeatureStep, OnMiss, QueryType, StreamPrior
from peekserve.domain.profile import LatencyCurve, Quality, Timing
from peekserve.domain.tensors import InputMap, LogMel, OutputForm, OutputMap, Padding, TensorSpec
from peekserve.domain.utility import Penalty
from peekserve.errors import InvalidConfiguration, UnknownApplication
from peekserve.registry.application import read_application
from peekserve.registry.repository import read_repository
from tests.registry.folders import DIGITS, one_tensor, repository, untouched

WEAK = 'prior: {weak: {"0": 0.9, "1": 0.1}}'


def problems_of(root: Path, text: str) -> list[str]:
    folder = repository(root, text)
    found = read_repository(folder, one_tensor)
    assert found.applications == ()
    return [str(p).removeprefix(f"{root}/digits/application.yaml:") for p in found.problems]


def test_a_file_becomes_an_application(tmp_path):
    read = read_repository(repository(tmp_path), untouched).sound()
    (digits,) = read.applications
    assert (digits.name, digits.classes, digits.class_weights) == ("digits", ("0", "1"), ())
    assert digits.inputs == (TensorSpec("image", "FP32", (2, 2)),)
    assert digits.queries == (
        ("default", QueryType(0.15, Penalty.sigmoid(0.015))),
        ("urgent", QueryType(0.06, Penalty.step())),
    )
    assert (digits.max_deadline_s, digits.prior, digits.on_miss) == (10.0, (0.9, 0.1), OnMiss.DEGRADE)
    assert digits.validation == str(tmp_path / "digits" / "validation.npz")
    assert digits.root == str(tmp_path / "digits")
    assert digits.peek is not None
    assert digits.peek.features == (FeatureStep("standardise"), FeatureStep("pca", components=2))
    assert digits.peek.quality == Quality((0.8, 0.6), (0.5, 0.5))
    assert digits.peek.latency == LatencyCurve((1,), (0.0003,))

    linear, two = digits.variants
    assert (linear.name, two.name) == ("linear", "2")
    assert linear.revision == linear.weights == hashlib.sha256(b"linear").hexdigest()
    assert linear.model == str(tmp_path / "digits" / "linear" / "model.onnx")
    assert linear.inputs == (InputMap("image", "x", reshape=(4,), scale=0.0625),)
    assert linear.output == OutputMap("label", OutputForm.LABEL, labels=((7, 0), (8, 1)))
    assert linear.timing == {
        "stated": Timing((LatencyCurve((1, 8), (0.003, 0.009)),), 0.04, 12 << 20, "stated")
    }
    assert two.inputs == (InputMap("image", "pixels"),)
    assert two.output == OutputMap("out", OutputForm.LOGITS, order=(1, 0))
    assert (two.quality, two.timing, two.max_batch) == (None, {}, 32)
    assert read.sources["digits"].line("variants.linear.max_batch.x") == 21


def test_what_is_not_written_is_asked_of_the_model(tmp_path):
    text = DIGITS[: DIGITS.index("variants:")] + "variants: [linear/model.onnx, cnn/2]\n"
    (digits,) = read_repository(repository(tmp_path, text), one_tensor).sound().applications
    assert [v.name for v in digits.variants] == ["linear", "2"]
    assert digits.variants[0].inputs == (InputMap("image", "x"),)
    assert digits.variants[0].output == OutputMap("probabilities", OutputForm.PROBABILITIES)


def test_copies_of_one_file_share_their_weights(tmp_path):
    root = repository(tmp_path)
    (root / "digits" / "cnn" / "2" / "model.onnx").write_bytes(b"linear")
    (digits,) = read_repository(root).sound().applications
    assert len({(v.weights, v.model) for v in digits.variants}) == 1


def test_weights_kept_beside_their_graph_are_part_of_the_revision(tmp_path):
    root = repository(tmp_path)
    (root / "digits" / "linear" / "model.onnx").write_bytes(b"graph, location: weights.bin")
    (root / "digits" / "linear" / "notes.txt").write_text("not named")
    revisions = set()
    for content in (b"old", b"newer"):
        (root / "digits" / "linear" / "weights.bin").write_bytes(content)
        revisions.add(read_repository(root).applications[0].variants[0].revision)
    assert len(revisions) == 2


def test_lengths_that_vary_and_every_map_into_a_model(tmp_path):
    text = DIGITS.replace("shape: [2, 2]", "shape: [-1], buckets: [4, 8], pad: edge").replace(
        "name: x, reshape: [4], scale: 0.0625",
        "name: x, logmel: {rate: 8000, window: 32ms, hop: 16ms, bands: 32}, resize: [8, 4], transpose: [1, 0],"
        " cast: FP16",
    )
    text = text.replace("latency: {8: 9ms, 1: 3ms}", "latency: [3ms, {1: 5ms}]")
    (digits,) = read_repository(repository(tmp_path, text)).sound().applications
    assert digits.inputs == (TensorSpec("image", "FP32", (-1,), (4, 8), Padding.EDGE),)
    assert digits.variants[0].inputs == (
        InputMap("image", "x", LogMel(8000, 0.032, 0.016, 32), (8, 4), None, (1, 0), cast="FP16"),
    )
    assert digits.variants[0].timing["stated"].curve(1).seconds(1) == 0.005


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("deadline: 150ms", "deadlin: 150ms", "1: needs the key 'deadline'"),
        ("deadline: 150ms", "deadline: 150", "5: deadline: 150 has no unit; write 150ms or 150s"),
        ("deadline: 150ms", "deadline: 20s", "1: the deadline of 20 s is above max_deadline, 10 s"),
        (
            "max_batch: 16",
            "max_bach: 16",
            "21: variants.linear: unknown key 'max_bach'; did you mean 'max_batch'?",
        ),
        ("max_batch: 16", "max_batch: 0", "21: variants.linear.max_batch: 0 is not from 1 to 65536"),
        ("  linear:", "  Linear:", "16: variants.Linear: variant name 'Linear': use 1 to 64 of a-z"),
        ('["0", "1"]\ninputs', '["0", "0"]\ninputs', "2: classes[1]: the class '0' is named twice"),
        ('classes: ["0", "1"]', 'classes: ["0"]', "2: classes: an application needs two"),
        (
            "datatype: FP32",
            "datatype: FP31",
            "4: inputs.image.datatype: unknown datatype 'FP31'; did you mean 'FP",
        ),
        ("[2, 2]", "[-1, 2]", "4: inputs.image: a length varies (-1) but there are no buckets"),
        ("[2, 2]", "[0, 2]", "4: inputs.image: the shape [0, 2] needs sizes of 1 or more"),
        ("[2, 2]", "[-1], buckets: [8, 4]", "4: inputs.image: buckets rise, unlike [8, 4]"),
        (
            "kind: sigmoid",
            "kind: sigmoit",
            "7: penalty.kind: unknown penalty 'sigmoit'; did you mean 'sigmoid'?",
        ),
        (
            "{kind: sigmoid, width: 15ms}",
            "{kind: table, points: [[0ms, 0], [1ms, .5], [1ms, 1]]}",
            "7: penalty.points: a",
        ),
        ('"1": 0.1}', '"1": 0.2}', "9: prior: the frequencies of a weak prior sum to 1"),
        ('"1": 0.1}', '"2": 0.1}', "9: prior.weak.2: unknown class '2'; known: 0, 1"),
        ("weak", "week", "9: prior.week: unknown kind 'week'; did you mean 'weak'?"),
        (
            WEAK,
            "prior: {stream: {frequencies: {'0': 0.9, '1': 0.2}}}",
            "9: prior.stream.frequencies: the frequencies of a stream prior sum to 1",
        ),
        (WEAK, "prior: {stream: {half_life: 0}}", "9: prior.stream.half_life: 0 is not from 1 to 1e+09"),
        (WEAK, "prior: {stream: {half: 9}}", "9: prior.stream: unknown key 'half'"),
        (WEAK, "prior: strea", "9: prior: unknown prior 'strea'; did you mean 'stream'?"),
        ("kind: pca", "kind: pac", "11: peek.features[1].kind: unknown feature 'pac'; did you mean 'pca'?"),
        (
            "{kind: pca, components: 2}",
            "pca",
            "11: peek.features[1]: pca needs an option; write {kind: pca, components: 16}",
        ),
        (
            "inputs: [image]",
            "inputs: [imag]",
            "12: peek.inputs[0]: unknown input 'imag'; did you mean 'image'?",
        ),
        (
            "image: {name: x",
            "picture: {name: x",
            "19: variants.linear.inputs.picture: the application has no input",
        ),
        (
            "form: label",
            "form: lable",
            "20: variants.linear.output.form: unknown value 'lable'; did you mean 'label'?",
        ),
        ('8: "1"', '8: "9"', "20: variants.linear.output.labels.8: unknown class '9'; known: 0, 1"),
        ('order: ["1", "0"]', 'order: ["1"]', "26: variants.2.output: the order names 1 of 2 classes"),
        (
            '"1": 0.9}, latency',
            '"1": 1.9}, latency',
            "22: variants.linear.profile.recalls.1: 1.9 is not from 0 to 1",
        ),
        (
            ', "1": 0.9}, latency',
            "}, latency",
            "22: variants.linear.profile.recalls: needs a value for each class; it lacks 1",
        ),
        (
            "linear/model.onnx",
            "linear/modell.onnx",
            "17: variants.linear.model: there is no file 'linear/modell.onnx'",
        ),
        (
            "linear/model.onnx",
            "../../etc/passwd",
            "17: variants.linear.model: '../../etc/passwd' is not a path below",
        ),
        ("linear/model.onnx", "/etc/passwd", "17: variants.linear.model: '/etc/passwd' is not a path below"),
        ("prior:", "on_mis: reject\nprior:", "9: unknown key 'on_mis'; did you mean 'on_miss'?"),
        ("urgent:", "default:", "8: queries.default: the default query is written at the top"),
    ],
)
def test_each_mistake_is_named_with_its_line_and_its_remedy(tmp_path, old, new, message):
    assert DIGITS.count(old) >= 1
    found = problems_of(tmp_path, DIGITS.replace(old, new, 1))
    assert any(line.startswith(message) for line in found), found


@pytest.mark.parametrize(
    ("written", "alpha", "learns"),
    [
        ("", (0.5, 0.5), StreamPrior()),
        ("prior: uninformative", (0.5, 0.5), StreamPrior()),
        ("prior: stream", (0.5, 0.5), StreamPrior()),
        ("prior: {stream: {half_life: 250}}", (0.5, 0.5), StreamPrior((), 250.0)),
        ("prior: {stream: {frequencies: {'0': .8, '1': .2}}}", (0.8, 0.2), StreamPrior((0.8, 0.2))),
        (WEAK, (0.9, 0.1), None),
        ("prior: {strong: {'0': 8, '1': 2}}", (8.0, 2.0), None),
    ],
)
def test_a_prior_is_learnt_unless_its_owner_fixes_it(tmp_path, written, alpha, learns):
    digits = read_repository(repository(tmp_path, DIGITS.replace(WEAK, written))).sound().applications[0]
    assert (digits.prior, digits.prior_learns) == (alpha, learns)


def test_all_mistakes_of_a_file_come_together(tmp_path):
    text = (
        DIGITS.replace("150ms", "150")
        .replace("max_batch: 16", "max_batch: x")
        .replace("kind: pca", "kind: p")
    )
    assert [line.partition(":")[0] for line in problems_of(tmp_path, text)] == ["5", "11", "21"]


def test_degrading_needs_a_peek(tmp_path):
    text = DIGITS[: DIGITS.index("peek:")] + "on_miss: degrade\n" + DIGITS[DIGITS.index("variants:") :]
    assert problems_of(tmp_path, text) == [
        "1: on_miss: degrade answers with the peek, and there is none; add a peek, or write reject or late"
    ]


def test_a_link_out_of_the_repository_is_not_followed(tmp_path):
    outside = tmp_path / "secret.onnx"
    outside.write_bytes(b"secret")
    root = repository(tmp_path / "repo")
    model = root / "digits" / "linear" / "model.onnx"
    model.unlink()
    model.symlink_to(outside)
    (problem,) = read_repository(root).problems
    assert problem.line == 17
    assert problem.what.endswith("'linear/model.onnx' leads out of the repository by a symbolic link")


def test_a_broken_application_leaves_the_others_alone(tmp_path):
    root = repository(tmp_path)
    (root / "broken").mkdir()
    (root / "broken" / "application.yaml").write_text("classes: [a, b]\n")
    (root / ".peekserve").mkdir()
    read = read_repository(root)
    assert [a.name for a in read.applications] == ["digits"]
    assert {p.file for p in read.problems} == {str(root / "broken" / "application.yaml")}
    with pytest.raises(InvalidConfiguration, match="needs the key 'inputs'"):
        read.sound()
    with pytest.raises(UnknownApplication, match=r"no application 'digit' .* did you mean 'digits'"):
        read.application("digit")


def test_two_applications_of_one_name_are_told_apart(tmp_path):
    root = repository(tmp_path)
    repository(tmp_path / "other")
    (tmp_path / "other" / "digits").rename(root / "zz")
    read = read_repository(root)
    assert [str(p) for p in read.problems if p.file.startswith(str(root / "zz"))] == [
        f"{root}/zz/application.yaml:1: application: the name 'digits' is taken by {root}/digits/application.yaml"
    ]


def test_a_folder_without_applications_says_what_it_lacks(tmp_path):
    with pytest.raises(InvalidConfiguration, match="no application here"):
        read_repository(tmp_path)
    with pytest.raises(InvalidConfiguration, match="name the folder above it"):
        read_repository(repository(tmp_path) / "digits")
    with pytest.raises(InvalidConfiguration, match="there is no such folder"):
        read_repository(tmp_path / "absent")


LINES = DIGITS.splitlines()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.data())
def test_no_file_raises_anything_but_invalid_configuration(tmp_path, data):
    """Lines left out, words put in: a mangled declaration is read or listed, and never a crash."""
    root = tmp_path if (tmp_path / "digits").exists() else repository(tmp_path)
    kept = data.draw(st.lists(st.booleans(), min_size=len(LINES), max_size=len(LINES)))
    text = "\n".join(line for line, keep in zip(LINES, kept, strict=True) if keep)
    words = st.sampled_from(["", "[]", "{}", "-1", "null", "image", "1e99", "x", "0ms", "[[1]]", "{a: b}"])
    for target in ("150ms", "sigmoid", "FP32", "[2, 2]", "linear/model.onnx", "weak", "pca", "label, labels"):
        if data.draw(st.booleans()):
            text = text.replace(target, data.draw(words | st.text(max_size=8)))
    (root / "digits" / "application.yaml").write_text(text, encoding="utf-8", errors="replace")
    problems = Problems()
    application = read_application(root / "digits" / "application.yaml", root, problems, one_tensor)
    assert (application is None) == bool(problems.errors)

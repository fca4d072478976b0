"""Subnets of one supernet in ONNX Runtime: one load, one copy, a look into a dict to switch."""

import json

import numpy as np
import onnxruntime as ort
import pytest

from peekserve.domain.tensors import OutputForm, OutputMap
from peekserve.errors import BackendError, InvalidModel
from peekserve.runtimes.memory import held_bytes
from peekserve.runtimes.onnx import OnnxRuntime
from peekserve.runtimes.shared import SharedWeights
from peekserve.supernets import packed
from tests.runtimes.nets import SUBNETS, save_supernet
from tests.runtimes.tiny import CLASSES, a_variant, some_rows

LOGITS = OutputMap("logits", OutputForm.LOGITS)


def a_subnet(folder, name, weights="wide", **fields):
    return a_variant(f"wide.{name}", folder, weights=weights, subnet=name, output=LOGITS, **fields)


@pytest.fixture
def folder(tmp_path):
    return save_supernet(tmp_path / "wide")


def test_a_load_of_one_subnet_makes_all_of_them_resident(folder):
    runtime, rows = OnnxRuntime(), {"signal": some_rows(4)}
    runtime.load(a_subnet(folder, "d1.w50"), CLASSES)
    answers = [runtime.run(a_subnet(folder, name), CLASSES, rows) for name in SUBNETS]
    for i, one in enumerate(answers):
        assert all(np.abs(one - other).max() > 1e-3 for other in answers[:i]), "each is a network of its own"


def test_subnets_that_are_not_served_are_not_loaded(folder):
    (folder / "subnets" / "d2.w100.onnx").write_bytes(b"not read")
    runtime, rows, served = OnnxRuntime(), {"signal": some_rows(1)}, ("d1.w50", "d1.w100")
    runtime.load(a_subnet(folder, "d1.w100", together=served), CLASSES)
    for name in served:
        assert len(runtime.run(a_subnet(folder, name, together=served), CLASSES, rows)) == 1
    with pytest.raises(BackendError, match="not resident"):
        runtime.run(a_subnet(folder, "d2.w50"), CLASSES, rows)


def test_a_subnet_answers_as_its_weights_multiplied_out(folder):
    runtime, rows = OnnxRuntime(), some_rows(4)
    variant = a_subnet(folder, "d2.w50")
    runtime.load(variant, CLASSES)
    parts = packed.mapped(packed.weights_of(folder))
    logits = rows @ parts["w1.4.4"] @ parts["w2.4.4"] @ parts["head.4.3"]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(runtime.run(variant, CLASSES, {"signal": rows}), shares, atol=1e-5)


def test_the_weights_count_once_however_many_subnets_read_them(tmp_path):
    # 16 MB of float32 in w2 alone; the narrow copies are a quarter of that.
    folder = save_supernet(tmp_path / "wide", hidden=2048)
    size = packed.weights_of(folder).stat().st_size
    before = held_bytes()
    runtime = OnnxRuntime()
    held = runtime.load(a_subnet(folder, "d1.w50"), CLASSES)
    for name in SUBNETS:
        runtime.run(a_subnet(folder, name), CLASSES, {"signal": some_rows(8)})
    assert 0.99 * size < held < 1.5 * size
    assert held_bytes() - before < size / 2, "the weights are mapped pages, which are nobody's own"


def test_weights_of_subnets_that_are_not_served_do_not_count(tmp_path):
    folder = save_supernet(tmp_path / "wide", hidden=1024)
    size = packed.weights_of(folder).stat().st_size
    one, every = (SharedWeights(str(folder)) for _ in range(2))
    for name, graph in packed.graphs(folder).items():
        every.share(ort.SessionOptions(), str(graph))
        if name == "d2.w50":
            one.share(ort.SessionOptions(), str(graph))
    assert 0.9 * size < every.bytes < size
    assert 4 * 512 * 512 < one.bytes < 0.3 * size


def test_an_unload_takes_all_subnets_away(folder):
    runtime = OnnxRuntime()
    variant, other = a_subnet(folder, "d1.w50"), a_subnet(folder, "d2.w100")
    runtime.load(variant, CLASSES)
    runtime.unload("wide")
    for one in (variant, other):
        with pytest.raises(BackendError, match="not resident"):
            runtime.run(one, CLASSES, {"signal": some_rows(1)})


def test_an_unload_gives_back_what_large_batches_took(tmp_path):
    folder = save_supernet(tmp_path / "wide", hidden=512)
    runtime, variant, small = OnnxRuntime(), a_subnet(folder, "d2.w100"), {"signal": some_rows(1)}
    runtime.load(variant, CLASSES)
    runtime.run(variant, CLASSES, small)  # as every worker begins
    before = held_bytes()
    for _ in range(3):
        runtime.run(variant, CLASSES, {"signal": some_rows(20_000)})  # 41 MB of float32 for each layer
        assert held_bytes() - before > 30e6
        runtime.unload("wide")
        assert held_bytes() - before < 6e6
        runtime.load(variant, CLASSES)


def test_a_hundred_loads_and_unloads_leave_nothing_behind(folder):
    runtime, variant, after = OnnxRuntime(), a_subnet(folder, "d2.w100"), []
    for _ in range(100):
        runtime.load(variant, CLASSES)
        runtime.run(variant, CLASSES, {"signal": some_rows(8)})
        runtime.unload("wide")
        after.append(held_bytes())
    assert after[-1] - after[20] < 4e6


def test_a_subnet_without_a_graph_is_named_with_those_that_have_one(tmp_path):
    folder = save_supernet(tmp_path / "wide", exported=("d1.w50", "d2.w100"))
    with pytest.raises(InvalidModel, match=r"subnet 'd1\.w100'; there are \['d1\.w50', 'd2\.w100'\].*export"):
        OnnxRuntime().load(a_subnet(folder, "d1.w100"), CLASSES)


def test_a_plain_model_and_a_supernet_live_side_by_side(folder, tmp_path):
    from tests.runtimes.tiny import save_linear

    runtime, rows = OnnxRuntime(), {"signal": some_rows(2)}
    plain, subnet = a_variant(model=save_linear(tmp_path / "linear.onnx")), a_subnet(folder, "d1.w100")
    runtime.load(plain, CLASSES)
    runtime.load(subnet, CLASSES)
    assert runtime.run(plain, CLASSES, rows).shape == runtime.run(subnet, CLASSES, rows).shape == (2, CLASSES)


def header_of(folder):
    data = packed.weights_of(folder).read_bytes()
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def rewrite(folder, header, rest):
    text = json.dumps(header).encode()
    packed.weights_of(folder).write_bytes(len(text).to_bytes(8, "little") + text + rest)


def test_weights_that_are_cut_off_are_refused_by_name(folder):
    path = packed.weights_of(folder)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InvalidModel, match=r"weights\.bin: cut off: of \d+ bytes or more there are \d+"):
        SharedWeights(str(folder))


@pytest.mark.parametrize(
    "content", [b"", b"\x08", b"\xff" * 100, b"\x02" + b"\0" * 7 + b"[]", b"\x10" + b"\0" * 40]
)
def test_a_file_that_is_no_weights_is_refused(folder, content):
    packed.weights_of(folder).write_bytes(content)
    with pytest.raises(InvalidModel, match=r"weights\.bin: damaged"):
        SharedWeights(str(folder))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dtype", "F8"),
        ("shape", [9, 9]),
        ("shape", [-4, -4]),
        ("shape", [2**62, 64]),
        ("data_offsets", [0, 4]),
        ("data_offsets", [-64, 64]),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(folder, field, value):
    header, rest = header_of(folder)
    header["w1.4.4"][field] = value
    rewrite(folder, header, rest)
    with pytest.raises(InvalidModel, match="damaged"):
        SharedWeights(str(folder))


def test_weights_that_are_not_there_say_who_writes_them(folder):
    packed.weights_of(folder).unlink()
    with pytest.raises(InvalidModel, match="peekserve supernet export"):
        SharedWeights(str(folder))

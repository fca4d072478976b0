"""Subnets in place, in torch: the same list of checks, and the same answers as from ONNX Runtime."""

import gc
from hashlib import sha256

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from peekserve.domain.tensors import InputMap, OutputForm, OutputMap, TensorSpec  # noqa: E402
from peekserve.errors import BackendError, InvalidConfiguration, InvalidModel  # noqa: E402
from peekserve.runtimes.elastic import ElasticRuntime  # noqa: E402
from peekserve.runtimes.onnx import OnnxRuntime  # noqa: E402
from peekserve.runtimes.spec import RuntimeSpec  # noqa: E402
from peekserve.runtimes.split import SplitRuntime  # noqa: E402
from peekserve.supernets import packed  # noqa: E402
from peekserve.supernets.export import export  # noqa: E402
from peekserve.supernets.networks import build  # noqa: E402
from peekserve.supernets.operators import Supernet  # noqa: E402
from peekserve.supernets.space import Space, Subnet  # noqa: E402
from peekserve.supernets.storage import Description, Offered, load, read_description, save  # noqa: E402
from peekserve.workers.remote import RemoteRuntime  # noqa: E402
from peekserve.workers.slots import Slot  # noqa: E402
from tests.runtimes.checks import CHECKS, Subject  # noqa: E402
from tests.runtimes.tiny import CLASSES, COLUMNS, a_variant, save_linear, some_rows  # noqa: E402
from tests.supernets.nets import SIZES, SPACES, a_supernet, rows_of  # noqa: E402


def keep(supernet, subnets, folder, sizes, classes):
    """Calibrated on chance, saved and exported."""
    for subnet in subnets:
        with supernet.collecting(subnet):
            supernet(
                torch.randn((8, *supernet.example.shape[1:]), generator=torch.Generator().manual_seed(3))
            )
    offered = tuple(Offered(subnet, 9, 10, 1, 1) for subnet in subnets)
    row = tuple(supernet.example.shape[1:])
    names = tuple(f"class {i}" for i in range(classes))
    save(supernet, folder, Description(supernet.space, sizes, names, row, offered=offered))
    export(supernet, subnets, folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Rows of one channel and four samples, three classes: what the list of checks sends."""
    sizes = {"shape": [1, COLUMNS], "classes": CLASSES, "channels": [4, 8], "blocks": [2, 1]}
    space = Space("conv1d", (2, 1), (1, 1), (0.5, 1.0))
    torch.manual_seed(1)
    supernet = Supernet(build("conv1d", sizes).eval(), space)
    return keep(supernet, list(space.all()), tmp_path_factory.mktemp("elastic") / "wide", sizes, CLASSES)


def a_subnet(folder, name, weights="wide", **fields):
    given = {"inputs": (InputMap("signal", "x", reshape=(1, COLUMNS)),)}
    given |= {"output": OutputMap("logits", OutputForm.LOGITS), "weights": weights, "subnet": name}
    return a_variant(f"wide.{name}", folder, **(given | fields))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", ["elastic", "split", "onnx"])
def test_every_runtime(check, kind, folder, tmp_path):
    make = {
        "elastic": ElasticRuntime,
        "onnx": OnnxRuntime,
        "split": lambda: RuntimeSpec("elastic").make("cpu:torch"),
    }
    broken = a_subnet(tmp_path / "nowhere", "d1-1.w50", weights="broken")
    check(Subject(make[kind], a_subnet(folder, "d2-1.w50"), broken))


@pytest.mark.parametrize("architecture", sorted(SIZES))
def test_a_subnet_answers_the_same_in_place_exported_and_extracted(architecture, tmp_path):
    supernet, space = a_supernet(architecture), SPACES[architecture]
    every = list(space.all())
    subnets = [*every[:: max(len(every) // 3, 1)], space.largest]
    sizes = SIZES[architecture]
    folder = keep(supernet, list(dict.fromkeys(subnets)), tmp_path / "wide", sizes, sizes["classes"])
    inputs = (InputMap("signal", "x"),)
    rows = {"signal": rows_of(architecture, 24, seed=7).numpy()}
    elastic, onnx = ElasticRuntime(), OnnxRuntime()
    for runtime in (elastic, onnx):
        runtime.load(a_subnet(folder, space.largest.name, inputs=inputs), sizes["classes"])
    for subnet in subnets:
        variant = a_subnet(folder, subnet.name, inputs=inputs)
        in_place = elastic.run(variant, sizes["classes"], rows)
        exported = onnx.run(variant, sizes["classes"], rows)
        np.testing.assert_allclose(in_place, exported, atol=1e-4)
        assert np.array_equal(in_place.argmax(axis=1), exported.argmax(axis=1))


def test_subnets_of_other_depths_share_every_weight_and_narrow_ones_bring_their_own(tmp_path):
    subnets = [Subnet.parse(name) for name in ("d2-1-2.w100", "d1-1-1.w100", "d2-1-2.w60")]
    supernet = a_supernet("conv2d", subnets)

    def bytes_of(*which):
        export(supernet, which, tmp_path / "wide")
        return sum(
            p.end - p.start for p in packed.read_layout(packed.weights_of(tmp_path / "wide")).places.values()
        )

    deep, shallow, narrow = subnets
    alone = bytes_of(deep)
    assert alone > 10_000
    assert bytes_of(deep, shallow) == alone
    assert bytes_of(deep, narrow) == alone + bytes_of(narrow)


def test_the_same_supernet_is_exported_to_the_same_bytes(folder):
    before = {path.name: path.read_bytes() for path in (folder / "subnets").iterdir()}
    supernet = load(folder)
    export(supernet, list(supernet.space.all()), folder)
    assert {path.name: path.read_bytes() for path in (folder / "subnets").iterdir()} == before


def test_an_export_tells_the_description_what_it_wrote(folder):
    files = read_description(folder).files
    written = {f"subnets/{path.name}": path for path in (folder / "subnets").iterdir()}
    assert set(files) == {"weights.safetensors", *written}
    assert all(files[name] == sha256(path.read_bytes()).hexdigest() for name, path in written.items())


def test_an_export_without_statistics_writes_nothing(tmp_path):
    with pytest.raises(InvalidModel, match="statistics missing"):
        export(a_supernet("conv1d"), [SPACES["conv1d"].smallest], tmp_path / "wide")
    assert not (tmp_path / "wide").exists()


def test_subnets_can_follow_each_other_in_any_order(folder):
    runtime, rows = ElasticRuntime(), {"signal": some_rows(2)}
    names = ["d1-1.w50", "d2-1.w100", "d1-1.w100", "d2-1.w50"]
    runtime.load(a_subnet(folder, names[0]), CLASSES)
    first = {name: runtime.run(a_subnet(folder, name), CLASSES, rows) for name in names}
    for name in reversed(names):
        assert np.array_equal(first[name], runtime.run(a_subnet(folder, name), CLASSES, rows))


def test_an_unload_frees_every_weight_at_once(folder):
    def weights():
        return sum(type(thing) is torch.nn.Parameter for thing in gc.get_objects())

    runtime = ElasticRuntime()
    gc.collect()
    gc.disable()
    try:
        before = weights()
        runtime.load(a_subnet(folder, "d2-1.w100"), CLASSES)
        runtime.run(a_subnet(folder, "d1-1.w50"), CLASSES, {"signal": some_rows(2)})
        assert weights() > before
        runtime.unload("wide")
        assert weights() == before
    finally:
        gc.enable()


def test_a_worker_of_torch_hands_models_of_their_own_to_onnx(folder, tmp_path):
    runtime, rows = RuntimeSpec("elastic").make("cpu:torch"), {"signal": some_rows(2)}
    assert isinstance(runtime, SplitRuntime)
    plain, subnet = a_variant(model=save_linear(tmp_path / "linear.onnx")), a_subnet(folder, "d1-1.w50")
    for variant in (plain, subnet):
        runtime.load(variant, CLASSES)
        assert runtime.run(variant, CLASSES, rows).shape == (2, CLASSES)
    runtime.unload("wide")
    with pytest.raises(BackendError, match="not resident"):
        runtime.run(subnet, CLASSES, rows)
    assert runtime.run(plain, CLASSES, rows).shape == (2, CLASSES)
    assert RuntimeSpec("elastic").version(subnet=True).startswith("torch ")
    assert RuntimeSpec("elastic").version().startswith("onnxruntime ")


@pytest.mark.whole
def test_a_worker_process_switches_subnets_after_one_load(folder):
    rows, here = {"signal": some_rows(3)}, ElasticRuntime()
    here.load(a_subnet(folder, "d1-1.w50"), CLASSES)
    slot = Slot("torch", "cpu:torch", runtime=RuntimeSpec("elastic"))
    with RemoteRuntime(slot, (TensorSpec("signal", "FP32", (COLUMNS,)),)) as worker:
        assert worker.load(a_subnet(folder, "d1-1.w50"), CLASSES) > 0
        for name in ("d2-1.w100", "d1-1.w50", "d2-1.w50"):
            variant = a_subnet(folder, name)
            there = worker.run(variant, CLASSES, rows)
            np.testing.assert_allclose(there, here.run(variant, CLASSES, rows), atol=1e-6)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is an accelerator")
def test_a_device_that_is_not_there_is_named(folder):
    with pytest.raises(InvalidModel, match="cuda"):
        ElasticRuntime("cuda:0").load(a_subnet(folder, "d1-1.w50"), CLASSES)


def test_what_is_no_subnet_is_refused(folder):
    with pytest.raises(InvalidModel, match="is no subnet"):
        ElasticRuntime().load(a_subnet(folder, ""), CLASSES)


def test_a_subnet_outside_the_space_is_refused_at_the_load(folder):
    with pytest.raises(InvalidConfiguration, match="stage 0 cannot run 9 blocks"):
        ElasticRuntime().load(a_subnet(folder, "d9-1.w50"), CLASSES)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator here")
def test_an_accelerator_answers_as_the_processor_does(folder):
    rows, answers = {"signal": some_rows(16)}, []
    for device in ("cpu", "cuda:0"):
        runtime = ElasticRuntime(device)
        runtime.load(a_subnet(folder, "d1-1.w50"), CLASSES)
        answers.append([runtime.run(a_subnet(folder, n), CLASSES, rows) for n in ("d1-1.w50", "d2-1.w100")])
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-3)

"""One copy of the weights for all widths: the graphs say the same, and the file holds each number once."""

import numpy as np
import pytest
from onnx import load

pytest.importorskip("torch")

from peekserve.domain.tensors import InputMap, OutputForm, OutputMap
from peekserve.runtimes.onnx import OnnxRuntime
from peekserve.supernets import packed
from peekserve.supernets.export import export
from tests.runtimes.tiny import a_variant
from tests.supernets.nets import SIZES, SPACES, a_supernet, rows_of


def answers(folder, architecture, subnets):
    classes, rows = SIZES[architecture]["classes"], {"signal": rows_of(architecture, 32, seed=4).numpy()}
    runtime = OnnxRuntime()
    given = {"inputs": (InputMap("signal", "x"),), "output": OutputMap("logits", OutputForm.LOGITS)}
    variants = [a_variant(f"wide.{s.name}", folder, weights="wide", subnet=s.name, **given) for s in subnets]
    runtime.load(variants[0], classes)
    return np.stack([runtime.run(variant, classes, rows) for variant in variants])


def stored(folder):
    """Bytes of weights, those that have several names once."""
    layout = packed.read_layout(packed.weights_of(folder))
    longest = {}
    for place in layout.places.values():
        longest[place.start] = max(longest.get(place.start, 0), place.end)
    return sum(end - start for start, end in longest.items())


@pytest.mark.parametrize("architecture", sorted(SIZES))
def test_a_narrow_subnet_that_reads_beginnings_answers_as_with_weights_of_its_own(architecture, tmp_path):
    space = SPACES[architecture]
    every = list(space.all())
    subnets = list(dict.fromkeys([*every[:: max(len(every) // 3, 1)], space.largest]))
    supernet = a_supernet(architecture, subnets)
    for name, least in (("copies", None), ("beginnings", 0)):
        export(supernet, subnets, tmp_path / name, take_apart=least)
    mine, own = (answers(tmp_path / name, architecture, subnets) for name in ("beginnings", "copies"))
    np.testing.assert_allclose(mine, own, atol=1e-5)
    assert np.array_equal(mine.argmax(axis=2), own.argmax(axis=2))


def test_no_convolution_is_kept_twice(tmp_path):
    space = SPACES["conv2d"]
    subnets = [s for s in space.all() if s.depths == space.depths]
    supernet = a_supernet("conv2d", subnets)
    export(supernet, [space.largest], tmp_path / "largest")
    export(supernet, subnets, tmp_path / "copies")
    export(supernet, subnets, tmp_path / "beginnings", take_apart=0)
    largest = stored(tmp_path / "largest")
    assert stored(tmp_path / "copies") > 1.2 * largest
    # What is left over is vectors, and layers so small in some widths that their graphs keep them.
    assert stored(tmp_path / "beginnings") < 1.1 * largest


def test_products_of_matrices_are_shared_by_all_widths_without_being_asked_for(tmp_path):
    space = SPACES["transformer"]
    subnets = [s for s in space.all() if s.depths == space.depths]
    supernet = a_supernet("transformer", subnets)
    export(supernet, [space.largest], tmp_path / "largest")
    export(supernet, subnets, tmp_path / "all")
    assert stored(tmp_path / "all") < 1.1 * stored(tmp_path / "largest")


def test_a_convolution_is_taken_apart_at_the_widths_that_there_are(tmp_path):
    space = SPACES["conv2d"]  # 6, 10 and 13 channels at 30, 60 and 100 percent
    subnets = [s for s in space.all() if s.depths == space.depths]
    export(a_supernet("conv2d", subnets), subnets, tmp_path / "wide", take_apart=0)
    graph = load(packed.graphs(tmp_path / "wide")[space.largest.name], load_external_data=False).graph
    splits = [node for node in graph.node if node.op_type == "Split"]
    lengths = {
        t.name: np.frombuffer(t.raw_data, np.int64).tolist() for t in graph.initializer if "lengths" in t.name
    }
    assert splits
    # The narrowest weights are so small that their graph keeps them: nothing is cut for them.
    assert [8, 5] in lengths.values(), lengths


def test_no_graph_turns_a_weight_round_as_it_runs(tmp_path):
    """A session would keep what it made of it, and each its own."""
    space = SPACES["transformer"]
    subnets = [s for s in space.all() if s.depths == space.depths]
    export(a_supernet("transformer", subnets), subnets, tmp_path / "wide")
    for path in packed.graphs(tmp_path / "wide").values():
        graph = load(path, load_external_data=False).graph
        weights = {tensor.name for tensor in graph.initializer}
        assert weights
        assert not [n.name for n in graph.node if n.op_type == "Transpose" and n.input[0] in weights]

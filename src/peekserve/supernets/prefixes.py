"""One copy of the weights for graphs of all widths: a narrow weight as the beginning of parts of the full one.

A narrow subnet's weight is W[:o, :i] of the full weight W. Its rows alone would be the beginning of W's bytes; the
columns are not. So a convolution is taken apart by its inputs, at the numbers of inputs that there are: with
W = [W1 | W2 | ...], each part stored by itself, it is Conv(x1, W1[:o]) + Conv(x2, W2[:o]) + ..., over as many parts as
the subnet has inputs, and each W1[:o] is the beginning of W1's bytes. A product of matrices W[i, o] that is narrower in
i is the beginning already; one that is narrower in o becomes that of the transposed weight, which takes no longer.

To take convolutions apart costs time, for the sums of the parts: 1.0 to 1.3 times that of a wide convolution of 96 to
512 channels (on one core, batches of 1 and 8), and more for small ones. It is for supernets whose weights are what
memory goes into.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from peekserve.supernets.packed import Array, Prefix

# A convolution of fewer bytes of weights saves less than its further nodes take: 28 subnets over 9 M parameters grew a
# worker by 92 MiB where all above 64 KiB were taken apart, by 87 MiB above 1 MiB, and by 99 MiB with none.
WORTH = 1 << 20


@dataclass(frozen=True, slots=True)
class _Family:
    """A full weight and the narrower ones that begin as it does. `parts`: where its inputs are cut, rising, the last
    is all of them; `turned`: it is stored transposed."""

    name: str
    array: Array
    parts: tuple[int, ...]
    turned: bool = False

    def stored(self) -> dict[str, Array]:
        if self.turned:
            return {self.name: np.ascontiguousarray(self.array.T)}
        if len(self.parts) == 1:
            return {self.name: self.array}
        edges = (0, *self.parts)
        return {
            f"{self.name}.{j}": np.ascontiguousarray(self.array[:, edges[j] : edges[j + 1]])
            for j in range(len(self.parts))
        }


def share_prefixes(
    models: Iterable[onnx.ModelProto], arrays: Mapping[str, Array], take_apart: int | None
) -> tuple[dict[str, Array], dict[str, Prefix]]:
    """Rewrite the graphs so that no weight is kept twice: (what is to be stored, and the names that are beginnings).

    `arrays`: the graphs' weights by name. Weights that fit no family stay as they are. `take_apart`: convolutions of
    so many bytes or more, too; None for only what costs no time.
    """
    models = list(models)
    used: dict[str, set[str]] = {}
    for model in models:
        for node in model.graph.node:
            for name in node.input:
                used.setdefault(name, set()).add(node.op_type)
    of, families = _families(arrays, used, take_apart)
    stored = {name: array for family in families for name, array in family.stored().items()}
    stored |= {name: array for name, array in arrays.items() if name not in of}
    prefixes: dict[str, Prefix] = {}
    for model in models:
        _Rewriting(model, arrays, of, prefixes).run()
    return stored, prefixes


def _families(
    arrays: Mapping[str, Array], used: Mapping[str, set[str]], take_apart: int | None
) -> tuple[dict[str, _Family], list[_Family]]:
    """Every weight's family, and the families that have more than one member, the largest weight first in each."""
    groups: list[tuple[str, list[str]]] = []
    for name in sorted(arrays, key=lambda n: (-arrays[n].size, n)):
        if not used.get(name, set()) <= {"Conv", "MatMul"} or len(used.get(name, set())) != 1:
            continue
        for whole, members in groups:
            if used[whole] == used[name] and _begins(arrays[name], arrays[whole]):
                members.append(name)
                break
        else:
            groups.append((name, [name]))
    of: dict[str, _Family] = {}
    families = []
    for whole, members in groups:
        family = _family(whole, [arrays[name] for name in members], used[whole] == {"Conv"})
        apart = take_apart is not None and arrays[whole].nbytes >= take_apart
        if family is not None and (apart or len(family.parts) == 1):
            families.append(family)
            of |= dict.fromkeys(members, family)
    return of, families


def _begins(narrow: Array, whole: Array) -> bool:
    if narrow.ndim != whole.ndim or narrow.ndim < 2 or narrow.shape[2:] != whole.shape[2:]:
        return False
    if narrow.shape[0] > whole.shape[0] or narrow.shape[1] > whole.shape[1]:
        return False
    first = whole[: narrow.shape[0], : narrow.shape[1]]
    return bool(np.array_equal(first[0, 0], narrow[0, 0]) and np.array_equal(first, narrow))


def _family(name: str, members: list[Array], conv: bool) -> _Family | None:
    whole = members[0]
    rows, columns = {one.shape[0] for one in members}, {one.shape[1] for one in members}
    if len(members) == 1:
        return None
    if len(columns) == 1:  # the rows alone are fewer: each is a beginning as it is
        return _Family(name, whole, (whole.shape[1],))
    if conv:
        return _Family(name, whole, tuple(sorted(columns)))
    return _Family(name, whole, (whole.shape[1],), turned=True) if len(rows) == 1 else None


class _Rewriting:
    """One graph, and the names that its nodes will read."""

    def __init__(
        self,
        model: onnx.ModelProto,
        arrays: Mapping[str, Array],
        of: Mapping[str, _Family],
        prefixes: dict[str, Prefix],
    ) -> None:
        self._graph = model.graph
        self._arrays = arrays
        self._of = of
        self._prefixes = prefixes
        self._new: dict[str, TensorProto] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._leading: dict[str, str] = {}  # by tensor, what holds all but the last of its lengths

    def run(self) -> None:
        for node in self._graph.node:
            family = self._of.get(node.input[1]) if node.op_type in ("Conv", "MatMul") else None
            if family is None:
                self._nodes.append(node)
            elif node.op_type == "Conv":
                self._conv(node, family)
            else:
                self._product(node, family)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        read = {name for node in self._nodes for name in node.input}
        kept = [t for t in self._graph.initializer if t.name in read and t.name not in self._new]
        del self._graph.initializer[:]
        self._graph.initializer.extend([*kept, *self._new.values()])

    def _conv(self, node: onnx.NodeProto, family: _Family) -> None:
        rows, columns = self._arrays[node.input[1]].shape[:2]
        count = family.parts.index(columns) + 1
        names = list(family.stored())
        if count == 1:
            node.input[1] = self._beginning(names[0], (rows, *self._part(family, 0)))
            self._nodes.append(node)
            return
        out = node.output[0]
        edges = (0, *family.parts[:count])
        lengths = [b - a for a, b in pairwise(edges)]
        self._inline(f"{out}/lengths", np.array(lengths, np.int64))
        pieces = [f"{out}/in{j}" for j in range(count)]
        self._nodes.append(helper.make_node("Split", [node.input[0], f"{out}/lengths"], pieces, axis=1))
        for j, piece in enumerate(pieces):
            weight = self._beginning(names[j], (rows, *self._part(family, j)))
            bias = list(node.input[2:]) if j == 0 else []
            part = helper.make_node("Conv", [piece, weight, *bias], [f"{out}/out{j}"])
            part.attribute.extend(node.attribute)
            self._nodes.append(part)
        self._nodes.append(helper.make_node("Sum", [f"{out}/out{j}" for j in range(count)], [out]))

    def _product(self, node: onnx.NodeProto, family: _Family) -> None:
        shape = self._arrays[node.input[1]].shape
        if not family.turned:
            node.input[1] = self._beginning(family.name, shape)
            self._nodes.append(node)
            return
        # As rows of one matrix, since only a product of two matrices can take one of them as transposed.
        x, out = node.input[0], node.output[0]
        weight = self._beginning(family.name, (shape[1], shape[0]))
        self._inline(f"{out}/flat", np.array([-1, shape[0]], np.int64))
        self._inline(f"{out}/columns", np.array([shape[1]], np.int64))
        if x not in self._leading:
            self._leading[x] = f"{out}/leading"
            self._nodes.append(helper.make_node("Shape", [x], [self._leading[x]], end=-1))
        self._nodes += [
            helper.make_node("Reshape", [x, f"{out}/flat"], [f"{out}/rows"]),
            helper.make_node("Gemm", [f"{out}/rows", weight], [f"{out}/product"], transB=1),
            helper.make_node("Concat", [self._leading[x], f"{out}/columns"], [f"{out}/shape"], axis=0),
            helper.make_node("Reshape", [f"{out}/product", f"{out}/shape"], [out]),
        ]

    @staticmethod
    def _part(family: _Family, j: int) -> tuple[int, ...]:
        edges = (0, *family.parts)
        return (edges[j + 1] - edges[j], *family.array.shape[2:])

    def _beginning(self, stored: str, shape: tuple[int, ...]) -> str:
        name = f"{stored}:{shape[0]}"
        self._prefixes[name] = Prefix(stored, shape)
        self._new[name] = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape)
        return name

    def _inline(self, name: str, array: Array) -> None:
        self._new[name] = numpy_helper.from_array(array, name)

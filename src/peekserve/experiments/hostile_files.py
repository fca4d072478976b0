"""Archives and models that no honest client sends, for attacks_uploads.py.

Each function returns the bytes of one. `around` is an honest application of one small model, to put a hostile part in.
"""

import gzip
import io
import pickle
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

ROWS = 40
_OPSET = [helper.make_opsetid("", 17)]
YAML = """\
application: {name}
classes: [a, b]
inputs:
  x: {{datatype: FP32, shape: [2]}}
deadline: 80ms
variants:
  small:
    model: {model}
    inputs:
      x: {{name: x}}
    output: {{name: y, form: probabilities}}
    max_batch: 4
validation: validation.npz
"""


# ---- archives -----------------------------------------------------------------------------------------------------


def tar(files: Mapping[str, bytes], *more: tarfile.TarInfo, kind: str = "w") -> bytes:
    """Files, then members without content."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=kind, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in more:
            archive.addfile(member)
    return out.getvalue()


def zipped(files: Mapping[str, bytes], mode: int = 0) -> bytes:
    """`mode`: of the last file, as Unix has them."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            if mode and name == [*files][-1]:
                info.create_system, info.external_attr = 3, mode << 16
            archive.writestr(info, content)
    return out.getvalue()


def member(name: str, kind: bytes, to: str = "") -> tarfile.TarInfo:
    """A link, a device or a pipe."""
    one = tarfile.TarInfo(name)
    one.type, one.linkname = kind, to
    return one


def raw_header(name: str, kind: bytes, size: bytes) -> bytes:
    """A header of tar whose size is written as these bytes (POSIX ustar)."""
    head = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    head[124:136] = size.ljust(12, b"\0")
    head[156:157] = kind
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def zeros_in_zip(size: int) -> bytes:
    return zipped({"application.yaml": b"a: 1\n", "validation.npz": bytes(size)})


def zeros_in_gzip(size: int) -> bytes:
    return gzip.compress(tar({"application.yaml": b"a: 1\n", "validation.npz": bytes(size)}), 9)


def nested_zips(depth: int) -> bytes:
    inner = bytes(1 << 20)
    for _ in range(depth):
        inner = zipped({"inner.zip": inner})
    return inner


def one_content_many_names(times: int) -> bytes:
    """A zip whose list names one megabyte of zeros many times (Fifield 2019, "A better zip bomb", without its quoted
    headers)."""
    plain = zipped({"a": bytes(1 << 20)})
    end = plain.rfind(b"PK\x05\x06")
    at = struct.unpack_from("<L", plain, end + 16)[0]
    entry = plain[at:end]
    listed = b"".join(entry[:-1] + bytes([65 + n % 26]) for n in range(times))
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, times, times, len(listed), at, 0)
    return plain[:at] + listed + tail


def shorter_than_it_is() -> bytes:
    """A zip that says of a megabyte that it is ten bytes."""
    plain = bytearray(zipped({"application.yaml": bytes(1 << 20)}))
    at = plain.rfind(b"PK\x01\x02")
    plain[at + 24 : at + 28] = struct.pack("<L", 10)
    return bytes(plain)


def long_names_in_a_row(times: int) -> bytes:
    """Headers of GNU's long names, each of which only leads to the next."""
    head = raw_header("././@LongLink", tarfile.GNUTYPE_LONGNAME, b"00000000001")
    return gzip.compress((head + b"a".ljust(512, b"\0")) * times + bytes(1024))


def sparse_in_pax() -> bytes:
    one = tarfile.TarInfo("validation.npz")
    one.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 40)}
    return tar({"application.yaml": b"a: 1\n"}, one)


def names(wrong: Iterable[str]) -> bytes:
    return tar({**around(), **dict.fromkeys(wrong, b"here")})


def pax_name(name: str) -> bytes:
    """A name as a pax field has it, which may hold anything."""
    one = tarfile.TarInfo("a")
    one.pax_headers = {"path": name}
    return tar(around(), one)


# ---- applications -------------------------------------------------------------------------------------------------


def around(name: str = "guest", **changed: bytes | None) -> dict[str, bytes]:
    """The files of an application; `changed`: yaml, model, validation."""
    rng = np.random.default_rng(0)
    x = rng.random((ROWS, 2), np.float32)
    parts = {
        "yaml": YAML.format(name=name, model="model.onnx").encode(),
        "model": a_model(),
        "validation": npz(x=x, labels=(x[:, 0] > x[:, 1]).astype(np.int64)),
    } | changed
    paths = {"yaml": "application.yaml", "model": "model.onnx", "validation": "validation.npz"}
    return {paths[part]: content for part, content in parts.items() if content is not None}


def naming(model: str) -> bytes:
    return YAML.format(name="guest", model=model).encode()


def npz(**arrays: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


class _Runs:
    """What its unpickling would run."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return exec, ("raise SystemExit(86)",)


def a_pickle() -> bytes:
    return pickle.dumps(_Runs())


def objects() -> bytes:
    """Labels that are Python objects, which numpy writes as a pickle."""
    return npz(x=np.zeros((1, 2), np.float32), labels=np.array([_Runs()], dtype=object))


def huge_array() -> bytes:
    """An array of 2^50 bytes by its header, with none of them."""
    shape = str((1 << 48, 2)).encode()
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': %s, }" % shape
    head = head.ljust(117) + b"\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head
    return zipped({"x.npy": array, "labels.npy": array})


# ---- models -------------------------------------------------------------------------------------------------------


def _graph(nodes: Iterable[onnx.NodeProto], initialisers: Iterable[TensorProto] = ()) -> bytes:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph(list(nodes), "g", [x], [y], list(initialisers))
    model = helper.make_model(graph, opset_imports=[*_OPSET, helper.make_opsetid("evil", 1)], ir_version=8)
    written: bytes = model.SerializeToString()
    return written


def a_model() -> bytes:
    return _graph([helper.make_node("Softmax", ["x"], ["y"])])


def custom_operator() -> bytes:
    return _graph([helper.make_node("RunThis", ["x"], ["y"], domain="evil", command="exit 1")])


def python_operator() -> bytes:
    """As ONNX Runtime's builds for training would run it."""
    return _graph([helper.make_node("PythonOp", ["x"], ["y"], domain="com.microsoft", name="os.system")])


def outside(location: str) -> bytes:
    """Weights that lie in another file."""
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2])
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    return _graph([helper.make_node("Add", ["x", "w"], ["y"])], [weights])


def huge_initialiser() -> bytes:
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 40, 1 << 20])
    weights.raw_data = bytes(8)
    return _graph([helper.make_node("Add", ["x", "w"], ["y"])], [weights])


def fills_memory(size: int) -> bytes:
    """A few bytes that ask for `size` bytes when they run."""
    count = helper.make_tensor("c", TensorProto.INT64, [1], [size // 4])
    zero = helper.make_tensor("z", TensorProto.FLOAT, [1], [1.0])
    nodes = [
        helper.make_node("ConstantOfShape", ["c"], ["big"], value=zero),
        helper.make_node("ReduceSum", ["big"], ["s"], keepdims=0),
        helper.make_node("Add", ["x", "s"], ["y"]),
    ]
    return _graph(nodes, [count])


def never_ends() -> bytes:
    """A loop of 2^62 rounds."""
    i = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    go = helper.make_tensor_value_info("go", TensorProto.BOOL, [])
    going = helper.make_tensor_value_info("going", TensorProto.BOOL, [])
    v = helper.make_tensor_value_info("v", TensorProto.FLOAT, ["n", 2])
    w = helper.make_tensor_value_info("w", TensorProto.FLOAT, ["n", 2])
    steps = [helper.make_node("Identity", ["go"], ["going"]), helper.make_node("Sin", ["v"], ["w"])]
    body = helper.make_graph(steps, "body", [i, go, v], [going, w])
    rounds = helper.make_tensor("rounds", TensorProto.INT64, [], [1 << 62])
    true = helper.make_tensor("true", TensorProto.BOOL, [], [True])
    return _graph([helper.make_node("Loop", ["rounds", "true", "x"], ["y"], body=body)], [rounds, true])


def deep(levels: int) -> bytes:
    """A branch within a branch within a branch: written by hand, as protobuf's own writer refuses it.

    Field numbers: onnx.proto, NodeProto.attribute = 5, AttributeProto.g = 6, GraphProto.node = 1, ModelProto.graph = 7.
    """
    inner = b""
    for _ in range(levels):
        branch = _field(1, b"then_branch") + _field(6, inner) + b"\xa0\x01\x05"
        inner = _field(1, _field(4, b"If") + _field(5, branch))
    return b"\x08\x08" + _field(7, inner)


def _field(number: int, content: bytes) -> bytes:
    size, written = len(content), b""
    while size > 127:
        written += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + written + bytes([size]) + content


LINK = stat.S_IFLNK | 0o777
BILLION = b"a: &a [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (new, new, b", ".join([b"*%c" % old] * 9))
    for old, new in zip(b"abcdefghi", b"bcdefghij", strict=True)
)
TAGGED = b"application: !!python/object/apply:os._exit [86]\n" + YAML.partition("\n")[2].encode()

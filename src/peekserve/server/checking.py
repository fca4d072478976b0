"""A call's tensors and parameters against what its application declares: the last place where anything can be
wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from peekserve.domain.application import Application
from peekserve.domain.request import LOWEST
from peekserve.domain.tensors import Missing, Padding, TensorSpec
from peekserve.errors import ConstraintInfeasible, InvalidConfiguration, InvalidRequest, InvalidTensor
from peekserve.server.calls import OUTPUTS, Array, InferCall, Scalar, Tensor

EVIDENCE = "evidence"

# What one count of a client's evidence may be at the most: far beyond any number of neighbours.
MOST_EVIDENCE = 1e9


@dataclass(frozen=True, slots=True)
class Checked:
    """A call whose tensors fit. `inputs`: name -> [rows, ...], padded to `bucket`. `lengths`: name -> int64
    [rows], the lengths before padding, for inputs whose length varies; None where none does. `present`: as
    Request.inputs."""

    rows: int
    inputs: dict[str, Array]
    lengths: dict[str, npt.NDArray[np.int64]] | None
    bucket: int
    present: tuple[str, ...] | None
    counts: tuple[tuple[float, ...], ...] | None


def check_tensors(application: Application, call: InferCall, max_rows: int) -> Checked:
    """Names, datatypes, shapes, values, lengths, rows; and that some variant can do with what came.

    Raises InvalidTensor, or InvalidRequest when an input is missing that no variant can do without.
    """
    declared = {spec.name: spec for spec in application.inputs}
    given: dict[str, Tensor] = {}
    for tensor in call.tensors:
        if tensor.name in given:
            raise InvalidTensor(f"input {tensor.name!r} came twice")
        if tensor.name not in declared and tensor.name != EVIDENCE:
            known = ", ".join([*declared, EVIDENCE])
            raise InvalidTensor(
                f"application {application.name!r} has no input {tensor.name[:80]!r}; it has {known}"
            )
        given[tensor.name] = tensor
    rows = _rows(given, max_rows)
    evidence = None if EVIDENCE in declared else given.pop(EVIDENCE, None)
    counts = None if evidence is None else _evidence(application, evidence)
    blank: list[str] = []
    inputs: dict[str, Array] = {}
    for name, tensor in given.items():
        _check_shape(declared[name], tensor)
        if _usable(declared[name], tensor.data):
            inputs[name] = tensor.data
        else:
            blank.append(name)
    check_present(application, call.pinned, inputs, blank)
    bucket, lengths = _pad(declared, inputs)
    everything = len(inputs) == len(declared)
    present = None if everything else tuple(name for name in declared if name in inputs)
    return Checked(rows, inputs, lengths, bucket, present, counts)


def _rows(given: Mapping[str, Tensor], max_rows: int) -> int:
    rows = 0
    for name, tensor in given.items():
        count = tensor.data.shape[0]
        if rows and count != rows:
            first = next(iter(given))
            raise InvalidTensor(f"input {first!r} has {rows} rows and input {name!r} has {count}")
        rows = count
        if not 1 <= rows <= max_rows:
            raise InvalidTensor(f"input {name!r} has {rows} rows; a request has 1 to {max_rows}")
    if not rows:
        raise InvalidRequest("the request has no inputs")
    return rows


def _check_shape(spec: TensorSpec, tensor: Tensor) -> None:
    if tensor.datatype != spec.datatype:
        raise InvalidTensor(f"input {spec.name!r} has datatype {spec.datatype}, not {tensor.datatype}")
    row = tensor.data.shape[1:]
    fits = len(row) == len(spec.shape) and all(
        want in (size, -1) for size, want in zip(row, spec.shape, strict=True)
    )
    if not fits:
        raise InvalidTensor(
            f"input {spec.name!r} has shape {[-1, *spec.shape]} (-1: any size), not {list(tensor.data.shape)}"
        )


def _usable(spec: TensorSpec, data: Array) -> bool:
    """False when the input counts as missing: its owner said that a NaN means just that."""
    if data.dtype.kind != "f":
        return True
    finite = np.isfinite(data)
    if finite.all():
        return True
    if spec.missing is Missing.MISSING:
        return False
    first = tuple(int(i) for i in np.argwhere(~finite)[0])
    raise InvalidTensor(
        f"input {spec.name!r} holds {int((~finite).sum())} values that are not finite numbers, "
        f"the first at {list(first)}: {data[first]}"
    )


def check_present(
    application: Application, pinned: str | None, inputs: Mapping[str, Array], blank: Sequence[str]
) -> None:
    """Raises InvalidRequest when no variant that may answer can do with these inputs. `blank`: those that came
    with nothing in them."""
    if len(inputs) == len(application.inputs):
        return
    candidates = application.variants if pinned is None else (application.variant(pinned),)
    lacking = [(sum(n not in inputs for n in v.needs), v) for v in candidates]
    fewest, nearest = min(lacking, key=lambda pair: pair[0])
    if fewest:
        lacks = ", ".join(repr(name) for name in nearest.needs if name not in inputs)
        others = "" if pinned else f"; no other variant of {application.name!r} needs less"
        why = "".join(f"; {name!r} came with NaN in it, which counts as missing" for name in blank)
        raise InvalidRequest(f"input {lacks} is missing: variant {nearest.name!r} needs it{others}{why}")


def check_evidence(application: Application, tensor: Tensor, max_rows: int) -> tuple[tuple[float, ...], ...]:
    """Evidence that came alone: for each row, C counts. Raises InvalidTensor."""
    if tensor.data.ndim == 2:
        _rows({tensor.name: tensor}, max_rows)
    return _evidence(application, tensor)


def _evidence(application: Application, tensor: Tensor) -> tuple[tuple[float, ...], ...]:
    """Evidence that the client brought: for each row, C counts, not negative."""
    classes = len(application.classes)
    if tensor.datatype not in ("FP32", "FP64"):
        raise InvalidTensor(f"input {EVIDENCE!r} has datatype FP32 or FP64, not {tensor.datatype}")
    if tensor.data.ndim != 2 or tensor.data.shape[1] != classes:
        raise InvalidTensor(
            f"input {EVIDENCE!r} has shape {[-1, classes]}, a count for each class, "
            f"not {list(tensor.data.shape)}"
        )
    counts = tensor.data.astype(np.float64)
    # Sums of such counts must stay finite too: they are divided by.
    if not (counts.min() >= 0.0 and counts.max() <= MOST_EVIDENCE):
        raise InvalidTensor(f"input {EVIDENCE!r} holds counts: none negative, none above {MOST_EVIDENCE:g}")
    return tuple(tuple(row) for row in counts.tolist())


def _pad(
    declared: Mapping[str, TensorSpec], inputs: dict[str, Array]
) -> tuple[int, dict[str, npt.NDArray[np.int64]] | None]:
    """Bring every input whose length varies to the request's one bucket, in place: the smallest that holds
    them all."""
    bucket, longest = 0, {}
    for name, data in inputs.items():
        spec = declared[name]
        if -1 not in spec.shape:
            continue
        length = max(size for size, want in zip(data.shape[1:], spec.shape, strict=True) if want == -1)
        own = spec.bucket_of(length)
        if own < 0 or not length:
            raise InvalidTensor(
                f"input {name!r} has length {length}; lengths are 1 to {max(spec.buckets, default=0)}"
            )
        bucket, longest[name] = max(bucket, own), length
    if not longest:
        return 0, None
    for name in longest:
        spec, data = declared[name], inputs[name]
        target = spec.row_shape(min(bucket, len(spec.buckets) - 1))
        if data.shape[1:] != target:
            gaps = [(0, 0), *((0, want - size) for want, size in zip(target, data.shape[1:], strict=True))]
            edge = spec.pad is Padding.EDGE
            inputs[name] = np.pad(data, gaps, mode="edge") if edge else np.pad(data, gaps)
    return bucket, {n: np.full(len(inputs[n]), length, np.int64) for n, length in longest.items()}


def check_outputs(names: tuple[str, ...]) -> None:
    for name in names:
        if name not in OUTPUTS:
            raise InvalidRequest(f"there is no output {name[:80]!r}; there are {', '.join(OUTPUTS)}")
    if len(set(names)) != len(names):
        raise InvalidRequest(f"an output is asked for twice: {', '.join(names)}")


def deadline_s(application: Application, call: InferCall) -> tuple[str, float]:
    """The query type and the effective relative deadline: the smallest of those given, or else the query
    type's own; never more than the maximum of the type and that of the application."""
    query = call.parameters.get("query", "default")
    if not isinstance(query, str):
        raise InvalidRequest(f"parameter query is the name of a query type, not {query!r}")
    try:
        kind = application.query(query)
    except InvalidConfiguration as error:
        raise InvalidRequest(str(error)) from None
    given = [
        value
        for value in (
            _timeout_s(call.parameters.get("timeout")),
            _milliseconds(call.parameters.get("deadline_ms")),
            call.call_deadline_s,
        )
        if value is not None
    ]
    return query, min(min(given, default=kind.deadline_s), kind.max_deadline_s, application.max_deadline_s)


def check_floor(application: Application, call: InferCall, present: Sequence[str] | None) -> float:
    """The least accuracy that the call asks for, 0 where it asks for none: some variant that may answer reaches it.

    `present`: the inputs that came, None for all. The accuracies are those of validation data, to the four digits that
    the metadata tell of them. Raises InvalidRequest for what is no accuracy, ConstraintInfeasible for too much of it.
    """
    floor = call.parameters.get("min_accuracy")
    if floor is None:
        return 0.0
    if isinstance(floor, bool | str) or not 0.0 <= floor <= 1.0:
        raise InvalidRequest(f"parameter min_accuracy is a number from 0 to 1, not {floor!r:.40}")
    candidates = [application.variant(call.pinned)] if call.pinned else application.variants
    able = [v for v in candidates if present is None or all(name in present for name in v.needs)]
    known = [(v.quality.accuracy, v.name) for v in able if v.quality is not None]
    best, name = max(known, default=(0.0, ""))
    if floor > 0.0 and not any(v.quality is not None and v.quality.reaches(floor) for v in able):
        has = f"the best that may answer, {name!r}, has {best:.4f}" if known else "none of them has a profile"
        raise ConstraintInfeasible(
            f"no variant of {application.name!r} has the accuracy of {floor:g} that is asked for: {has}"
        )
    return float(floor)


def priority(parameters: Mapping[str, Scalar]) -> int:
    """`priority` as Request has it: 0 for the middle, 1 for the highest. A number beyond the lowest is the lowest.
    Raises InvalidRequest for what is no whole number, or less than 0."""
    value = _unsigned(parameters.get("priority"))
    if value is None:
        raise InvalidRequest(
            f"parameter priority is a whole number, 0 for the default, 1 for the highest, not "
            f"{parameters['priority']!r:.40}"
        )
    return min(value, LOWEST)


def _timeout_s(value: Scalar) -> float | None:
    """`timeout` in microseconds, a whole number or its digits; 0 means none, as clients of Triton expect."""
    number = _unsigned(value)
    if number is None:
        raise InvalidRequest(
            f"parameter timeout is a whole number of microseconds, 0 or more, not {value!r:.40}"
        )
    return number * 1e-6 or None


def _unsigned(value: Scalar) -> int | None:
    """A whole number of 64 bits, or its digits; 0 where nothing came, None for anything else."""
    if value is None:
        return 0
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 20:
        value = int(value)
    return value if type(value) is int and 0 <= value < 1 << 64 else None


def _milliseconds(value: Scalar) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool | str) or not 0.0 < value < 1e15:
        raise InvalidRequest(f"parameter deadline_ms is a positive number of milliseconds, not {value!r:.40}")
    return value * 1e-3


def flag(parameters: Mapping[str, Scalar], name: str, default: bool = False) -> bool:
    """A parameter that is true or false. Raises InvalidRequest for anything else."""
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidRequest(f"parameter {name} is true or false, not {value!r:.40}")
    return value


def seconds_from_text(text: str, what: str) -> float:
    """A header's positive, finite number of seconds."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 < seconds < 1e12:
        raise InvalidRequest(f"{what} is a positive number of seconds, not {text[:40]!r}")
    return seconds

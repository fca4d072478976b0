"""What clients send, and how each variant wants it: names, datatypes, shapes and the maps between them."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from peekserve.errors import InvalidConfiguration, InvalidTensor

# Open Inference Protocol datatypes (required_api.md, "Tensor Data Types") and their numpy equals. BYTES is
# not here: no classifier of ours takes it as an input.
DATATYPES: dict[str, np.dtype[np.generic]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
}


class Padding(StrEnum):
    """How a row is brought to its bucket's length."""

    ZERO = "zero"
    EDGE = "edge"


class Missing(StrEnum):
    """What a NaN in an input means."""

    REJECT = "reject"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input of an application. `shape` is per row, without the batch axis; a -1 is a length that varies.

    Where a length varies, a row is padded to the smallest of `buckets` that holds it, by its own length
    alone, so that an answer never depends on the rows it shares a batch with.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    buckets: tuple[int, ...] = ()
    pad: Padding = Padding.ZERO
    missing: Missing = Missing.REJECT

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return DATATYPES[self.datatype]

    def bucket_of(self, length: int) -> int:
        """Index of the smallest bucket that holds `length`; -1 when none does."""
        return next((i for i, size in enumerate(self.buckets) if length <= size), -1)

    def row_shape(self, bucket: int) -> tuple[int, ...]:
        """The shape of one row once it is padded to bucket number `bucket`."""
        return tuple(self.buckets[bucket] if size == -1 else size for size in self.shape)


def pad_to_bucket(array: npt.NDArray[np.generic], spec: TensorSpec, bucket: int) -> npt.NDArray[np.generic]:
    """One row [*shape] or rows of one length [n, *shape], brought to `spec.row_shape(bucket)` at the end of
    the axis whose length varies. Rows of a fixed shape come back as they are.

    Raises InvalidTensor when a row does not fit.

    >>> pad_to_bucket(np.array([1.0, 2.0]), TensorSpec("x", "FP64", (-1,), (2, 4), Padding.EDGE), 1).tolist()
    [1.0, 2.0, 2.0, 2.0]
    """
    target = spec.row_shape(bucket)
    lead = array.ndim - len(target)
    if lead not in (0, 1):
        raise InvalidTensor(f"input {spec.name!r}: {array.ndim} axes, where a row has {len(target)}")
    short = [want - have for want, have in zip(target, array.shape[lead:], strict=True)]
    if any(gap < 0 or (gap > 0 and size != -1) for gap, size in zip(short, spec.shape, strict=True)):
        raise InvalidTensor(f"input {spec.name!r}: a row of shape {array.shape[lead:]} does not fit {target}")
    if not any(short):
        return array
    gaps = [(0, 0)] * lead + [(0, gap) for gap in short]
    # An empty row has no edge to repeat.
    if spec.pad is Padding.EDGE and array.size:
        return np.pad(array, gaps, mode="edge")
    return np.pad(array, gaps)


@dataclass(frozen=True, slots=True)
class LogMel:
    """Log-mel spectrogram of a mono waveform: `rate` in Hz, `window_s` and `hop_s` in seconds, `bands`
    filters."""

    rate: int
    window_s: float
    hop_s: float
    bands: int


@dataclass(frozen=True, slots=True)
class InputMap:
    """How one application input becomes one tensor of a model. Applied in the order of the fields.

    `scale` and `offset`: x * scale + offset. `transpose`: permutation of the per-row axes.
    """

    source: str
    name: str
    logmel: LogMel | None = None
    resize: tuple[int, int] | None = None
    reshape: tuple[int, ...] | None = None
    transpose: tuple[int, ...] | None = None
    scale: float = 1.0
    offset: float = 0.0
    cast: str | None = None


class OutputForm(StrEnum):
    """What a model's output tensor holds."""

    LOGITS = "logits"
    PROBABILITIES = "probabilities"
    LABEL = "label"


@dataclass(frozen=True, slots=True)
class OutputMap:
    """How a model's output becomes class scores [n, C] that sum to 1: the one output contract of an
    application.

    `order`: for logits and probabilities, the class index of each output column. `labels`: for `label`, pairs
    of (value in the tensor, class index).
    """

    name: str
    form: OutputForm
    order: tuple[int, ...] = ()
    labels: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if self.form is OutputForm.LABEL and not self.labels:
            raise InvalidConfiguration(
                f"output {self.name!r} of form 'label' needs a map of its labels to classes"
            )

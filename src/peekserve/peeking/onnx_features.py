"""A small ONNX network as a source of features. The only file of peeking that imports ONNX Runtime."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from peekserve.errors import BackendError, InvalidConfiguration, InvalidModel

_DTYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


class OnnxFeatures:
    """Runs a model whose first output, flattened, is the features of a row. One thread, no spinning: it runs
    beside the event loop.

    A model with one input takes the application's only input whatever its name; with several, names must
    agree. Raises InvalidModel when the file cannot be loaded, InvalidConfiguration when its inputs are not
    there.
    """

    def __init__(self, path: Path, names: tuple[str, ...]) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own exceptions share no public root
            raise InvalidModel(f"peek features: {path} cannot be loaded as an ONNX model: {error}") from error
        wanted = self._session.get_inputs()
        if len(wanted) == 1 and len(names) == 1:
            sources = {wanted[0].name: names[0]}
        else:
            absent = sorted({tensor.name for tensor in wanted} - set(names))
            if absent:
                raise InvalidConfiguration(
                    f"peek features: {path.name} needs {', '.join(absent)}; the peek has {', '.join(names)}"
                )
            sources = {tensor.name: tensor.name for tensor in wanted}
        strange = sorted({tensor.type for tensor in wanted} - set(_DTYPES))
        if strange:
            raise InvalidModel(
                f"peek features: {path.name} takes {', '.join(strange)}; known are {', '.join(_DTYPES)}"
            )
        self._feeds = [(tensor.name, sources[tensor.name], _DTYPES[tensor.type]) for tensor in wanted]
        self._output = self._session.get_outputs()[0].name

    def __call__(self, inputs: Mapping[str, npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        """float64 [n, D] for inputs [n, *row shape]. Raises BackendError when the model fails or returns
        other rows."""
        feeds = {name: inputs[source].astype(dtype) for name, source, dtype in self._feeds}
        rows = len(next(iter(inputs.values())))
        try:
            values = np.asarray(self._session.run([self._output], feeds)[0], dtype=np.float64)
        except Exception as error:
            raise BackendError(f"peek features: the ONNX model failed on {rows} rows: {error}") from error
        if values.ndim < 1 or len(values) != rows:
            raise BackendError(f"peek features: the ONNX model returned shape {values.shape} for {rows} rows")
        return values.reshape(rows, -1)

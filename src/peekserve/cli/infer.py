"""`peekserve infer`: one row of a file, sent to a server as any client would send it."""

import json
import urllib.parse
import zipfile
from pathlib import Path

import numpy as np

from peekserve.cli.asking import ask
from peekserve.cli.explained import explained
from peekserve.cli.terminal import console
from peekserve.errors import InvalidData

# numpy's kinds under the protocol's names; what is not here is sent as FP32.
_NAMES = {
    "float64": "FP64",
    "float32": "FP32",
    "float16": "FP16",
    "int64": "INT64",
    "int32": "INT32",
    "uint8": "UINT8",
}


def infer(
    address: str,
    model: str,
    data: Path,
    row: int,
    deadline_ms: float | None,
    as_json: bool,
    explain: bool = False,
) -> int:
    """Print the answer, or the server's own words for why there is none (then 1). `explain`: also what else the server
    considered."""
    name, _, variant = (urllib.parse.quote(part, safe="") for part in model.partition("/"))
    path = f"/v2/models/{name}" + (f"/versions/{variant}" if variant else "") + "/infer"
    request: dict[str, object] = {
        "inputs": _tensors(data, row),
        "outputs": [{"name": "class"}, {"name": "scores"}],
    }
    parameters = {"deadline_ms": deadline_ms, "explain": True if explain else None}
    request["parameters"] = {name: value for name, value in parameters.items() if value is not None}
    told = ask(address, path, request, as_json, "outputs")
    if told is None:
        return 1
    if as_json:
        print(json.dumps(told))
        return 0
    out = console()
    outputs = {output["name"]: output["data"] for output in told["outputs"]}
    out.print(f"[bold]{outputs['class'][0]}[/bold]  ({max(outputs['scores']):.3f})")
    parameters = told.get("parameters", {})
    explanation = parameters.pop("explanation", None)
    for key, value in parameters.items():
        out.print(f"  {key:<18} {value}", markup=False)
    for words in json.loads(explanation)["rows"] if explanation else ():
        out.print(explained(words, out.width))
    return 0


def _tensors(path: Path, row: int) -> list[dict[str, object]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files if archive[name].ndim}
    except FileNotFoundError:
        raise InvalidData(f"{path}: there is no such file") from None
    except (OSError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        # What is no archive at all numpy takes for a pickle, and advises to trust it.
        why = "it is another kind of file, or holds Python objects" if "allow_pickle" in str(error) else error
        raise InvalidData(f"{path} is no archive of plain arrays (npz): {why}") from None
    rows = {len(values) for values in arrays.values()}
    if not 0 <= row < min(rows, default=0):
        raise InvalidData(f"{path} has rows 0 to {min(rows, default=0) - 1}, not {row}")
    tensors: list[dict[str, object]] = []
    for name, values in arrays.items():
        if name in ("labels", "groups") or name.endswith("_length"):
            continue
        one = values[row]
        if f"{name}_length" in arrays:
            one = one[: int(arrays[f"{name}_length"][row])]
        datatype = _NAMES.get(str(one.dtype), "FP32")
        tensors.append(
            {"name": name, "shape": [1, *one.shape], "datatype": datatype, "data": one.ravel().tolist()}
        )
    return tensors

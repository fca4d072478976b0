"""`peekserve infer`: one row of a file, sent to a server as any client would send it."""

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

import numpy as np

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


def infer(address: str, model: str, data: Path, row: int, deadline_ms: float | None, as_json: bool) -> int:
    """Print the answer, or the server's own words for why there is none (then 1)."""
    name, _, variant = (urllib.parse.quote(part, safe="") for part in model.partition("/"))
    address = address.removeprefix("http://").rstrip("/")
    path = f"/v2/models/{name}" + (f"/versions/{variant}" if variant else "") + "/infer"
    request: dict[str, object] = {
        "inputs": _tensors(data, row),
        "outputs": [{"name": "class"}, {"name": "scores"}],
    }
    if deadline_ms is not None:
        request["parameters"] = {"deadline_ms": deadline_ms}
    post = urllib.request.Request(
        f"http://{address}{path}", json.dumps(request).encode(), {"Content-Type": "application/json"}
    )
    out = console()
    try:
        with urllib.request.urlopen(post, timeout=60) as response:
            told = json.loads(response.read())
    except urllib.error.HTTPError as error:
        refused = error.read().decode(errors="replace")
        out.print(
            refused if as_json else f"{error.code}: {json.loads(refused).get('error', refused)}", markup=False
        )
        return 1
    except (urllib.error.URLError, http.client.HTTPException, ValueError) as error:
        out.print(f"no server that speaks HTTP at {address}: {error}", markup=False)
        return 1
    if as_json:
        print(json.dumps(told))
        return 0
    outputs = {output["name"]: output["data"] for output in told["outputs"]}
    out.print(f"[bold]{outputs['class'][0]}[/bold]  ({max(outputs['scores']):.3f})")
    for key, value in told.get("parameters", {}).items():
        out.print(f"  {key:<18} {value}", markup=False)
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

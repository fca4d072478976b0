"""Somebody else's fuzzer at the HTTP door: schemathesis, with the protocol's own document and with ours.

    python -m tests.whole.fuzz localhost:8000 --cases 5000

Whatever it makes up, an answer must be documented: its status, its content type, the shape of its body, `Allow` beside
a 405. No answer may be a server's error but those that say what is not offered (501) and what a busy server does (503,
504).
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

OIP = Path(__file__).parent / "oip" / "open_inference_rest.yaml"
# All that is known by now, but one: both documents allow `inputs: []` and any name of a tensor, which no model takes.
WITHOUT = "positive_data_acceptance"
EXPECTED = ["2xx", "4xx", "501", "503", "504"]
# Examples, then what the edges of a document suggest, then chance.
PHASES = "examples,coverage,fuzzing"
# What these change is what is served: they are tried last, and what they unloaded is loaded again.
CHANGING = ("/v2/repository/models/", "/api/v1/admin/")
# It knows how to send bytes, but not that archives are bytes.
HOOKS = """
import schemathesis
for kind in ("x-tar", "gzip", "x-gzip", "zip"):
    schemathesis.serializer.alias(f"application/{kind}", "application/octet-stream")
"""
HONEST = ("400", "401", "403", "404", "405", "408", "413", "415", "422", "429", "503", "504")

Json = dict[str, Any]


def repaired(document: Json, models: dict[str, list[str]]) -> Json:
    """The protocol's document, such that a tool can use it: real paths, both kinds of them, names that exist, and the
    errors that every server has. `models`: versions by name."""
    wrong = {
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/inference_error_response"}}}
    }
    schemas = document["components"]["schemas"]
    schemas["inference_error_response"]["required"] = ["error"]
    # Not in the specification; but clients that write every field they know write this one so, and mean none.
    schemas["inference_request"]["properties"]["id"]["nullable"] = True
    paths: Json = {}
    for path, methods in document["paths"].items():
        path = path.replace("${", "{")
        paths[path] = methods
        if "/versions/" in path:
            without = [p for p in methods["parameters"] if p["name"] != "MODEL_VERSION"]
            paths[path.replace("/versions/{MODEL_VERSION}", "")] = {**methods, "parameters": without}
    paths["/v2"] = paths["/v2/"]
    for path, methods in paths.items():
        paths[path] = methods = json.loads(json.dumps(methods))
        for method, operation in methods.items():
            if method != "parameters":
                operation.pop("operationId")
                operation["responses"].update({code: {"description": "Refused.", **wrong} for code in HONEST})
    for ready in (p for p in paths if p.endswith(("live", "ready"))):
        # 503 with the state where it was asked for, with an error where the asking was wrong.
        paths[ready]["get"]["responses"]["503"] = {"description": "Not ready."}
    return pinned({**document, "paths": paths}, models)


def pinned(document: Json, models: dict[str, list[str]]) -> Json:
    """The same with names of models and versions that exist."""
    versions = sorted({version for known in models.values() for version in known})
    names = {
        **dict.fromkeys(("MODEL_NAME", "model", "application"), sorted(models)),
        **dict.fromkeys(("MODEL_VERSION", "version"), versions),
    }
    for methods in document["paths"].values():
        for parameter in methods.get("parameters", ()):
            if parameter["name"] in names:
                parameter["schema"] = {"type": "string", "enum": names[parameter["name"]]}
    return document


def divided(document: Json) -> tuple[Json, Json]:
    """The same in two: all that leaves alone what is served, and the rest."""
    paths = document["paths"]
    changing = [path for path in paths if path.startswith(CHANGING)]
    return (
        {**document, "paths": {path: told for path, told in paths.items() if path not in changing}},
        {**document, "paths": {path: paths[path] for path in changing}},
    )


def with_examples(document: Json, inputs: dict[str, list[Json]], **more_asked: Json) -> Json:
    """The same with bodies that are answered: a row of zeros for each model, and what may be asked beside it.
    `inputs`: by model, as in its metadata."""
    examples: Json = {}
    for model, tensors in inputs.items():
        body: Json = {"inputs": [_zeros(tensor) for tensor in tensors]}
        asked: Json = {
            "plain": {},
            "classes": {
                "outputs": [{"name": "scores", "parameters": {"classification": 2}}, {"name": "class"}]
            },
            "why": {"id": "7", "parameters": {"explain": True, "deadline_ms": 500}},
            "floor": {"parameters": {"min_accuracy": 1.0}},
            "late": {"parameters": {"timeout": 1}},
            **more_asked,
        }
        examples |= {f"{model}-{name}": {"value": {**body, **more}} for name, more in asked.items()}
    for path, methods in document["paths"].items():
        if path.endswith("/infer"):
            methods["post"]["requestBody"]["content"]["application/json"]["examples"] = examples
    return document


def _zeros(tensor: Json) -> Json:
    shape = [max(size, 1) for size in tensor["shape"]]
    count = 1
    for size in shape:
        count *= size
    value = False if tensor["datatype"] == "BOOL" else 0
    return {"name": tensor["name"], "datatype": tensor["datatype"], "shape": shape, "data": [value] * count}


@dataclass(frozen=True)
class Fuzzed:
    """What one run of schemathesis came to."""

    document: str
    cases: int
    passed: bool
    report: str


def fuzz(address: str, examples: int, seed: int = 1, key: str = "") -> list[Fuzzed]:
    """Both documents against the server at `address` (host:port), ours in two halves; `examples` cases of chance for
    each operation."""
    models: dict[str, list[str]] = {}
    for entry in _asked(address, "/v2/repository/index", key, b""):
        models.setdefault(entry["name"], []).append(entry["version"])
    inputs = {name: _asked(address, f"/v2/models/{name}", key)["inputs"] for name in models}
    raw = {
        "outputs": [{"name": "label", "parameters": {"binary_data": True}}]
    }  # Triton's, not the protocol's
    ours, changing = divided(pinned(_asked(address, "/openapi.json", key), models))
    ours = with_examples(ours, inputs, raw=raw)
    theirs = with_examples(repaired(yaml.safe_load(OIP.read_text()), models), inputs)
    ran = [
        _run(name, document, address, examples, seed, key)
        for name, document in (
            ("the protocol's document", theirs),
            ("our document", ours),
            ("our document, what changes what is served", changing),
        )
    ]
    for name in models:
        with suppress(urllib.error.HTTPError):  # 501 where nothing is loaded by hand
            _asked(address, f"/v2/repository/models/{name}/load", key, b"")
    return ran


def _asked(address: str, path: str, key: str, body: bytes | None = None) -> Any:
    request = urllib.request.Request(f"http://{address}{path}", body, {"x-api-key": key} if key else {})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def _run(name: str, document: Json, address: str, examples: int, seed: int, key: str) -> Fuzzed:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "openapi.json").write_text(json.dumps(document))
        (Path(folder) / "schemathesis.toml").write_text(
            f'hooks = "hooks.py"\n[checks.not_a_server_error]\nexpected-statuses = {EXPECTED}\n'
        )
        (Path(folder) / "hooks.py").write_text(HOOKS)
        command = [
            sys.executable, "-m", "schemathesis.cli", "run", "openapi.json", "--url", f"http://{address}",
            "--phases", PHASES, "--exclude-checks", WITHOUT, "--max-examples", str(examples), "--seed", str(seed),
            "--warnings", "off", "--generation-database", "none", "--no-color",
        ] + (["--header", f"x-api-key: {key}"] if key else [])  # fmt: skip
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    found = re.search(r"(\d+) generated", done.stdout)
    return Fuzzed(name, int(found[1]) if found else 0, done.returncode == 0, done.stdout + done.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("address", help="host:port of a running server's HTTP door")
    parser.add_argument("--cases", type=int, default=5000, help="at least so many in all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--key", default="", help="for a server that asks for one")
    told = parser.parse_args()
    # About thirty operations of both documents take anything that chance could vary.
    cases, examples, failed = 0, max(told.cases // 30, 1), False
    while cases < told.cases and not failed:
        ran = fuzz(told.address, examples, told.seed, told.key)
        cases = sum(run.cases for run in ran)
        failed = not all(run.passed and run.cases for run in ran)
        for run in ran:
            print(run.report if not run.passed else f"{run.document}: {run.cases} cases, nothing wrong")
        examples *= 2
    print(f"{cases} cases in all, {'something was wrong' if failed else 'nothing wrong'}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

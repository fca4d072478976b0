"""The OpenAPI document of the HTTP door, and a page that shows it without asking anything of another
server."""

from typing import Any

from peekserve.domain.tensors import DATATYPES
from peekserve.server.calls import OUTPUTS

Json = dict[str, Any]

_ERRORS = {
    "400": "The body, a tensor or a parameter is wrong.",
    "401": "No key, or one that is not known.",
    "403": "A key that is not good for this.",
    "404": "No such application, variant or path.",
    "405": "The path takes another method.",
    "409": "The stream is stale, or has no window yet; the request has no answer yet, or was confirmed already.",
    "408": "The body did not come to its end in time.",
    "413": "More bytes than the limit.",
    "415": "A content type or encoding that is not read here.",
    "422": "No variant has the accuracy that is asked for.",
    "429": "This client asks too often.",
    "500": "Something broke.",
    "501": "Not offered here.",
    "503": "Not ready, overloaded, shutting down, or no variant can meet the deadline.",
    "504": "The deadline passed.",
}
# Open to everybody, without a key.
_OPEN = ("/v2/health/live", "/v2/health/ready")


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _content(schema: Json, kind: str = "application/json") -> Json:
    return {kind: {"schema": schema}}


def _object(required: list[str], **properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": required}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


_TEXT: Json = {"type": "string"}
_WHOLE: Json = {"type": "integer"}
_FLAG: Json = {"type": "boolean"}


def _schemas() -> Json:
    scalar = {"type": ["string", "number", "boolean", "null"]}
    parameters = {"type": "object", "additionalProperties": scalar}
    tensor = {"name": _TEXT, "shape": _list(_WHOLE), "datatype": {"enum": [*DATATYPES, "BYTES"]}}
    described = _object(["name", "datatype", "shape"], **tensor)
    stat = _object(["count", "ns"], count=_WHOLE, ns=_WHOLE)
    return {
        "stream": {"type": "object"},
        "error": _object(["error", "code"], error=_TEXT, code=_TEXT),
        "parameters": parameters,
        "data": _list({"anyOf": [_ref("data"), {"type": ["number", "string", "boolean", "null"]}]}),
        "request": _object(
            ["inputs"],
            id={"type": ["string", "null"]},
            parameters=_object(
                [],
                timeout={
                    "type": ["integer", "string", "null"],
                    "description": "relative deadline in microseconds",
                },
                deadline_ms={"type": ["number", "null"], "exclusiveMinimum": 0},
                query={**_TEXT, "description": "query type of the application"},
                min_accuracy={
                    "type": ["number", "null"],
                    "minimum": 0,
                    "maximum": 1,
                    "description": "refused with 422 where no variant is profiled at it",
                },
                stream={**_TEXT, "description": "ask about the newest window of this stream; no inputs then"},
                explain={**_FLAG, "description": "say with the answer what else was considered"},
                binary_data_output=_FLAG,
            ),
            inputs=_list(
                _object(
                    ["name", "shape", "datatype"], **tensor, parameters=_ref("parameters"), data=_ref("data")
                )
            ),
            outputs=_list(
                _object(
                    ["name"],
                    name={"enum": list(OUTPUTS)},
                    parameters=_object(
                        [],
                        binary_data=_FLAG,
                        classification={
                            **_WHOLE,
                            "minimum": 0,
                            "description": "of scores: so many classes, as texts score:index:label",
                        },
                    ),
                )
            ),
        ),
        "response": _object(
            ["model_name", "outputs"],
            model_name=_TEXT,
            model_version=_TEXT,
            id=_TEXT,
            parameters=_ref("parameters"),
            outputs=_list(
                _object(
                    ["name", "shape", "datatype"], **tensor, parameters=_ref("parameters"), data=_ref("data")
                )
            ),
        ),
        "server": _object(
            ["name", "version", "extensions"], name=_TEXT, version=_TEXT, extensions=_list(_TEXT)
        ),
        "model": _object(
            ["name", "platform"],
            name=_TEXT,
            versions=_list(_TEXT),
            platform=_TEXT,
            inputs=_list(described),
            outputs=_list(described),
            properties={"type": "object", "additionalProperties": _TEXT},
        ),
        "live": _object(["live"], live=_FLAG),
        "ready": _object(["ready"], name=_TEXT, ready=_FLAG),
        "config": _object(["name", "max_batch_size", "input", "output"], name=_TEXT, max_batch_size=_WHOLE),
        "statistics": _object(
            ["model_stats"],
            model_stats=_list(
                _object(
                    ["name", "version"],
                    name=_TEXT,
                    version=_TEXT,
                    inference_count=_WHOLE,
                    execution_count=_WHOLE,
                    inference_stats={"type": "object", "additionalProperties": stat},
                )
            ),
        ),
        "accepted": _object(
            ["accepted"],
            accepted={**_WHOLE, "description": "rows"},
            refused=_list(
                _object(["request_id", "error", "code"], request_id=_TEXT, error=_TEXT, code=_TEXT)
            ),
        ),
        "drift": _object(
            ["application", "score", "confirmed", "prior"],
            application=_TEXT,
            score={"type": "number", "minimum": 0, "description": "about 1 is usual; above 3, look at it"},
            scores={"type": "object", "additionalProperties": {"type": "number"}},
            confirmed=_WHOLE,
            believed_accuracy={"type": ["number", "null"]},
            confirmed_accuracy={"type": ["number", "null"]},
            confirmed_interval=_list({"type": "number"}),
            prior={"type": "object", "additionalProperties": {"type": "number"}},
        ),
        "drifts": _object(["applications"], applications=_list(_ref("drift"))),
        "index": _list(_object(["name"], name=_TEXT, version=_TEXT, state=_TEXT, reason=_TEXT)),
    }


def _error(code: str) -> Json:
    return {"description": _ERRORS[code], "content": _content(_ref("error"))}


def _operation(summary: str, schema: str, errors: str, body: Json | None = None) -> Json:
    told: Json = {
        "summary": summary,
        "responses": {
            "200": {"description": "Done.", "content": _content(_ref(schema))},
            **{code: _error(code) for code in errors.split()},
        },
    }
    if body is not None:
        told["requestBody"] = body
    return told


def document() -> Json:
    """OpenAPI 3.1 of every path in http_api.py."""
    infer_body = {
        "required": True,
        "content": {
            **_content(_ref("request")),
            **_content({"type": "string", "format": "binary"}, "application/octet-stream"),
        },
    }
    infer = _operation("Infer", "response", "400 404 405 409 413 415 422 429 500 503 504", infer_body)
    infer["responses"]["200"]["content"].update(
        _content({"type": "string", "format": "binary"}, "application/octet-stream")
    )
    wanted = _object(["data_wanted", "path"], data_wanted=_TEXT, path=_TEXT)
    infer["responses"]["202"] = {"description": "The data are wanted.", "content": _content(wanted)}
    health = {"description": "Not now.", "content": _content(_ref("live"))}
    live = _operation("Is the server alive?", "live", "405")
    ready = _operation("Can it serve?", "ready", "405")
    live["responses"]["503"] = health
    ready["responses"]["503"] = {**health, "content": _content(_ref("ready"))}
    model_ready = _operation("Can this model serve?", "ready", "404 405")
    model_ready["responses"]["503"] = {**health, "content": _content(_ref("ready"))}
    server = _operation("Name, version and extensions", "server", "405")
    paths: Json = {
        "/v2": {"get": server},
        "/v2/": {"get": server},
        "/v2/health/live": {"get": live},
        "/v2/health/ready": {"get": ready},
        "/v2/models/stats": {"get": _operation("Statistics of everything", "statistics", "405")},
        "/v2/repository/index": {
            "post": _operation(
                "Every variant and its state",
                "index",
                "400 405 413",
                {"content": _content(_object([], ready=_FLAG))},
            )
        },
    }
    for version in ("", "/versions/{version}"):
        base = f"/v2/models/{{model}}{version}"
        names = ["model", *(["version"] if version else [])]
        given = [{"name": name, "in": "path", "required": True, "schema": _TEXT} for name in names]
        for path, operation in {
            base: {"get": _operation("What it takes and gives", "model", "404 405")},
            f"{base}/ready": {"get": model_ready},
            f"{base}/config": {"get": _operation("Configuration, as Triton's", "config", "404 405")},
            f"{base}/stats": {"get": _operation("Statistics, as Triton's", "statistics", "404 405")},
            f"{base}/infer": {"post": infer},
        }.items():
            paths[path] = {"parameters": given, **operation}
    for word in ("load", "unload"):
        control = _operation(f"{word.title()} a model by hand: not offered", "error", "405 501")
        del control["responses"]["200"]
        paths[f"/v2/repository/models/{{model}}/{word}"] = {
            "parameters": [{"name": "model", "in": "path", "required": True, "schema": _TEXT}],
            "post": control,
        }
    text = {
        "200": {"description": "Prometheus or OpenMetrics text.", "content": _content(_TEXT, "text/plain")},
        "405": _error("405"),
    }
    paths |= _streams()
    paths["/api/v1/data/{token}"] = {
        "parameters": [{"name": "token", "in": "path", "required": True, "schema": _TEXT}],
        "post": _operation(
            "Bring the data that were asked for", "response", "400 404 405 413 415 500 503 504", infer_body
        ),
    }
    paths |= _feedback()
    paths["/metrics"] = {"get": {"summary": "Metrics", "responses": text}}
    for path, methods in paths.items():
        for operation in (told for method, told in methods.items() if method != "parameters"):
            more = [] if path in _OPEN else ["401", "403", "429"]
            if "requestBody" in operation:
                more.append("408")
            operation["responses"].update({code: _error(code) for code in more})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "peekserve",
            "version": "2",
            "description": "Open Inference Protocol v2. A model is an application, a version is one of its variants; "
            "without a version the server chooses.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": _schemas()},
    }


def _feedback() -> Json:
    label: Json = {"type": ["string", "integer"], "description": "a class by name, or by its number from 0"}
    labels = _list({"type": ["string", "integer", "null"]})
    one = _object(["request_id"], request_id=_TEXT, label=label, labels=labels)
    body = {
        "required": True,
        "content": _content({"anyOf": [one, _object(["feedback"], feedback=_list(one))]}),
    }
    accepted = "The true class of an answer, or of many"
    given = [{"name": "application", "in": "path", "required": True, "schema": _TEXT}]
    return {
        "/api/v1/feedback": {
            "post": _operation(accepted, "accepted", "400 404 405 409 413 415 429", body),
        },
        "/api/v1/drift": {"get": _operation("How every stream stands", "drifts", "404 405")},
        "/api/v1/drift/{application}": {
            "parameters": given,
            "get": _operation("Is this stream as it was believed to be?", "drift", "404 405"),
        },
    }


def _streams() -> Json:
    chunk = _object(
        ["first", "samples"],
        first={**_WHOLE, "description": "number of the first sample", "minimum": 0},
        samples={"type": "object", "additionalProperties": _ref("data")},
    )
    body = {
        "required": True,
        "content": {
            **_content(chunk),
            **_content({"type": "string", "format": "binary"}, "application/octet-stream"),
        },
    }
    given = [
        {"name": name, "in": "path", "required": True, "schema": _TEXT} for name in ("application", "stream")
    ]
    base = "/api/v1/streams/{application}/{stream}"
    delete = _operation("Close a stream", "stream", "400 404 405")
    delete["responses"] = {"204": {"description": "Closed."}, **delete["responses"]}
    del delete["responses"]["200"]
    since = {"name": "since", "in": "query", "schema": _WHOLE}
    return {
        base: {
            "parameters": given,
            "get": _operation("Where a stream stands", "stream", "400 404 405"),
            "post": _operation("Push raw samples", "stream", "400 404 405 413 415 429", body),
            "delete": delete,
        },
        f"{base}/results": {
            "parameters": [*given, since],
            "get": _operation("Outcomes of recurring queries", "stream", "400 404 405"),
        },
    }


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>peekserve: paths</title>
<style>
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
code{font:14px ui-monospace,monospace}td{padding:.2rem .8rem .2rem 0;vertical-align:top}
@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}a{color:#8bf}}
</style>
<h1>peekserve</h1><p id="about"></p><table id="paths"></table>
<p>Everything in one document: <a href="/openapi.json">openapi.json</a>.</p>
<script>
fetch("/openapi.json").then(answer => answer.json()).then(api => {
  document.getElementById("about").textContent = api.info.description;
  for (const [path, methods] of Object.entries(api.paths))
    for (const [method, told] of Object.entries(methods)) {
      if (method === "parameters") continue;
      const row = document.getElementById("paths").insertRow();
      const cell = () => row.insertCell().appendChild(document.createElement("code"));
      cell().textContent = method.toUpperCase();
      cell().textContent = path;
      row.insertCell().textContent = told.summary + " (" + Object.keys(told.responses).join(", ") + ")";
    }
});
</script></html>
"""

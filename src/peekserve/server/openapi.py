"""The OpenAPI document of the HTTP door, and a page that shows it without asking anything of another
server."""

from peekserve.domain.tensors import DATATYPES
from peekserve.server.calls import OUTPUTS
from peekserve.server.openapi_admin import admin_paths, admin_schemas, control_paths
from peekserve.server.openapi_parts import (
    FLAG,
    TEXT,
    WHOLE,
    Json,
    a_content,
    a_list,
    an_error,
    an_object,
    an_operation,
    ref,
)

# Open to everybody, without a key.
_OPEN = ("/v2/health/live", "/v2/health/ready")


def _schemas() -> Json:
    scalar = {"type": ["string", "number", "boolean", "null"]}
    parameters = {"type": "object", "additionalProperties": scalar}
    tensor = {"name": TEXT, "shape": a_list(WHOLE), "datatype": {"enum": [*DATATYPES, "BYTES"]}}
    described = an_object(["name", "datatype", "shape"], **tensor)
    stat = an_object(["count", "ns"], count=WHOLE, ns=WHOLE)
    return {
        "stream": {"type": "object"},
        "error": an_object(["error", "code"], error=TEXT, code=TEXT),
        "parameters": parameters,
        "data": a_list({"anyOf": [ref("data"), {"type": ["number", "string", "boolean", "null"]}]}),
        "request": an_object(
            ["inputs"],
            id={"type": ["string", "null"]},
            parameters=an_object(
                [],
                timeout={
                    "type": ["integer", "string", "null"],
                    "description": "relative deadline in microseconds",
                },
                deadline_ms={"type": ["number", "null"], "exclusiveMinimum": 0},
                query={**TEXT, "description": "query type of the application"},
                priority={
                    "type": ["integer", "string", "null"],
                    "minimum": 0,
                    "description": "0: the default, 1: the highest; larger numbers are lower, all beyond 15 alike",
                },
                min_accuracy={
                    "type": ["number", "null"],
                    "minimum": 0,
                    "maximum": 1,
                    "description": "only variants profiled at it answer; refused with 422 where none is",
                },
                stream={**TEXT, "description": "ask about the newest window of this stream; no inputs then"},
                explain={**FLAG, "description": "say with the answer what else was considered"},
                binary_data_output=FLAG,
            ),
            inputs=a_list(
                an_object(
                    ["name", "shape", "datatype"], **tensor, parameters=ref("parameters"), data=ref("data")
                )
            ),
            outputs=a_list(
                an_object(
                    ["name"],
                    name={"enum": list(OUTPUTS)},
                    parameters=an_object(
                        [],
                        binary_data=FLAG,
                        classification={
                            **WHOLE,
                            "minimum": 0,
                            "description": "of scores: so many classes, as texts score:index:label",
                        },
                    ),
                )
            ),
        ),
        "response": an_object(
            ["model_name", "outputs"],
            model_name=TEXT,
            model_version=TEXT,
            id=TEXT,
            parameters=ref("parameters"),
            outputs=a_list(
                an_object(
                    ["name", "shape", "datatype"], **tensor, parameters=ref("parameters"), data=ref("data")
                )
            ),
        ),
        "server": an_object(
            ["name", "version", "extensions"], name=TEXT, version=TEXT, extensions=a_list(TEXT)
        ),
        "model": an_object(
            ["name", "platform"],
            name=TEXT,
            versions=a_list(TEXT),
            platform=TEXT,
            inputs=a_list(described),
            outputs=a_list(described),
            properties={"type": "object", "additionalProperties": TEXT},
        ),
        "live": an_object(["live"], live=FLAG),
        "ready": an_object(["ready"], name=TEXT, ready=FLAG),
        "config": an_object(["name", "max_batch_size", "input", "output"], name=TEXT, max_batch_size=WHOLE),
        "statistics": an_object(
            ["model_stats"],
            model_stats=a_list(
                an_object(
                    ["name", "version"],
                    name=TEXT,
                    version=TEXT,
                    inference_count=WHOLE,
                    execution_count=WHOLE,
                    inference_stats={"type": "object", "additionalProperties": stat},
                )
            ),
        ),
        "accepted": an_object(
            ["accepted"],
            accepted={**WHOLE, "description": "rows"},
            refused=a_list(
                an_object(["request_id", "error", "code"], request_id=TEXT, error=TEXT, code=TEXT)
            ),
        ),
        "drift": an_object(
            ["application", "score", "confirmed", "prior"],
            application=TEXT,
            score={"type": "number", "minimum": 0, "description": "about 1 is usual; above 3, look at it"},
            scores={"type": "object", "additionalProperties": {"type": "number"}},
            confirmed=WHOLE,
            believed_accuracy={"type": ["number", "null"]},
            confirmed_accuracy={"type": ["number", "null"]},
            confirmed_interval=a_list({"type": "number"}),
            prior={"type": "object", "additionalProperties": {"type": "number"}},
        ),
        "drifts": an_object(["applications"], applications=a_list(ref("drift"))),
        "index": a_list(an_object(["name"], name=TEXT, version=TEXT, state=TEXT, reason=TEXT)),
        **admin_schemas(),
    }


def document() -> Json:
    """OpenAPI 3.1 of every path in http_api.py."""
    infer_body = {
        "required": True,
        "content": {
            **a_content(ref("request")),
            **a_content({"type": "string", "format": "binary"}, "application/octet-stream"),
        },
    }
    infer = an_operation("Infer", "response", "400 404 405 409 413 415 422 429 500 503 504", infer_body)
    infer["responses"]["200"]["content"].update(
        a_content({"type": "string", "format": "binary"}, "application/octet-stream")
    )
    wanted = an_object(["data_wanted", "path"], data_wanted=TEXT, path=TEXT)
    infer["responses"]["202"] = {"description": "The data are wanted.", "content": a_content(wanted)}
    health = {"description": "Not now.", "content": a_content(ref("live"))}
    live = an_operation("Is the server alive?", "live", "405")
    ready = an_operation("Can it serve?", "ready", "405")
    live["responses"]["503"] = health
    ready["responses"]["503"] = {**health, "content": a_content(ref("ready"))}
    model_ready = an_operation("Can this model serve?", "ready", "404 405")
    model_ready["responses"]["503"] = {**health, "content": a_content(ref("ready"))}
    server = an_operation("Name, version and extensions", "server", "405")
    paths: Json = {
        "/v2": {"get": server},
        "/v2/": {"get": server},
        "/v2/health/live": {"get": live},
        "/v2/health/ready": {"get": ready},
        "/v2/models/stats": {"get": an_operation("Statistics of everything", "statistics", "405")},
        "/v2/repository/index": {
            "post": an_operation(
                "Every variant and its state",
                "index",
                "400 405 413",
                {"content": a_content(an_object([], ready=FLAG))},
            )
        },
    }
    for version in ("", "/versions/{version}"):
        base = f"/v2/models/{{model}}{version}"
        names = ["model", *(["version"] if version else [])]
        given = [{"name": name, "in": "path", "required": True, "schema": TEXT} for name in names]
        for path, operation in {
            base: {"get": an_operation("What it takes and gives", "model", "404 405")},
            f"{base}/ready": {"get": model_ready},
            f"{base}/config": {"get": an_operation("Configuration, as Triton's", "config", "404 405")},
            f"{base}/stats": {"get": an_operation("Statistics, as Triton's", "statistics", "404 405")},
            f"{base}/infer": {"post": infer},
        }.items():
            paths[path] = {"parameters": given, **operation}
    paths |= control_paths()
    text = {
        "200": {"description": "Prometheus or OpenMetrics text.", "content": a_content(TEXT, "text/plain")},
        "405": an_error("405"),
    }
    paths |= _streams()
    paths["/api/v1/data/{token}"] = {
        "parameters": [{"name": "token", "in": "path", "required": True, "schema": TEXT}],
        "post": an_operation(
            "Bring the data that were asked for", "response", "400 404 405 413 415 500 503 504", infer_body
        ),
    }
    paths |= _feedback()
    paths |= admin_paths()
    paths["/metrics"] = {"get": {"summary": "Metrics", "responses": text}}
    for path, methods in paths.items():
        for operation in (told for method, told in methods.items() if method != "parameters"):
            more = [] if path in _OPEN else ["401", "403", "429"]
            if "requestBody" in operation:
                more.append("408")
            operation["responses"].update({code: an_error(code) for code in more})
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
    labels = a_list({"type": ["string", "integer", "null"]})
    one = an_object(["request_id"], request_id=TEXT, label=label, labels=labels)
    body = {
        "required": True,
        "content": a_content({"anyOf": [one, an_object(["feedback"], feedback=a_list(one))]}),
    }
    accepted = "The true class of an answer, or of many"
    given = [{"name": "application", "in": "path", "required": True, "schema": TEXT}]
    return {
        "/api/v1/feedback": {
            "post": an_operation(accepted, "accepted", "400 404 405 409 413 415 429", body),
        },
        "/api/v1/drift": {"get": an_operation("How every stream stands", "drifts", "404 405")},
        "/api/v1/drift/{application}": {
            "parameters": given,
            "get": an_operation("Is this stream as it was believed to be?", "drift", "404 405"),
        },
    }


def _streams() -> Json:
    chunk = an_object(
        ["first", "samples"],
        first={**WHOLE, "description": "number of the first sample", "minimum": 0},
        samples={"type": "object", "additionalProperties": ref("data")},
    )
    body = {
        "required": True,
        "content": {
            **a_content(chunk),
            **a_content({"type": "string", "format": "binary"}, "application/octet-stream"),
        },
    }
    given = [
        {"name": name, "in": "path", "required": True, "schema": TEXT} for name in ("application", "stream")
    ]
    base = "/api/v1/streams/{application}/{stream}"
    delete = an_operation("Close a stream", "stream", "400 404 405")
    delete["responses"] = {"204": {"description": "Closed."}, **delete["responses"]}
    del delete["responses"]["200"]
    since = {"name": "since", "in": "query", "schema": WHOLE}
    return {
        base: {
            "parameters": given,
            "get": an_operation("Where a stream stands", "stream", "400 404 405"),
            "post": an_operation("Push raw samples", "stream", "400 404 405 413 415 429", body),
            "delete": delete,
        },
        f"{base}/results": {
            "parameters": [*given, since],
            "get": an_operation("Outcomes of recurring queries", "stream", "400 404 405"),
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

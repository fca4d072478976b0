"""The part of the OpenAPI document that is about registration, and about loading and unloading by hand."""

from peekserve.server.openapi_parts import (
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
from peekserve.server.registrations import ARCHIVES, BASE, MOST_SHADOW_ROWS
from peekserve.state.registrations import Life

_NUMBER: Json = {"type": "number"}
_BINARY: Json = {"type": "string", "format": "binary"}


def control_paths() -> Json:
    """Of the protocol's repository extension."""
    version = {"type": ["string", "null"], "description": "this variant alone"}
    config = {**TEXT, "description": "an application.yaml; a configuration in JSON is passed over"}
    files = "file:PATH with a file's content in base64: a new revision out of what is served and these"
    told = {
        "load": (
            "Offer an application again and wait until it is loaded, or register files",
            _parameters(files, version=version, config=config),
        ),
        "unload": (
            "Offer an application no more and wait until its weights are gone",
            _parameters("what Triton's clients send beside is passed over", version=version),
        ),
    }
    return {
        f"/v2/repository/models/{{model}}/{word}": {
            "parameters": [_given("model")],
            "post": an_operation(
                summary,
                "nothing",
                "400 404 405 409 413 501 503",
                {"content": a_content(an_object([], parameters=parameters))},
            ),
        }
        for word, (summary, parameters) in told.items()
    }


def _parameters(description: str, **known: Json) -> Json:
    anything = {"type": ["string", "number", "boolean", "null"]}
    return {**an_object([], **known), "additionalProperties": anything, "description": description}


def admin_paths() -> Json:
    """Of docs/registration.md."""
    one, revision = [_given("name")], [_given("name"), _given("revision")]
    query: list[Json] = [
        {"name": "swap", "in": "query", "schema": {"enum": ["auto", "manual"]}},
        {
            "name": "shadow",
            "in": "query",
            "schema": {**WHOLE, "minimum": 0, "maximum": MOST_SHADOW_ROWS},
            "description": "rows of live traffic that it is tried on first",
        },
    ]
    archive = {"required": True, "content": {kind.decode(): {"schema": _BINARY} for kind in ARCHIVES}}
    upload = _accepted(
        an_operation("Register a revision", "taken", "400 404 405 409 413 415 501", archive), query
    )
    file = {"required": True, "content": a_content(_BINARY, "application/octet-stream")}
    put = _accepted(
        an_operation("A revision with this file in place", "taken", "400 404 405 409 413 501", file), query
    )
    return {
        f"{BASE}/revisions": {
            "parameters": one,
            "post": upload,
            "get": an_operation("Its revisions", "revisions", "404 405 501"),
        },
        f"{BASE}/revisions/{{revision}}": {
            "parameters": revision,
            "get": an_operation("Where a revision stands", "revision", "404 405 501"),
            "delete": _gone(an_operation("Remove a revision", "nothing", "404 405 409 501")),
        },
        f"{BASE}/revisions/{{revision}}/swap": {
            "parameters": revision,
            "post": an_operation("Serve this revision", "revision", "400 404 405 409 501 503"),
        },
        f"{BASE}/rollback": {
            "parameters": one,
            "post": an_operation("Serve what was served before", "serving", "400 404 405 409 501 503"),
        },
        f"{BASE}/files/{{path}}": {"parameters": [*one, _given("path")], "put": put},
        BASE: {
            "parameters": one,
            "delete": _gone(an_operation("Withdraw an application", "nothing", "400 404 405 409 501 503")),
        },
    }


def admin_schemas() -> Json:
    fault = an_object(["file", "line", "what"], file=TEXT, line=WHOLE, what=TEXT, hint=TEXT, severity=TEXT)
    revision = an_object(
        ["application", "revision", "state"],
        application=TEXT,
        revision=TEXT,
        state={"enum": [life.value for life in Life]},
        why=TEXT,
        swap={"enum": ["auto", "manual"]},
        made_at=_NUMBER,
        changed_at=_NUMBER,
        progress=an_object(["done", "total"], what=TEXT, done=WHOLE, total=WHOLE),
        sha256=TEXT,
        parent=TEXT,
        problems=a_list(fault),
        profile={"type": ["object", "null"]},
        shadow={"type": ["object", "null"]},
    )
    return {
        "nothing": {"type": "object"},
        "taken": an_object(["application", "revision", "state"], application=TEXT, revision=TEXT, state=TEXT),
        "revision": revision,
        "revisions": an_object(
            ["application", "serving", "revisions"],
            application=TEXT,
            serving=TEXT,
            revisions=a_list(ref("revision")),
        ),
        "serving": an_object(["application", "serving"], application=TEXT, serving=TEXT),
    }


def _given(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": TEXT}


def _accepted(operation: Json, query: list[Json]) -> Json:
    """Answered with 202 and where to look."""
    responses = operation["responses"]
    location = {"location": {"schema": TEXT, "description": "where the revision stands"}}
    responses = {"202": {**responses.pop("200"), "headers": location}, **responses}
    return {**operation, "parameters": query, "responses": {**responses, "503": an_error("503")}}


def _gone(operation: Json) -> Json:
    responses = operation["responses"]
    del responses["200"]
    return {**operation, "responses": {"204": {"description": "Done."}, **responses}}

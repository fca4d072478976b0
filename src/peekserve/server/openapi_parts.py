"""The small pieces of an OpenAPI document."""

from typing import Any

Json = dict[str, Any]

ERRORS = {
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


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def a_content(schema: Json, kind: str = "application/json") -> Json:
    return {kind: {"schema": schema}}


def an_object(required: list[str], **properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": required}


def a_list(items: Json) -> Json:
    return {"type": "array", "items": items}


TEXT: Json = {"type": "string"}
WHOLE: Json = {"type": "integer"}
FLAG: Json = {"type": "boolean"}


def an_error(code: str) -> Json:
    return {"description": ERRORS[code], "content": a_content(ref("error"))}


def an_operation(summary: str, schema: str, errors: str, body: Json | None = None) -> Json:
    told: Json = {
        "summary": summary,
        "responses": {
            "200": {"description": "Done.", "content": a_content(ref(schema))},
            **{code: an_error(code) for code in errors.split()},
        },
    }
    if body is not None:
        told["requestBody"] = body
    return told

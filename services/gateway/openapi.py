"""The OpenAPI document: parameters from the signatures of the calls, schemas from answers.py, the rest from
operations.py; docs/api.md is made from it."""

from __future__ import annotations

import copy
import re
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.routing import Route

from shardy_gateway import answers
from shardy_gateway.operations import (
    ALWAYS,
    BY_SCOPE,
    EVENTS,
    HEADERS,
    JSON,
    OPERATIONS,
    TAGS,
    TEXT,
    Answer,
    Operation,
)
from shardy_gateway.problems import MEDIA_TYPE, PROBLEMS

Json = dict[str, Any]
DESCRIPTION = (
    "Requesters send `Authorization: Bearer KEY`; joined workers the token of their session. Errors are problem"
    " details (RFC 9457) whose type is explained at its own address."
)
USUAL = {  # parameters that mean the same wherever a signature says nothing of them
    "digest": "BLAKE3 in hex",
    "limit": "at most so many",
    "after": "`next` of the page before",
    "before": "`next` of the page before",
}
NEEDS = {
    "submit": "Needs a key with the scope `submit`.",
    "operate": "Needs a key with the scope `operate`.",
    "own": "Needs the scope `operate`, or the very key that is named.",
    "any": "Needs any valid key.",
    "session": "Needs the token of a joined worker's session.",
    "": "Needs no key.",
}


def document(app: FastAPI) -> Json:
    """Made once for an application."""
    if app.openapi_schema is None:
        app.openapi_schema = _document(app)
    return app.openapi_schema


def calls(app: FastAPI) -> list[tuple[set[str], re.Pattern[str]]]:
    """For each address that the application answers: its methods, and the pattern of its path."""
    known: list[tuple[set[str], re.Pattern[str]]] = getattr(app.state, "calls", [])
    if not known:
        addresses = {path: {method.upper() for method in item} for path, item in document(app)["paths"].items()}
        addresses |= {route.path: set(route.methods or ()) for route in app.routes if isinstance(route, Route)}
        for path, methods in addresses.items():
            pattern = re.compile("".join("[^/]+" if p.startswith("{") else re.escape(p) for p in _parts(path)) + r"\Z")
            known.append((methods, pattern))
        app.state.calls = known
    return known


def _parts(path: str) -> list[str]:
    return [part for part in re.split(r"(\{[^}]*\})", path) if part]


def _document(app: FastAPI) -> Json:
    base = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    _, schemas = msgspec.json.schema_components(answers.ALL, ref_template="#/components/schemas/{name}")
    paths: Json = {}
    for path, item in base["paths"].items():
        for method, found in item.items():
            operation = OPERATIONS.get((method.upper(), path), Operation("any", {200: Answer("done")}))
            paths.setdefault(path, {})[method] = _operation(found, operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            **base["info"],
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "the gateway that serves this document"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "headers": {name: {"description": text, "schema": {"type": "string"}} for name, text in HEADERS.items()},
            "securitySchemes": {
                "ApiKey": {"type": "http", "scheme": "bearer", "description": "an API key; scopes: submit, operate"},
                "SessionToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "the token of a joined worker's session, from its tier frame",
                },
            },
        },
    }


def _operation(found: Json, operation: Operation, schemas: Json) -> Json:
    text = " ".join(str(found.get("description", "")).split())
    summary = text.partition(". ")[0].partition(": ")[0].rstrip(".")
    parameters = [_parameter(parameter) for parameter in found.get("parameters", ())]
    parameters += [
        {"name": name, "in": "header", "required": False, "description": HEADERS[name], "schema": {"type": "string"}}
        for name in operation.parameters
    ]
    name = re.sub(r"_(v1|healthz|problems)_.*", "", found["operationId"])
    out: Json = {
        "operationId": name,
        "tags": found.get("tags", []),
        "summary": summary or name.replace("_", " ").capitalize(),
        "description": f"{text} {NEEDS[operation.scope]}".strip(),
        "parameters": parameters,
        "responses": _responses(operation, schemas),
        "security": _security(operation.scope),
    }
    if operation.body:
        content = {media: _content(media, schema, schemas) for media, schema in operation.body.items()}
        out["requestBody"] = {"required": operation.body_required, "content": content}
    return {name: value for name, value in out.items() if value or name == "security"}


def _parameter(found: Json) -> Json:
    """As the signature has it, without the titles that say the name again."""
    schema = {
        name: value for name, value in copy.deepcopy(found["schema"]).items() if name not in ("title", "description")
    }
    if any(choice == {"type": "null"} for choice in schema.get("anyOf", ())):  # absent, in the words of a signature
        schema = {**schema.pop("anyOf")[0], **schema}
    described = found.get("description") or USUAL.get(found["name"], "")
    name = (
        "-".join(word.capitalize() for word in found["name"].split("-")) if found["in"] == "header" else found["name"]
    )
    if found["name"] == "digest":
        schema |= {"pattern": "^[0-9a-f]{64}$"}
    out = {"name": name.replace("-Id", "-ID"), "in": found["in"], "required": found["required"], "schema": schema}
    return out | ({"description": described} if described else {})


def _security(scope: str) -> list[Json]:
    if not scope:
        return []
    if scope == "session":
        return [{"SessionToken": []}]
    return [{"ApiKey": [scope] if scope in ("submit", "operate") else []}]


def _responses(operation: Operation, schemas: Json) -> Json:
    out: dict[int, Json] = {}
    limits = ("RateLimit-Policy", "RateLimit") if operation.scope not in ("", "session") else ()
    for status, answer in operation.answers.items():
        out[status] = {"description": answer.means}
        if answer.media:
            out[status]["content"] = {answer.media: _content(answer.media, answer.schema, schemas)}
        if answer.headers or limits:
            out[status]["headers"] = _headers(*answer.headers, *limits)
    for slug in (*operation.problems, *BY_SCOPE[operation.scope], *ALWAYS):
        problem = PROBLEMS[slug]
        for status in problem.status:
            answer = out.setdefault(status, {"description": "", "content": {}})
            content = answer.setdefault("content", {}).setdefault(
                MEDIA_TYPE, {"schema": {"$ref": "#/components/schemas/ProblemDetails"}, "examples": {}}
            )
            content["examples"][slug] = {"summary": problem.title, "value": _problem(slug, status)}
            if status not in operation.answers:
                answer["description"] = "; ".join(e["summary"] for e in content["examples"].values())
            names: tuple[str, ...] = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}.get(
                status, ()
            )
            names += limits if status not in (401, 414, 431) else ()
            answer.setdefault("headers", {}).update(_headers(*names))
    return {str(status): {k: v for k, v in out[status].items() if v} for status in sorted(out)}


def _problem(slug: str, status: int) -> Json:
    problem = PROBLEMS[slug]
    return {"type": f"/problems/{slug}", "title": problem.title, "status": status, "detail": problem.means}


def _headers(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _content(media: str, schema: str, schemas: Json) -> Json:
    if media == JSON and schema:
        return {"schema": {"$ref": f"#/components/schemas/{schema}"}, "example": example(schemas[schema], schemas)}
    if media in (EVENTS, TEXT):
        return {"schema": {"type": "string"}}
    return {"schema": {"type": "string", "format": "binary"}} if media != JSON else {"schema": {}}


def example(schema: Json, schemas: Json) -> Any:
    """A value of the schema: its own example, else its first choice, else one made of its parts."""
    if "$ref" in schema:
        return example(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    for field in ("examples", "enum"):
        if schema.get(field):
            return schema[field][0]
    if "default" in schema:
        return schema["default"]
    if "anyOf" in schema:
        return example(schema["anyOf"][0], schemas)
    kind = schema.get("type")
    if kind == "object":
        wanted = [name for name in schema.get("properties", {}) if name in schema.get("required", ())]
        return {name: example(schema["properties"][name], schemas) for name in wanted}
    if kind == "array":
        return [example(schema["items"], schemas)] if schema.get("items") else []
    return {"integer": schema.get("minimum", 1), "number": 1.0, "boolean": True, "string": "text"}.get(str(kind))

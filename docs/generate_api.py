"""docs/api.md below its mark, and docs/problems.md: from the OpenAPI document and the table of problems."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shardy_gateway.app import make_app
from shardy_gateway.config import GatewaySettings
from shardy_gateway.operations import OPERATIONS
from shardy_gateway.problems import PROBLEMS

PAGE = Path(__file__).parent / "api.md"
MARK = "<!-- From here on written by `make docs`: change the code, not this page. -->"
NEEDS = {"any": "any key", "own": "`operate`, or the key itself", "": "no key"}
ELSEWHERE = "worker"  # the tag of calls that docs/protocol.md describes
Json = dict[str, Any]


def api_page() -> str:
    """The head as it stands, written by hand, and everything below the mark anew."""
    head = PAGE.read_text(encoding="utf-8").partition(MARK)[0] if PAGE.is_file() else "# HTTP API, version 1\n\n"
    document = make_app(GatewaySettings()).openapi()
    return head + MARK + "\n\n" + "\n".join([*_overview(document), *_calls(document), *_schemas(document)]) + "\n"


def _found(document: Json) -> Iterator[tuple[str, str, Json]]:
    """(method, path, call), by tag and then as the document has them."""
    for tag in document["tags"]:
        for path, item in document["paths"].items():
            for method, call in item.items():
                if call["tags"][0] == tag["name"] != ELSEWHERE:
                    yield method.upper(), path, call


def _overview(document: Json) -> Iterator[str]:
    yield "## All calls"
    yield ""
    yield "| call | needs | |"
    yield "|---|---|---|"
    for method, path, call in _found(document):
        scope = OPERATIONS[method, path].scope
        yield f"| `{method} {path}` | {NEEDS.get(scope, f'`{scope}`')} | {call['summary']} |"


def _calls(document: Json) -> Iterator[str]:
    for tag in document["tags"]:
        calls = [found for found in _found(document) if found[2]["tags"][0] == tag["name"]]
        if calls:
            yield from ("", f"## {tag['name'].capitalize()}", "", tag["description"])
        for method, path, call in calls:
            yield from ("", f"### {method} {path}", "", _plain(call["description"]), "")
            yield from _parameters(call)
            yield from _body(call)
            yield "| answer | |"
            yield "|---|---|"
            for status, response in call["responses"].items():
                yield f"| {status} | {_answer(response)} |"


def _parameters(call: Json) -> Iterator[str]:
    if not call.get("parameters"):
        return
    yield "| parameter | in | type | |"
    yield "|---|---|---|---|"
    for found in call["parameters"]:
        must = " (required)" if found["required"] and found["in"] != "path" else ""
        yield f"| `{found['name']}` | {found['in']}{must} | {_type(found['schema'])} | {found.get('description', '')} |"
    yield ""


def _body(call: Json) -> Iterator[str]:
    bodies = call.get("requestBody", {}).get("content", {})
    if bodies:
        shown = [f"`{media}`{_linked(content['schema'])}" for media, content in bodies.items()]
        yield f"Body: {' or '.join(shown)}."
        yield ""


def _linked(schema: Json) -> str:
    name = schema.get("$ref", "").rpartition("/")[2]
    return f" ([{name}](#{name.lower()}))" if name else ""


def _answer(response: Json) -> str:
    """What it means, with its schema, and which problems it may be."""
    parts = []
    for media, content in response.get("content", {}).items():
        if media == "application/problem+json":
            parts += [f"[{slug}](problems.md#{slug})" for slug in content["examples"]]
        else:
            parts.append(f"{response['description']}{_linked(content['schema']) or f' (`{media}`)'}")
    return ", ".join(parts) or response["description"]


def _schemas(document: Json) -> Iterator[str]:
    yield from ("", "## Schemas", "", "Fields in *italics* may be absent.")
    for name, schema in document["components"]["schemas"].items():
        yield from (
            "",
            f"### {name}",
            "",
            _plain(schema.get("description", "")),
            "",
            "| field | type | |",
            "|---|---|---|",
        )
        for field, found in schema.get("properties", {}).items():
            shown = f"`{field}`" if field in schema.get("required", ()) else f"*`{field}`*"
            yield f"| {shown} | {_type(found)} | {_described(found)} |"


def _described(schema: Json) -> str:
    texts = [schema.get("description", "")] + [choice.get("description", "") for choice in schema.get("anyOf", ())]
    return next((text.replace("|", "or") for text in texts if text), "")


def _type(schema: Json) -> str:
    """`integer, 1 to 500, default 50`."""
    if "$ref" in schema:
        return _linked(schema).strip(" ()")
    if "anyOf" in schema:
        return " or ".join(_type(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        kind = " or ".join(f"`{value}`" for value in schema["enum"] if value != "")
    elif schema.get("type") == "array":
        kind = f"list of {_type(schema['items'])}" if schema.get("items") else "list"
    elif schema.get("type") == "object" and schema.get("additionalProperties"):
        kind = f"map of {_type(schema['additionalProperties'])}"
    else:
        kind = {"string": "text", "object": "map"}.get(schema.get("type", ""), schema.get("type", "anything"))
    low = schema.get("minimum", schema.get("exclusiveMinimum", schema.get("minLength", schema.get("minItems"))))
    high = schema.get("maximum", schema.get("maxLength"))
    unit = " characters" if "maxLength" in schema else ""
    if high is not None:
        kind += f", {low or 0:,} to {high:,}{unit}" if isinstance(high, int) else f", {low or 0:g} to {high:g}"
    elif low:
        kind += f", at least {low:,}"
    if schema.get("default") not in (None, "", False):
        kind += f", default `{schema['default']}`"
    return kind


def _plain(text: str) -> str:
    return " ".join(text.split())


def problems_page() -> str:
    lines = [
        "# Problems",
        "",
        "Written by `make docs`; change the code, not this page.",
        "",
        "Whatever is refused is answered by problem details (RFC 9457, `application/problem+json`) with `type`,"
        " `title`, `status`, `detail`, and `limit` where one was passed. `type` is stable: `/problems/` and one of the"
        " names below; `GET /problems/{slug}` says the same as this page. `detail` says what to change in this very"
        " request.",
    ]
    for slug, problem in PROBLEMS.items():
        codes = ", ".join(map(str, problem.status))
        lines += ["", f"## {slug}", "", f"{problem.title} ({codes}). {problem.means} {problem.do}"]
    return "\n".join(lines) + "\n"

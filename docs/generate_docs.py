"""`python docs/generate_docs.py` writes docs/subjects.md, docs/cli.md, docs/problems.md, all of docs/api.md but its
head, and deploy/nats-users.conf from the code; `--check` only compares.

What is derived: events, their fields and docstrings from the wire package, who folds them from each service's filters,
commands from the command line itself, calls from the OpenAPI document, who emits an event from the table of what each
service may append.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import msgspec
import typer
from generate_api import api_page, problems_page

from shardy_client.cli import EXIT_CODES, app
from shardy_common import nats_nodes
from shardy_common.permissions import ROLES, SERVICES, again, emitters
from shardy_common.wire import events as ev
from shardy_common.wire import subjects
from shardy_common.wire.event_base import JobEvent
from shardy_common.wire.job import JobSpec, Operand, Pre, Tile
from shardy_dlq.letters import Letters
from shardy_gateway.views import Views
from shardy_gossip_bridge.directory import Directory
from shardy_matchmaker.core import MatchmakerCore
from shardy_prover_verifier.fold import ProverCore
from shardy_quorum.core import QuorumCore

HERE = Path(__file__).parent

FOLDERS: dict[str, Sequence[str]] = {
    "gateway": Views.filters,
    "matchmaker": MatchmakerCore.filters,
    "quorum": QuorumCore.filters,
    "dlq": Letters.filters,
    "prover-verifier": ProverCore.filters,
    "gossip-bridge": Directory.filters,
}
# what the last token of a subject is, where it is not the entity's own id
KEYS = {"result": "task", "fraud": "task", "dlq": "entry", "canary": "job", "mesh": "key", "ceremony": "circuit"}
VALUES = {Path: "FILE", str: "TEXT", int: "N", float: "NUMBER"}
JSON_PROMISE = (
    "An error is one line on standard error that says what to change. With `--json`, standard output holds one JSON"
    " value and nothing else. What is in it stands under each command as *JSON*: names may be added, and none changes."
    " Where it is the mesh's own answer (a job's status, a worker, a receipt), [api.md](api.md) has it in full."
)
PARTS: tuple[type[msgspec.Struct], ...] = (
    JobSpec,
    Operand,
    Pre,
    Tile,
    ev.Lease,
    ev.Carved,
    ev.HandedIn,
    ev.Answered,
    ev.Probe,
)


def matches(pattern: str, subject: str) -> bool:
    """Whether a filter takes a subject; both have three tokens."""
    return all(want in ("*", have) for want, have in zip(pattern.split("."), subject.split("."), strict=True))


def type_text(kind: Any) -> str:
    """`dict[str, list[str]]`, `Tile`, `int or none`."""
    arguments = [argument for argument in get_args(kind) if argument is not type(None)]
    if type(None) in get_args(kind):
        return " or ".join(map(type_text, arguments)) + " or none"
    if arguments:
        return f"{kind.__origin__.__name__}[{', '.join(map(type_text, arguments))}]"
    return str(kind.__name__)


def fields_table(struct: type[msgspec.Struct]) -> Iterator[str]:
    yield "| field | type | default |"
    yield "|---|---|---|"
    for field in msgspec.structs.fields(struct):
        default = "" if field.required else f" `{default_of(field)!r}`"
        yield f"| `{field.name}` | {type_text(field.type)} |{default} |"


def default_of(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def own_doc(struct: type) -> str:
    """The docstring that the class itself has, as a paragraph."""
    text = struct.__dict__.get("__doc__") or ""
    return "\n".join(line.strip() for line in text.strip().splitlines())


def subjects_page() -> str:
    lines = [
        "# Events and their subjects",
        "",
        "Written by `make docs`; change the code, not this page.",
        "",
        f"The stream `{subjects.STREAM}` takes the subjects {', '.join(f'`{s}`' for s in subjects.STREAM_SUBJECTS)}."
        " A payload is a JSON map whose key `e` holds the tag; fields at their defaults may be absent. Headers carry"
        " `Nats-Msg-Id` and `traceparent`.",
        "",
        "| event | emitted by | folded by |",
        "|---|---|---|",
    ]
    for event in {event.name: event for event in ev.EVENT_TYPES}.values():
        lines.append(f"| [`{event.name}`](#{event.name.replace('.', '')}) | {emitted_by(event)} | {folded_by(event)} |")
    told: set[str] = set()
    for event in ev.EVENT_TYPES:
        entity = "job" if issubclass(event, JobEvent) else event.name.partition(".")[0]
        key, tag = KEYS.get(entity, entity), str(event.__struct_config__.tag)
        heading = tag if event.name in told else event.name
        told.add(event.name)
        lines += ["", f"## {heading}", "", f"Subject `{event.name}.<{key}>`, tag `{tag}`."]
        if own_doc(event):
            lines += ["", own_doc(event)]
        lines += ["", *fields_table(event)]
    lines += ["", "## Parts of events"]
    for part in PARTS:
        form = "list in this order" if part.__struct_config__.array_like else "map"
        lines += ["", f"### {part.__name__}", "", f"{own_doc(part)} Written as a {form}.", "", *fields_table(part)]
    lines += [
        "",
        "## Beside the log",
        "",
        f"`{subjects.control('<service>', 'status')}` and `{subjects.control('<service>', 'rebuild')}` are"
        " request/reply subjects that every replica of a service answers, and"
        f" `{subjects.control('<service>', 'rebuild.<instance>')}` one that the replica of this name does. On"
        f" `{subjects.control('<service>', 'alive')}` replicas tell each other that they are there, and on"
        f" `{again('<service>')}` a gateway asks for an event out of a dead letter. None are events.",
    ]
    return "\n".join(lines) + "\n"


def emitted_by(event: type[ev.Event]) -> str:
    found = emitters(event.name)
    return "every service" if found == list(SERVICES) else ", ".join(found) or "nobody yet"


def folded_by(event: type[ev.Event]) -> str:
    found = [name for name, filters in FOLDERS.items() if any(matches(f, f"{event.name}.x") for f in filters)]
    return ", ".join(found) or "nobody yet"


# -- the command line -------------------------------------------------------------------------------------------------


def commands() -> dict[str, Any]:
    """The click commands by name (`dlq show` for one below another), in the order of the help."""
    found: dict[str, Any] = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        found[name] = command
        found |= {f"{name} {word}": inner for word, inner in getattr(command, "commands", {}).items()}
    return found


def option_text(option: Any) -> str:
    names = [*option.opts, *option.secondary_opts]
    shown = ", ".join(f"`{name}`" for name in names)
    if option.is_flag:
        return shown
    return f"{shown} {option.metavar or VALUES.get(option.type_descriptor.annotation, 'TEXT')}"


def help_text(option: Any) -> str:
    names = [option.envvar] if isinstance(option.envvar, str) else option.envvar or []
    environment = f" (environment: {', '.join(f'`{name}`' for name in names)})" if names else ""
    return (option.help or "") + environment


def default_text(option: Any) -> str:
    if isinstance(option.show_default, str):
        return option.show_default
    if option.required:
        return "required"
    if option.default is None or option.default is False or option.default == "" or option.show_default is False:
        return ""
    return f"`{option.default}`"


def cli_page() -> str:
    lines = [
        "# The command line",
        "",
        "Written by `make docs`; change the code, not this page. `shardy COMMAND --help` says the same.",
        "",
        *textwrap.wrap(f"Exit codes: {EXIT_CODES}.", 120),
        "",
        *textwrap.wrap(JSON_PROMISE, 120),
    ]
    for name, command in commands().items():
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        options = [p for p in command.params if p.param_type_name == "option"]
        usage = " ".join(["shardy", name, *(a.metavar or a.name.upper() for a in arguments)])
        lines += ["", f"## shardy {name}", "", f"    {usage}{' [OPTIONS]' if options else ''}", ""]
        lines += [line.strip() for line in (command.help or "").strip().splitlines()]
        if arguments:
            lines += ["", "| argument | |", "|---|---|"]
            lines += [f"| `{a.metavar or a.name.upper()}` | {a.help or ''} |" for a in arguments]
        if options:
            lines += ["", "| option | default | |", "|---|---|---|"]
            for option in options:
                lines.append(
                    f"| {option_text(option)} | {default_text(option)} | {help_text(option)} |".replace("|  |", "| |")
                )
    return "\n".join(lines) + "\n"


def log_users() -> str:
    """The users of the log's server in containers; their public keys are variables, set by deploy/make-secrets.sh."""
    head = "# Who may say what on the log's server. Written by `make docs` from libs/shardy_common/permissions.py.\n"
    head += 'include "../../run/secrets/nats_keys"\n'
    return head + nats_nodes.users({role: f"$nkey_{role.replace('-', '_')}" for role in ROLES})


PAGES = {
    "subjects.md": subjects_page,
    "cli.md": cli_page,
    "api.md": api_page,
    "problems.md": problems_page,
    "../deploy/nats-users.conf": log_users,
}


def stale() -> list[str]:
    """Pages that differ from what would be written."""
    return [
        name
        for name, page in PAGES.items()
        if not (HERE / name).is_file() or (HERE / name).read_text(encoding="utf-8") != page()
    ]


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        old = stale()
        if old:
            print(f"not up to date: {', '.join(old)}; run make docs", file=sys.stderr)
        return 1 if old else 0
    if sys.argv[1:]:
        print("usage: python docs/generate_docs.py [--check]", file=sys.stderr)
        return 2
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""What an operator does: dead letters and keys. Commands with subcommands; alone, each lists."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from shardy_client import complete
from shardy_client.cli_common import (
    URL,
    AsJson,
    OperatorKey,
    Url,
    ago,
    bounded,
    command,
    entries,
    facts,
    line,
    one_of,
    operating,
    print_json,
    table,
)
from shardy_client.errors import InvalidInput
from shardy_client.looks import SCOPES

dlq = typer.Typer(
    invoke_without_command=True,
    help="Deal with dead letters: what the mesh could not finish, with cause and evidence. Alone, lists them."
    " Needs the operator's key.",
)
keys = typer.Typer(
    invoke_without_command=True,
    help="Make, change and end API keys. Alone, lists them. Needs the operator's key; anybody may rotate or revoke the"
    " key that he uses (--key).",
)

Entry = Annotated[
    str,
    typer.Argument(help="The dead letter; `shardy dlq` lists them.", metavar="ENTRY", autocompletion=complete.letters),
]
KeyId = Annotated[
    str, typer.Argument(help="The key's id; `shardy keys` lists them.", metavar="ID", autocompletion=complete.key_ids)
]
Limit = Annotated[int, typer.Option(help="How many to list.")]
Before = Annotated[str | None, typer.Option(help="Older ones: what `next` said.", metavar="ID")]
After = Annotated[str | None, typer.Option(help="Those that follow: what `next` said.", metavar="ID")]
Cause = Annotated[str | None, typer.Option(help="Only those of this cause, such as fraud or unresolved.")]
State = Annotated[
    str | None, typer.Option(help="open, replayed or discarded.", autocompletion=complete.among(complete.STATES))
]


def alone(ctx: typer.Context) -> bool:
    """Whether the command stands without a subcommand. Options before one would be lost; say so."""
    if ctx.invoked_subcommand is None:
        return True
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE":
            raise InvalidInput(f"write {parameter.opts[0]} behind {ctx.invoked_subcommand}")
    return False


@dlq.callback()
@command
def _dlq(
    ctx: typer.Context,
    limit: Limit = 50,
    before: Before = None,
    cause: Cause = None,
    state: State = None,
    as_json: AsJson = False,
    url: Url = URL,
    key: OperatorKey = None,
) -> None:
    if alone(ctx):
        _list_letters(limit, before, cause, state, as_json, url, key)


@dlq.command("list")
@command
def dlq_list(
    limit: Limit = 50,
    before: Before = None,
    cause: Cause = None,
    state: State = None,
    as_json: AsJson = False,
    url: Url = URL,
    key: OperatorKey = None,
) -> None:
    """List dead letters, newest first.

    JSON: entries [entry, cause, state, subject, seq, at_ms, trace, evidence, closed_by, closed_ms, outcome], next.
    """
    _list_letters(limit, before, cause, state, as_json, url, key)


def _list_letters(
    limit: int, before: str | None, cause: str | None, state: str | None, as_json: bool, url: str, key: str | None
) -> None:
    bounded("--limit", limit, 500)
    one_of("--state", state, complete.STATES)
    answer = operating(url, key, lambda mesh: mesh.dlq(limit, before, cause, state))
    if as_json:
        print_json(answer)
        return
    rows = (
        (e.get("entry"), e.get("cause"), e.get("state"), e.get("subject"), ago(e.get("at_ms")), e.get("outcome"))
        for e in entries(answer, "entries")
    )
    table("Dead letters", ("entry", "cause", "state", "subject", "when", "outcome"), rows, "No dead letters.")
    if answer.get("next"):
        line(f"older ones: shardy dlq list --before {answer['next']}")


@dlq.command("show")
@command
def dlq_show(entry: Entry, as_json: AsJson = False, url: Url = URL, key: OperatorKey = None) -> None:
    """Show a dead letter with its evidence.

    JSON: entry, cause, state, subject, seq, at_ms, trace, evidence, closed_by, closed_ms, outcome.
    """
    letter = operating(url, key, lambda mesh: mesh.letter(entry))
    if as_json:
        print_json(letter)
        return
    evidence = letter.get("evidence")
    facts(
        ("entry", letter.get("entry")),
        ("cause", letter.get("cause")),
        ("state", letter.get("state")),
        ("subject", letter.get("subject")),
        ("event", letter.get("seq")),
        ("when", ago(letter.get("at_ms"))),
        ("trace", letter.get("trace")),
        *((evidence if isinstance(evidence, dict) else {"evidence": evidence}).items()),
        ("closed by", letter.get("closed_by")),
        ("closed", ago(letter.get("closed_ms"))),
        ("outcome", letter.get("outcome")),
    )
    if letter.get("state") == "open":
        line(f"again: shardy dlq replay {entry}; for good: shardy dlq discard {entry} --reason TEXT")


@dlq.command("replay")
@command
def dlq_replay(entry: Entry, as_json: AsJson = False, url: Url = URL, key: OperatorKey = None) -> None:
    """Try again what a dead letter is about: a job that was given up goes on where it stood.

    JSON: entry, outcome, job.
    """
    answer = operating(url, key, lambda mesh: mesh.replay(entry))
    if as_json:
        print_json(answer)
        return
    follow = f"; follow it: shardy job {answer['job']} --follow" if answer.get("job") else ""
    line(f"{answer.get('entry')}: {answer.get('outcome')}{follow}")


@dlq.command("discard")
@command
def dlq_discard(
    entry: Entry,
    reason: Annotated[str, typer.Option("--reason", help="Why; it stays in the log.")],
    as_json: AsJson = False,
    url: Url = URL,
    key: OperatorKey = None,
) -> None:
    """Close a dead letter for good.

    JSON: entry, outcome.
    """
    answer = operating(url, key, lambda mesh: mesh.discard(entry, reason))
    print_json(answer) if as_json else line(f"{entry} is discarded")


@keys.callback()
@command
def _keys(
    ctx: typer.Context,
    limit: Limit = 100,
    after: After = None,
    as_json: AsJson = False,
    url: Url = URL,
    key: OperatorKey = None,
) -> None:
    if alone(ctx):
        _list_keys(limit, after, as_json, url, key)


@keys.command("list")
@command
def keys_list(
    limit: Limit = 100,
    after: After = None,
    as_json: AsJson = False,
    url: Url = URL,
    key: OperatorKey = None,
) -> None:
    """List API keys, without their secrets.

    JSON: keys [id, owner, scopes, label, state, source, by, replaces, created_ms, expires_ms, ends_ms], next.
    """
    _list_keys(limit, after, as_json, url, key)


def _list_keys(limit: int, after: str | None, as_json: bool, url: str, key: str | None) -> None:
    bounded("--limit", limit, 1_000)
    answer = operating(url, key, lambda mesh: mesh.keys(limit, after))
    if as_json:
        print_json(answer)
        return
    rows = (
        (k.get("id"), k.get("label"), k.get("state"), ", ".join(k.get("scopes") or ()), k.get("owner"), _until(k))
        for k in entries(answer, "keys")
    )
    table("API keys", ("id", "label", "state", "scopes", "owner", "ends"), rows, "No keys were issued.")
    if answer.get("next"):
        line(f"more: shardy keys list --after {answer['next']}")


def _until(key: dict[str, Any]) -> str:
    from datetime import UTC, datetime

    ms = key.get("ends_ms") or key.get("expires_ms")  # ends_ms counts revocation and a rotation's grace
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC") if ms else ""


def _made(answer: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    facts(
        ("id", answer.get("id")),
        ("key", answer.get("key")),
        ("label", answer.get("label")),
        ("scopes", ", ".join(answer.get("scopes") or ())),
        ("ends", _until(answer)),
    )
    line("The key is shown this once: keep it now.")


@keys.command("issue")
@command
def keys_issue(
    label: Annotated[str, typer.Option("--label", help="Whom or what it is for.")],
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="What it may do; may be given twice.", autocompletion=complete.among(SCOPES)),
    ] = None,
    expires_s: Annotated[int | None, typer.Option("--expires-s", help="Seconds until it ends.")] = None,
    as_json: AsJson = False,
    url: Url = URL,
    key: OperatorKey = None,
) -> None:
    """Make an API key. Without --scope it may submit.

    JSON: id, key, owner, scopes, label, expires_ms.
    """
    if not label.strip():
        raise InvalidInput("--label is empty; say whom or what the key is for")
    _made(operating(url, key, lambda mesh: mesh.issue_key(label, scope or ["submit"], expires_s)), as_json)


@keys.command("rotate")
@command
def keys_rotate(
    key_id: KeyId,
    grace_s: Annotated[int | None, typer.Option("--grace-s", help="Seconds that the old one still lives.")] = None,
    as_json: AsJson = False,
    url: Url = URL,
    key: OperatorKey = None,
) -> None:
    """Make a key that takes another's place: same owner, same scopes.

    JSON: id, key, owner, scopes, label, expires_ms.
    """
    _made(operating(url, key, lambda mesh: mesh.rotate_key(key_id, grace_s)), as_json)


@keys.command("revoke")
@command
def keys_revoke(key_id: KeyId, as_json: AsJson = False, url: Url = URL, key: OperatorKey = None) -> None:
    """End a key at once.

    JSON: id.
    """
    answer = operating(url, key, lambda mesh: mesh.revoke_key(key_id))
    print_json(answer) if as_json else line(f"{key_id} is revoked")

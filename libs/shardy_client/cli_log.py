"""`shardy log`: the events of a mesh, listed, followed, and told as the story of a task."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from shardy_client import cli_care, complete
from shardy_client.cli_care import seconds
from shardy_client.cli_common import (
    URL,
    AsJson,
    OperatorKey,
    Url,
    bounded,
    command,
    entries,
    line,
    operating,
    print_json,
)
from shardy_client.cli_operate import alone
from shardy_client.errors import InvalidInput
from shardy_client.log_words import line_of, moment
from shardy_client.mesh import AsyncMesh

LIMIT_MAX = 100_000
PAGE = 500
TASK = "A task's id; `shardy log --event task.created` shows them."
log = typer.Typer(
    invoke_without_command=True,
    help="Look at the event log, and look after it. Alone, lists events, the newest first. Listing, following and"
    " telling ask the mesh and need the operator's key; all else is done on the mesh's own machine.",
)
Subject = Annotated[str | None, typer.Option("--subject", help="Only these, such as 'task.*.ID'.", metavar="PATTERN")]
Event = Annotated[str | None, typer.Option("--event", help="Only events of this name, such as task.verified.")]
Job = Annotated[
    str | None,
    typer.Option("--job", help="Only what names this job.", metavar="ID", autocompletion=complete.job_ids),
]
Task = Annotated[str | None, typer.Option("--task", help="Only what names this task.", metavar="ID")]
Worker = Annotated[
    str | None,
    typer.Option("--worker", help="Only what names this device.", metavar="ID", autocompletion=complete.worker_ids),
]
Since = Annotated[
    str | None,
    typer.Option("--since", help="From then on: a sequence, an age (2h) or a time (2030-01-31T12:00).", metavar="WHEN"),
]
Until = Annotated[str | None, typer.Option("--until", help="Before then: as --since.", metavar="WHEN")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Show what comes, until Ctrl-C. With --since, from then.")]
Story = Annotated[bool, typer.Option("--story", help="Tell --task as a story: see shardy log task.")]
Limit = Annotated[int, typer.Option("--limit", "-n", help="How many to list.")]
AsLines = Annotated[bool, typer.Option("--json", help="Print whole events, one a line, for other programs.")]


@log.callback()
@command
def _log(
    ctx: typer.Context,
    subject: Subject = None,
    event: Event = None,
    job: Job = None,
    task: Task = None,
    worker: Worker = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    follow: Follow = False,
    story: Story = False,
    as_json: AsLines = False,
    url: Url = URL,
    key: OperatorKey = None,
) -> None:
    if not alone(ctx):
        return
    if story:
        if task is None:
            raise InvalidInput("--story tells of one task: name it with --task ID")
        _tell(task, as_json, url, key)
        return
    wanted = {"subject": subject, "event": event, "job": job, "task": task, "worker": worker}
    _list(wanted, since, until, limit, follow, as_json, url, key)


@log.command("list")
@command
def log_list(
    subject: Subject = None,
    event: Event = None,
    job: Job = None,
    task: Task = None,
    worker: Worker = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    follow: Follow = False,
    as_json: AsLines = False,
    url: Url = URL,
    key: OperatorKey = None,
) -> None:
    """List events, the newest first; from --since on the oldest first.

    JSON, one event a line: seq, at_ms, subject, event, trace, data, error, bytes.
    """
    wanted = {"subject": subject, "event": event, "job": job, "task": task, "worker": worker}
    _list(wanted, since, until, limit, follow, as_json, url, key)


def _list(
    wanted: dict[str, str | None],
    since: str | None,
    until: str | None,
    limit: int,
    follow: bool,
    as_json: bool,
    url: str,
    key: str | None,
) -> None:
    bounded("--limit", limit, LIMIT_MAX)
    first, last = _when("--since", since), _when("--until", until)
    if follow and until is not None:
        raise InvalidInput("--follow has no end: leave --until out")
    show = _print if as_json else lambda event: line(line_of(event))

    async def follows(mesh: AsyncMesh) -> None:
        after = first.get("seq", 1) - 1 if "seq" in first else None
        if "ms" in first:
            page = await mesh.log(1, after=0, since_ms=first["ms"])
            found = entries(page, "events")
            after = found[0]["seq"] - 1 if found else page["last"]
        async for event in mesh.follow_log(after, **wanted):
            show(event)

    async def lists(mesh: AsyncMesh) -> None:
        left, shown = limit, 0
        place: dict[str, Any] = {"since_ms": first.get("ms"), "until_ms": last.get("ms")}
        cursor = "after" if first else "before"
        place[cursor] = first.get("seq", 1) - 1 if first else last.get("seq")
        while left > 0:
            asked: dict[str, Any] = {**place, **wanted}
            page = await mesh.log(min(left, PAGE), **asked)
            for event in entries(page, "events"):
                if first and "seq" in last and event["seq"] >= last["seq"]:
                    return
                show(event)
                left, shown = left - 1, shown + 1
            if page.get("next") is None:
                break
            place[cursor] = page["next"]
        if not shown and not as_json:
            line("No such event.")

    operating(url, key, follows if follow else lists)


def _print(event: dict[str, Any]) -> None:
    typer.echo(json.dumps(event, ensure_ascii=False))


def _when(name: str, text: str | None) -> dict[str, int]:
    """{"seq": …} or {"ms": …}; nothing for nothing."""
    if text is None:
        return {}
    if text.isascii() and text.isdigit() and len(text) < 19:
        return {"seq": int(text)}
    if re.fullmatch(r"\d+(\.\d+)?(s|min|h|d|w)", text):
        return {"ms": int((time.time() - seconds(name, text)) * 1000)}
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(
            f"{name} is {text!r}; write a sequence (4711), an age (90s, 15min, 2h, 7d) or a time (2030-01-31T12:00, UTC"
            " unless it says otherwise)"
        ) from None
    return {"ms": int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)}


@log.command("task")
@command
def log_task(
    task: Annotated[str, typer.Argument(help=TASK, metavar="ID")],
    as_json: AsJson = False,
    url: Url = URL,
    key: OperatorKey = None,
) -> None:
    """Tell the whole story of a task: each event, when, and which earlier ones it follows from.

    JSON: task, job, lines [seq, at_ms, after_ms, event, words, follows, context].
    """
    _tell(task, as_json, url, key)


def _tell(task: str, as_json: bool, url: str, key: str | None) -> None:
    told = operating(url, key, lambda mesh: mesh.story(task))
    if as_json:
        print_json(told)
        return
    lines = entries(told, "lines")
    begun = next((one["at_ms"] for one in lines if one["after_ms"] == 0), None)
    line(f"task {told.get('task')} of job {told.get('job')}, begun {moment(begun)} UTC")
    for one in lines:
        follows = f"  ← {', '.join(map(str, one['follows']))}" if one["follows"] else ""
        line(f"{one['after_ms'] / 1000:>+11.3f} s  {one['seq']:>9}  {one['words']}{follows}")


log.command("archive")(cli_care.log_archive)
log.command("archives")(cli_care.log_archives)
log.command("verify")(cli_care.log_verify)
log.command("restore")(cli_care.log_restore)
log.command("replay")(cli_care.log_replay)

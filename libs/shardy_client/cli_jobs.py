"""Commands about jobs: jobs, job, cancel, receipt."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from shardy_client import complete
from shardy_client.cli_bars import progress_bar
from shardy_client.cli_common import (
    URL,
    AsJson,
    JobId,
    Key,
    Url,
    ago,
    bounded,
    command,
    entries,
    facts,
    line,
    number,
    one_of,
    operating,
    out,
    print_json,
    table,
    with_mesh,
)
from shardy_client.cli_mesh import show_frauds
from shardy_client.errors import JobFailed
from shardy_client.files import whole_file, writable
from shardy_client.jobs import ENDED
from shardy_client.mesh import AsyncMesh
from shardy_client.progress import Progress


def _percent(status: dict[str, Any]) -> str:
    now = Progress.of(status)
    return f"{100 * now.fraction:.0f}%" if now.cells else ""


@command
def jobs(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(help="How many to list.")] = 20,
    before: Annotated[str | None, typer.Option(help="Only jobs older than this id.", metavar="ID")] = None,
    state: Annotated[
        str | None,
        typer.Option(help="Only those in this state.", autocompletion=complete.among(complete.JOB_STATES)),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Everybody's; needs the operator's key.")] = False,
    as_json: AsJson = False,
    url: Url = URL,
    key: Key = None,
) -> None:
    """List your jobs, newest first.

    JSON: jobs [status], next (for --before, or null).
    """
    bounded("--limit", limit, 500)
    one_of("--state", state, complete.JOB_STATES)
    source = ctx.get_parameter_source("key")
    if all_ and source is not None and source.name != "COMMANDLINE":
        key = None  # SHARDY_KEY is for one's own jobs
    ask = operating if all_ else with_mesh
    answer = ask(url, key, lambda mesh: mesh.jobs(limit, before, state, all_))
    if as_json:
        print_json(answer)
        return
    rows = (
        (
            j.get("id"),
            j.get("kind"),
            j.get("policy"),
            f"waiting: {j['waiting_for']}" if j.get("waiting_for") else j.get("state"),
            _percent(j),
            ago(j.get("created_ms")),
            j.get("label"),
        )
        for j in entries(answer, "jobs")
    )
    empty = "No jobs yet. Submit one: shardy matmul A.npy B.npy -o C.npy"
    table("Jobs", ("id", "kind", "policy", "state", "done", "submitted", "label"), rows, empty)
    if answer.get("next"):
        line(f"older ones: shardy jobs --before {answer['next']}")


@command
def job(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show progress until it ends.")] = False,
    tasks: Annotated[bool, typer.Option("--tasks", help="List its tasks, and who computed them.")] = False,
    as_json: AsJson = False,
    url: Url = URL,
    key: Key = None,
) -> None:
    """Show a job: how far it is, what it waits for, what was verified. Exit code 1 when it failed or was cancelled.

    JSON: the job's status, and tasks [task] with --tasks.
    """

    async def look(mesh: AsyncMesh) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        handle = await mesh.job(job_id)
        if follow and not handle.ended:
            # A failed job's state and reason are shown below, as of any job.
            with progress_bar(job_id, quiet=as_json) as show, suppress(JobFailed):
                await handle.wait(show)
        listed = entries(await mesh.tasks(job_id), "tasks") if tasks else []
        return handle.last, listed

    status, listed = with_mesh(url, key, look)
    if as_json:
        print_json({**status, "tasks": listed} if tasks else status)
    else:
        _show(status, listed, tasks)
    if status["state"] in ENDED and status["state"] != "completed":
        raise typer.Exit(1)


def _show(status: dict[str, Any], listed: list[dict[str, Any]], tasks: bool) -> None:
    now = Progress.of(status)
    parts = ", ".join(
        f"{name} {part.get('dtype')}{list(part.get('shape', []))}"
        for name, part in (status.get("result") or {}).items()
    )
    usage = status.get("usage") or {}
    facts(
        ("job", status["id"]),
        ("kind", f"{status.get('kind')}, policy {status.get('policy')}"),
        ("label", status.get("label")),
        ("state", status["state"] + (f": {status['error']}" if status.get("error") else "")),
        ("waits for", now.waiting_for),
        ("done", f"{now.cells_done:,} of {now.cells:,} elements, {now.tasks_verified} tasks verified"),
        ("active", f"{now.tasks_active} tasks" if now.tasks_active else ""),
        ("result", parts),
        ("usage", f"{number(usage['ops'])} operations verified" if usage.get("ops") else ""),
        ("submitted", ago(status.get("created_ms"))),
        ("receipt", f"shardy receipt {status['id']} -o FILE" if status.get("receipt") else ""),
    )
    show_frauds(status.get("frauds") or [])
    if tasks:
        rows = (
            (
                t.get("id"),
                f"{t.get('row0')}+{t.get('rows')}",
                f"{t.get('col0')}+{t.get('cols')}",
                t.get("state"),
                t.get("method"),
                len(t.get("verified_by") or ()),
                (t.get("digest") or "")[:16],
            )
            for t in listed
        )
        table("Tasks", ("task", "rows", "columns", "state", "method", "workers", "digest"), rows, "No tasks yet.")


@command
def cancel(job_id: JobId, as_json: AsJson = False, url: Url = URL, key: Key = None) -> None:
    """Stop a job.

    JSON: the job's status.
    """

    async def do(mesh: AsyncMesh) -> dict[str, Any]:
        return await (await mesh.job(job_id)).cancel()

    status = with_mesh(url, key, do)
    if as_json:
        print_json(status)
    else:
        line(f"{status.get('id')} is {status.get('state')}")


@command
def receipt(
    job_id: JobId,
    task: Annotated[str | None, typer.Option("--task", help="Of this task alone.", metavar="ID")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Where it goes; else it is printed.", metavar="FILE")
    ] = None,
    as_json: AsJson = False,
    url: Url = URL,
    key: Key = None,
) -> None:
    """Get the mesh's signed receipt of a completed job: what was computed, by whom, and how it was checked.

    Anybody can check it without the mesh: shardy verify FILE.

    JSON: the receipt (statement, signature, tasks), or with -o: file, job.
    """
    saved = None if output is None else writable(output)
    document = with_mesh(url, key, lambda mesh: mesh.receipt(job_id, task))
    text = json.dumps(document, indent=1, ensure_ascii=False)
    if saved is None:
        typer.echo(text)
        return
    with whole_file(saved) as file:
        file.write(text.encode() + b"\n")
    if as_json:
        print_json({"file": str(saved), "job": job_id})
    else:
        out.print(f"wrote {saved}; check it with: shardy verify {saved}", markup=False, highlight=False, soft_wrap=True)

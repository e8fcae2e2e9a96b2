"""Commands that look: jobs, job, cancel, workers, frauds, dlq."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any

import typer

from shardy_client.cli_common import (
    URL,
    AsJson,
    Key,
    Url,
    ago,
    command,
    entries,
    number,
    out,
    print_json,
    progress_bar,
    table,
    with_mesh,
)
from shardy_client.errors import InvalidInput, JobFailed
from shardy_client.jobs import ENDED, Progress

JobId = Annotated[str, typer.Argument(help="The job's id; `shardy jobs` lists them.", metavar="ID")]


def _percent(status: dict[str, Any]) -> str:
    now = Progress.of(status)
    return f"{100 * now.cells_done / now.cells:.0f}%" if now.cells else ""


@command
def jobs(
    limit: Annotated[int, typer.Option(help="How many to list.")] = 20,
    before: Annotated[str | None, typer.Option(help="Only jobs older than this id.", metavar="ID")] = None,
    as_json: AsJson = False,
    url: Url = URL,
    key: Key = None,
) -> None:
    """List your jobs, newest first."""
    if not 1 <= limit <= 500:
        raise InvalidInput(f"--limit is {limit}; 1 to 500 are possible")
    answer = with_mesh(url, key, lambda mesh: mesh.jobs(limit, before))
    if as_json:
        print_json(answer)
        return
    rows = (
        (
            j.get("id"),
            j.get("kind"),
            j.get("policy"),
            j.get("state"),
            _percent(j),
            ago(j.get("created_ms")),
            j.get("label"),
        )
        for j in entries(answer, "jobs")
    )
    empty = "No jobs yet. Submit one: shardy matmul A.npy B.npy -o C.npy"
    table("Jobs", ("id", "kind", "policy", "state", "done", "submitted", "label"), rows, empty)
    if answer.get("next"):
        out.print(f"older ones: shardy jobs --before {answer['next']}", highlight=False)


@command
def job(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show progress until it ends.")] = False,
    tasks: Annotated[bool, typer.Option("--tasks", help="List its tasks, and who computed them.")] = False,
    as_json: AsJson = False,
    url: Url = URL,
    key: Key = None,
) -> None:
    """Show a job. Exit code 1 when it failed or was cancelled."""

    async def look(mesh: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
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
    facts = (
        ("job", status["id"]),
        ("kind", f"{status.get('kind')}, policy {status.get('policy')}"),
        ("label", status.get("label")),
        ("state", status["state"] + (f": {status['error']}" if status.get("error") else "")),
        ("done", f"{now.cells_done:,} of {now.cells:,} elements, {now.tasks_verified} tasks verified"),
        ("active", f"{now.tasks_active} tasks" if now.tasks_active else ""),
        ("result", parts),
        ("submitted", ago(status.get("created_ms"))),
    )
    for name, value in facts:
        if value:
            out.print(f"{name:>10}  {value}", highlight=False, markup=False, soft_wrap=True)
    frauds_of(status.get("frauds") or [])
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


def frauds_of(frauds: list[dict[str, Any]]) -> None:
    """A table of proven wrong results."""
    rows = (
        (f.get("name"), (f.get("worker") or "")[:16], f.get("task"), f.get("method"), f.get("row"), ago(f.get("at_ms")))
        for f in frauds
    )
    if frauds:
        table("Wrong results, proven", ("name", "worker", "task", "method", "row", "when"), rows, "")


@command
def cancel(job_id: JobId, as_json: AsJson = False, url: Url = URL, key: Key = None) -> None:
    """Stop a job."""

    async def do(mesh: Any) -> dict[str, Any]:
        return await (await mesh.job(job_id)).cancel()

    status = with_mesh(url, key, do)
    if as_json:
        print_json(status)
    else:
        out.print(f"{status.get('id')} is {status.get('state')}", highlight=False)


@command
def workers(
    all_: Annotated[bool, typer.Option("--all", help="Also those that have left.")] = False,
    as_json: AsJson = False,
    url: Url = URL,
    key: Key = None,
) -> None:
    """List the devices of the mesh: what they compute with, how fast, and how much was verified."""
    answer = with_mesh(url, key, lambda mesh: mesh.listing("workers"))
    if as_json:
        print_json(answer)
        return
    rows = (
        (
            w.get("name"),
            (w.get("id") or "")[-12:],
            "banned" if w.get("banned") else w.get("tier") if w.get("present") else "left",
            w.get("backend"),
            w.get("gpu"),
            w.get("gops"),
            w.get("memory_mib"),
            w.get("tasks_verified"),
            number(w.get("ops_verified") or 0),
            ago(w.get("joined_ms")),
        )
        for w in entries(answer, "workers")
        if all_ or w.get("present")
    )
    columns = ("name", "id", "tier", "backend", "adapter", "GOPS", "MiB", "verified", "operations", "joined")
    table("Workers", columns, rows, "No workers. Open the mesh's page in a browser, or run: shardy worker")


@command
def frauds(as_json: AsJson = False, url: Url = URL, key: Key = None) -> None:
    """List results that were proven wrong, and who sent them."""
    answer = with_mesh(url, key, lambda mesh: mesh.listing("frauds"))
    if as_json:
        print_json(answer)
        return
    found = entries(answer, "frauds")
    frauds_of(found)
    if not found:
        out.print("No wrong result was ever proven.")


@command
def dlq(as_json: AsJson = False, url: Url = URL, key: Key = None) -> None:
    """List what the mesh could not deal with: its dead letters, with cause and evidence."""
    answer = with_mesh(url, key, lambda mesh: mesh.listing("dlq"))
    if as_json:
        print_json(answer)
        return
    rows = (
        (e.get("entry"), e.get("cause"), e.get("subject"), ago(e.get("at_ms")), e.get("evidence"))
        for e in entries(answer, "entries")
    )
    table("Dead letters", ("entry", "cause", "subject", "when", "evidence"), rows, "No dead letters.")

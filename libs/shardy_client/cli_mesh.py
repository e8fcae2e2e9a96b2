"""Commands about the mesh's devices: workers, frauds, credit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from shardy_client import complete
from shardy_client.cli_common import (
    URL,
    AsJson,
    Key,
    Url,
    ago,
    bounded,
    command,
    entries,
    facts,
    line,
    number,
    print_json,
    table,
    with_mesh,
)
from shardy_client.errors import InvalidInput
from shardy_client.files import writable
from shardy_client.mesh import AsyncMesh

RECORD = ("accepted", "late", "lost", "failed", "malformed")


@command
def workers(
    worker_id: Annotated[
        str | None,
        typer.Argument(
            help="Show this device alone, with its record and the evidence against it.",
            metavar="[ID]",
            autocompletion=complete.worker_ids,
        ),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Also those that have left.")] = False,
    limit: Annotated[int, typer.Option(help="How many to list.")] = 100,
    after: Annotated[str | None, typer.Option(help="Those that follow this one.", metavar="ID")] = None,
    as_json: AsJson = False,
    url: Url = URL,
    key: Key = None,
) -> None:
    """List the devices of the mesh: what they compute with, how fast, and how much was verified.

    JSON: workers [worker], next (for --after, or null); with an ID: the worker, with trust, credit, record and frauds.
    """
    bounded("--limit", limit, 1_000)
    if worker_id is not None:
        one = with_mesh(url, key, lambda mesh: mesh.worker(worker_id))
        print_json(one) if as_json else _show(one)
        return
    answer = with_mesh(url, key, lambda mesh: mesh.workers(limit, after, None if all_ else True))
    if as_json:
        print_json(answer)
        return
    rows = (
        (
            w.get("name"),
            w.get("id"),
            _standing(w),
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
    if answer.get("next"):
        line(f"more: shardy workers --after {answer['next']}")


def _standing(w: dict[str, Any]) -> Any:
    return "banned" if w.get("banned") else w.get("tier") if w.get("present") else "left"


def _show(w: dict[str, Any]) -> None:
    record = w.get("record") or {}
    facts(
        ("worker", w.get("id")),
        ("name", w.get("name")),
        ("tier", _standing(w)),
        ("computes", f"{w.get('backend')} {w.get('gpu') or ''}, {w.get('gops')} GOPS, {w.get('memory_mib')} MiB"),
        ("verified", f"{w.get('tasks_verified')} tasks, {number(w.get('ops_verified') or 0)} operations"),
        ("credit", w.get("credit")),
        ("record", ", ".join(f"{record[name]} {name}" for name in RECORD if record.get(name))),
        ("trust", _flat(w.get("trust"))),
        ("joined", ago(w.get("joined_ms"))),
    )
    show_frauds(w.get("frauds") or [])


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    return "" if value is None else str(value)


def show_frauds(frauds: list[dict[str, Any]]) -> None:
    """A table of proven wrong results."""
    rows = (
        (f.get("name"), f.get("worker"), f.get("task"), f.get("method"), f.get("row"), ago(f.get("at_ms")))
        for f in frauds
    )
    if frauds:
        table("Wrong results, proven", ("name", "worker", "task", "method", "row", "when"), rows, "")


@command
def frauds(
    limit: Annotated[int, typer.Option(help="How many to list.")] = 100,
    before: Annotated[str | None, typer.Option(help="Older ones: what `next` said.", metavar="ID")] = None,
    as_json: AsJson = False,
    url: Url = URL,
    key: Key = None,
) -> None:
    """List results that were proven wrong, and who sent them.

    JSON: frauds [fraud], next (for --before, or null).
    """
    bounded("--limit", limit, 1_000)
    answer = with_mesh(url, key, lambda mesh: mesh.frauds(limit, before))
    if as_json:
        print_json(answer)
        return
    found = entries(answer, "frauds")
    show_frauds(found)
    if not found:
        line("No wrong result was ever proven.")
    if answer.get("next"):
        line(f"older ones: shardy frauds --before {answer['next']}")


@command
def credit(
    worker: Annotated[
        str | None,
        typer.Option(
            "--worker",
            help="The ledger's entries of this device.",
            metavar="ID",
            autocompletion=complete.worker_ids,
        ),
    ] = None,
    export: Annotated[
        Path | None, typer.Option("--export", help="Write the whole ledger as CSV.", metavar="FILE")
    ] = None,
    limit: Annotated[int, typer.Option(help="How many to list.")] = 100,
    after: Annotated[str | None, typer.Option(help="Those that follow: what `next` said.", metavar="ID")] = None,
    as_json: AsJson = False,
    url: Url = URL,
    key: Key = None,
) -> None:
    """Show who computed how much, and what your own jobs used: one credit is 10⁹ verified operations.

    JSON: workers [worker, name, tasks, ops, credit], total, used, next; with --worker: entries [seq, at_ms, worker,
    task, job, ops, method], next; with --export: file, bytes.
    """
    bounded("--limit", limit, 1_000)
    if export is not None:
        if worker is not None:
            raise InvalidInput("--export writes the whole ledger: leave --worker out, and filter the file")
        size = with_mesh(url, key, lambda mesh: mesh.export_credit(writable(export)))
        print_json({"file": str(export), "bytes": size}) if as_json else line(f"wrote {export} ({size:,} bytes)")
        return
    if worker is not None:
        place = None if after is None else _seq(after)
        answer = with_mesh(url, key, lambda mesh: mesh.ledger(worker, None, place, limit))
    else:

        async def total(mesh: AsyncMesh) -> dict[str, Any]:
            return await mesh.credit(limit, after)

        answer = with_mesh(url, key, total)
    if as_json:
        print_json(answer)
    elif worker is not None:
        rows = ((e.get("seq"), ago(e.get("at_ms")), e.get("task"), e.get("ops"), e.get("method"))
                for e in entries(answer, "entries"))  # fmt: skip
        table("Ledger", ("entry", "when", "task", "operations", "method"), rows, "No work of this device is verified.")
    else:
        _show_credit(answer)
    if not as_json and answer.get("next") is not None:
        which = f" --worker {worker}" if worker else ""
        line(f"more: shardy credit{which} --after {answer['next']}")


def _show_credit(answer: dict[str, Any]) -> None:
    rows = [
        (w.get("name"), w.get("worker"), w.get("tasks"), number(w.get("ops") or 0), w.get("credit"))
        for w in entries(answer, "workers")
    ]
    table("Credit", ("name", "worker", "tasks", "operations", "credit"), rows, "Nothing was verified yet.")
    if rows:
        for of, name in (("in all", "total"), ("your jobs", "used")):
            found = answer.get(name) or {}
            ops = number(found.get("ops") or 0)
            line(f"{of}: {found.get('tasks')} tasks, {ops} operations, {found.get('credit')}")


def _seq(text: str) -> int:
    if not text.isdigit():
        raise InvalidInput(f"--after is {text!r}; with --worker it is an entry's number")
    return int(text)

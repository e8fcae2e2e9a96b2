"""What the demonstration prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shardy_client.cli_common import number


def own_name(entry: dict[str, Any]) -> str:
    """The name of a worker or of a fraud's author: the mesh knows agents as program/version and name."""
    return str(entry.get("name", "")).split(" ", 1)[-1]


def nearest(console: Console, words: list[str], found: list[list[tuple[str, float]]]) -> None:
    """A table: each word and its nearest tokens with their cosine."""
    table = Table(title="Nearest words, from the mesh's exact integers", title_justify="left", header_style="bold")
    table.add_column("word", style="bold")
    for rank in ("1st", "2nd", "3rd", "4th", "5th"):
        table.add_column(rank)
    for word, near in zip(words, found, strict=True):
        table.add_row(escape(word), *(f"{escape(token)} [dim]{cosine:.2f}[/]" for token, cosine in near))
    console.print(table)


def computed(console: Console, workers: Iterable[dict[str, Any]], tasks: list[dict[str, Any]]) -> None:
    """A table: who computed how much of the result."""
    shares: Counter[str] = Counter()
    cells: Counter[str] = Counter()
    for task in tasks:
        for worker in task.get("verified_by") or ():
            shares[worker] += 1
            cells[worker] += task["rows"] * task["cols"]
    table = Table(title="Who computed", title_justify="left", header_style="bold")
    for column in ("worker", "device", "GOPS", "tasks verified", "elements verified", ""):
        table.add_column(column)
    for worker in sorted(workers, key=lambda w: -cells[w["id"]]):
        device = f"{worker['backend']} {worker.get('gpu') or ''}".strip()
        table.add_row(
            escape(own_name(worker)),
            escape(device),
            f"{worker['gops']:.1f}",
            str(shares[worker["id"]]),
            number(cells[worker["id"]]),
            "[red]banned[/]" if worker["banned"] else "",
        )
    console.print(table)


def caught(console: Console, frauds: list[dict[str, Any]]) -> None:
    """A line for each proven wrong result."""
    for fraud in frauds:
        bound = f", {fraud['rounds']} rounds" if fraud.get("rounds") else ""
        console.print(
            f"[bold red]caught[/] {escape(own_name(fraud))}: wrong row {fraud['row']} of task {fraud['task']}"
            f" (by {fraud['method']}{bound})",
            highlight=False,
        )


def timing(console: Console, text: str, seconds: float, ops: float, exact: bool) -> None:
    """A line: what was computed, how long it took, and whether every byte is right."""
    verdict = "[green]every byte equals NumPy's[/]" if exact else "[bold red]bytes differ from NumPy's[/]"
    console.print(f"{text}: {seconds:.2f} s, {number(ops / seconds)} operations a second; {verdict}", highlight=False)

"""What every command shares: options, errors as one line with an exit code, tables, progress bars."""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from shardy_client.errors import ShardyError
from shardy_client.jobs import OnProgress
from shardy_client.jobs import Progress as JobProgress
from shardy_client.mesh import AsyncMesh
from shardy_client.transport import DEFAULT_URL

P = ParamSpec("P")
T = TypeVar("T")

INTERRUPTED = 130

out = Console()
err = Console(stderr=True)

Url = Annotated[
    str,
    typer.Option("--url", envvar="SHARDY_URL", help="Where the mesh is.", rich_help_panel="Connection"),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        envvar="SHARDY_KEY",
        help="API key. Without it, .data/api_key is read: a mesh started in this folder keeps its key there.",
        show_default=False,
        rich_help_panel="Connection",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the mesh's answer as JSON, for other programs.")]
URL = DEFAULT_URL


def command(function: Callable[P, T]) -> Callable[P, T]:
    """Turn the client's errors into one line on standard error and their exit code; no traces."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except ShardyError as error:
            err.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # The reader of a pipe (head, less) has seen enough.
            raise typer.Exit(0) from None

    return wrapped


def with_mesh(url: str, key: str | None, do: Callable[[AsyncMesh], Coroutine[Any, Any, T]]) -> T:
    """Run `do` with a mesh client."""

    async def main() -> T:
        async with AsyncMesh(url, key) as mesh:
            return await do(mesh)

    return asyncio.run(main())


def print_json(value: Any) -> None:
    """As JSON on standard output, plain."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[Any]], empty: str) -> None:
    """Print a table, or a sentence when there is nothing to show."""
    rows = [["" if cell is None else escape(str(cell)) for cell in row] for row in rows]
    if not rows:
        out.print(empty)
        return
    shown = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*row)
    out.print(shown)


def entries(answer: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The list that an answer holds under `name`, or under its only key."""
    value = answer.get(name)
    if value is None and len(answer) == 1:
        value = next(iter(answer.values()))
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def ago(ms: Any) -> str:
    """How long ago a time in Unix milliseconds was."""
    if not isinstance(ms, int | float) or ms <= 0:
        return ""
    seconds = max(0.0, time.time() - ms / 1000)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def number(value: float) -> str:
    """With an SI letter: 12.3 M."""
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f}"


class _Rate(ProgressColumn):
    """Elements a second."""

    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        return Text(f"{number(rate)}/s" if rate else "", style="cyan")


@contextmanager
def progress_bar(text: str, quiet: bool = False) -> Iterator[OnProgress]:
    """A bar with rate and time left on standard error; the callable to give to `wait`."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, console=err, disable=quiet, transient=not err.is_terminal) as bar:
        task = bar.add_task(text, total=None, state="")

        def show(now: JobProgress) -> None:
            note = f"waiting: {now.waiting_for}" if now.waiting_for else now.state
            if now.frauds:
                note += f", {now.frauds} wrong result{'s' if now.frauds > 1 else ''} caught"
            bar.update(task, completed=now.cells_done, total=now.cells or None, state=note)

        yield show

"""What every command shares: options, errors as one line with an exit code, tables."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from shardy_client import complete
from shardy_client.errors import InvalidInput, ShardyError
from shardy_client.mesh import AsyncMesh
from shardy_client.transport import DEFAULT_URL, operator_key

P = ParamSpec("P")
T = TypeVar("T")

INTERRUPTED = 130
# The base of what the command line's own parser raises; typer brings its own copy of it from some version on.
USAGE_ERROR: type[Any] = typer.BadParameter.__mro__[2]

out = Console()
err = Console(stderr=True)

Url = Annotated[
    str,
    typer.Option(
        "--url",
        envvar="SHARDY_URL",
        help="Where the mesh is; several gateways with commas between.",
        rich_help_panel="Connection",
    ),
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
OperatorKey = Annotated[
    str | None,
    typer.Option(
        "--key",
        envvar=["SHARDY_OPERATOR_KEY", "SHARDY_KEY"],
        help="API key that may operate. Without it, .data/operator_key is read.",
        show_default=False,
        rich_help_panel="Connection",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, for other programs.")]
DataDir = Annotated[
    Path,
    typer.Option("--data-dir", envvar="SHARDY_DATA_DIR", help="Where the mesh keeps its log, blobs and keys."),
]
JobId = Annotated[
    str,
    typer.Argument(help="The job's id; `shardy jobs` lists them.", metavar="ID", autocompletion=complete.job_ids),
]
URL = DEFAULT_URL


class OneLineErrors(TyperGroup):
    """Wrong usage is one line too, as every other error."""

    def main(self, *args: Any, standalone_mode: bool = True, **more: Any) -> Any:
        more["standalone_mode"] = False
        if not standalone_mode:
            return super().main(*args, **more)
        try:
            code = super().main(*args, **more)
        except typer.Abort:
            sys.exit(INTERRUPTED)
        except USAGE_ERROR as error:
            if type(error).__name__ == "NoArgsIsHelpError":
                error.show()  # the help itself
            else:
                context = getattr(error, "ctx", None)
                hint = f" (see: {context.command_path} --help)" if context is not None else ""
                complain(" ".join(error.format_message().split()).removesuffix(".") + hint)
            sys.exit(error.exit_code)
        sys.exit(code if isinstance(code, int) else 0)


def complain(message: str) -> None:
    """The one line of an error."""
    err.print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)


def command(function: Callable[P, T]) -> Callable[P, T]:
    """Turn the client's errors into one line on standard error and their exit code; no traces."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except ShardyError as error:
            complain(str(error))
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            _quiet_pipe()
        except (typer.Exit, typer.Abort, USAGE_ERROR):
            raise
        except Exception as error:
            if os.environ.get("SHARDY_DEBUG"):
                raise
            complain(
                f"this is a defect of shardy, please report it: {type(error).__name__}: {error}"
                " (SHARDY_DEBUG=1 shows where)"
            )
            raise typer.Exit(1) from None

    return wrapped


def _quiet_pipe() -> NoReturn:
    # The reader of a pipe (head, less) has seen enough; what is still buffered must not complain at the exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise typer.Exit(0) from None


def with_mesh(url: str, key: str | None, do: Callable[[AsyncMesh], Coroutine[Any, Any, T]]) -> T:
    """Run `do` with a mesh client."""

    async def main() -> T:
        async with AsyncMesh(url, key) as mesh:
            return await do(mesh)

    return asyncio.run(main())


def operating(url: str, key: str | None, do: Callable[[AsyncMesh], Coroutine[Any, Any, T]]) -> T:
    """Run `do` with the operator's key."""
    return with_mesh(url, operator_key() if key is None else key, do)


def bounded(name: str, value: int, most: int) -> int:
    """`value`, if it is 1 to `most`."""
    if not 1 <= value <= most:
        raise InvalidInput(f"{name} is {value}; 1 to {most:,} are possible")
    return value


def one_of(name: str, value: str | None, possible: Iterable[str]) -> str | None:
    """`value`, if it is one of these, or none."""
    if value is not None and value not in possible:
        raise InvalidInput(f"{name} is {value!r}; use {', '.join(possible)}")
    return value


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


def facts(*pairs: tuple[str, Any]) -> None:
    """Print names and values, a line each; those without a value are left out."""
    for name, value in pairs:
        if value not in (None, ""):
            out.print(f"{name:>10}  {value}", highlight=False, markup=False, soft_wrap=True)


def line(text: str) -> None:
    """Print a line as it is, however long."""
    out.print(text, highlight=False, markup=False, soft_wrap=True)


def entries(answer: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The list that an answer holds under `name`."""
    value = answer.get(name)
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

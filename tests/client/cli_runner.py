"""The command line in this process. Its commands are built once: that takes longer than most of them run."""

from __future__ import annotations

from functools import cache
from typing import Any

import typer.testing
from typer.main import get_command

from shardy_client.cli import app

COMMAND: Any = get_command(app)
typer.testing._get_command = cache(get_command)  # type: ignore[attr-defined]


def invoke(*arguments: object) -> typer.testing.Result:
    return typer.testing.CliRunner().invoke(app, [*map(str, arguments)])

"""`shardy log`: the events of a mesh, listed, followed, and told as the story of a task."""

from __future__ import annotations

import typer

from shardy_client import cli_care

log = typer.Typer(invoke_without_command=True, help="Look at the event log, and look after it. Alone, lists events.")
log.command("archive")(cli_care.log_archive)
log.command("archives")(cli_care.log_archives)
log.command("verify")(cli_care.log_verify)
log.command("restore")(cli_care.log_restore)
log.command("replay")(cli_care.log_replay)
